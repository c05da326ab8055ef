"""The declaration of a study: a question, cells that differ in a few fields of one config, and what is measured."""

import copy
import dataclasses
import functools
import importlib
import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from cnn import data, geometry
from cnn.runs import checkpoint, ranges
from cnn.runs.config import CODE_FIELDS, Config
from cnn.runs.overrides import override
from cnn.runtime import own_code
from cnn.training import checks, steps
from cnn.training.optimizer import for_net
from cnn.training.steps import total_steps
from experiments import studies

TEST = "test accuracy"


class Outcome(NamedTuple):
    """A number that every seed of every cell ends in.

    Attributes:
      name: its heading in tables.
      unit: "points" for fractions that are shown as percentages; else the unit, "" for none.
      higher_is_better: whether higher values are better; None where neither is.
    """

    name: str
    unit: str = "points"
    higher_is_better: bool | None = True


class Measure(NamedTuple):
    """Something to measure on each trained net beside its test accuracy.

    Attributes:
      outcomes: what it gives.
      function: `experiments.ablation.measures.Trained` -> {outcome's name: number}.
    """

    outcomes: tuple[Outcome, ...]
    function: Callable[[Any], Mapping[str, float]]

    def described(self) -> str:
        """What it is, with its numbers, in words that differ where it does."""
        function: Any = getattr(self.function, "func", self.function)  # of a functools.partial
        given = ", ".join(f"{name}={value!r}" for name, value in getattr(self.function, "keywords", {}).items())
        return f"{function.__name__}({given})"


class Contrast(NamedTuple):
    """A comparison beside that of every cell with the baseline: paired over seeds.

    Attributes:
      first, second: (cell, outcome's name); the difference is the first less the second.
    """

    first: tuple[str, str]
    second: tuple[str, str]


class Series(NamedTuple):
    """Outcomes that are points of one curve, to be drawn as one line for each cell.

    Attributes:
      xlabel, ylabel: names of the plot's axes.
      points: place on the x axis -> outcome's name.
    """

    xlabel: str
    ylabel: str
    points: Mapping[int, str]


@dataclasses.dataclass(frozen=True)
class Study:
    """A study, declared.

    Attributes:
      question: one sentence.
      cells: name -> fields that it changes, as `--config.FIELD` would; "net.options" replaces all options.
      baseline: the cell that all others are compared with.
      base: config file that the cells start from.
      shared: fields that all cells change.
      tune: field -> values, tried in each cell on seeds of their own; the one with the best mean validation accuracy is
        taken, and nothing else of the tried runs.
      measures: what is measured beside test accuracy.
      compared: names of the outcomes that cells are compared with the baseline in.
      contrasts: further comparisons.
      series: what to draw as curves.
      notes: what was scaled down, and what a reader has to know.
      seeds: number of seeds in the committed results.
    """

    question: str
    cells: Mapping[str, Mapping[str, Any]]
    baseline: str
    base: str = "configs/ablation.py"
    shared: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tune: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    measures: tuple[Measure, ...] = ()
    compared: tuple[str, ...] = (TEST,)
    contrasts: tuple[Contrast, ...] = ()
    series: tuple[Series, ...] = ()
    notes: str = ""
    seeds: int = 6

    def __post_init__(self) -> None:
        if self.baseline not in self.cells:
            raise ValueError(f"baseline {self.baseline!r} is none of the cells {', '.join(self.cells)}")
        if len(self.tune) > 1:
            raise ValueError(f"tune names {len(self.tune)} fields ({', '.join(self.tune)}); one can be tuned")
        known = [outcome.name for outcome in self.outcomes]
        wanted = [*self.compared, *(side[1] for contrast in self.contrasts for side in contrast)]
        wanted += [name for series in self.series for name in series.points.values()]
        for name in wanted:
            if name not in known:
                raise ValueError(f"{name!r} is measured by nothing; outcomes: {', '.join(known)}")
        for cell in (side[0] for contrast in self.contrasts for side in contrast):
            if cell not in self.cells:
                raise ValueError(f"a contrast names {cell!r}, which is none of the cells {', '.join(self.cells)}")

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """All of them, test accuracy first."""
        return (Outcome(TEST), *(outcome for measure in self.measures for outcome in measure.outcomes))

    @property
    def comparisons(self) -> tuple[Contrast, ...]:
        """All of them: the family that p-values are corrected over."""
        others = [cell for cell in self.cells if cell != self.baseline]
        pairs = [Contrast((cell, name), (self.baseline, name)) for name in self.compared for cell in others]
        return (*pairs, *self.contrasts)


def names() -> list[str]:
    """Names of all studies, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(studies.__path__))


def stem(name: str) -> str:
    """The name of a study without folder and ".py", as its results are titled.

    Args:
      name: name of a study, or path of its file.

    Returns:
      "my_study" for "elsewhere/my_study.py".
    """
    return os.path.basename(name).removesuffix(".py")


def load(name: str) -> Study:
    """Loads a study.

    Args:
      name: one of `names()`, or path of a Python file of the user's own that sets STUDY; it is executed.

    Returns:
      The study.

    Raises:
      ValueError: if there is none (says which are near), or the file fails or sets no STUDY.
    """
    if name in names():
        return importlib.import_module(f"experiments.studies.{name}").STUDY
    if not name.endswith(".py"):
        near = own_code.did_you_mean(name, names(), "studies:")
        raise ValueError(f"--study={name}: there is no such study{near}")
    if not os.path.isfile(name):
        raise ValueError(f"--study={name}: there is no such file")
    try:
        found = getattr(own_code.load_file(name), "STUDY", None)
    except Exception as error:
        raise ValueError(f"--study={own_code.describe(error, os.path.abspath(name))}") from error
    if not isinstance(found, Study):
        raise ValueError(f"--study={name}: the file must set STUDY = Study(...), of experiments.ablation.study")
    return found


def cell_config(study: Study, cell: str, base: Config, overrides: Mapping[str, Any], **further: Any) -> Config:
    """The config of a cell.

    Args:
      study: the study.
      cell: name of one of its cells.
      base: the config that the study starts from.
      overrides: what the user set, by field: wins over `study.shared`.
      **further: nothing, or a tuned field and its value, as {field: value}.

    Returns:
      A config of its own.

    Raises:
      ValueError: if the user set a field that the study varies, or for an unknown field; names the nearest.
    """
    own = {**study.cells[cell], **further}
    varied = {field for fields in study.cells.values() for field in fields} | set(study.tune)
    for field in overrides:
        if field in varied:
            raise ValueError(f"--config.{field}: this study varies it; leave it, or take another study")
    config = copy.deepcopy(base)
    for fields in (study.shared, overrides, own):
        override(config, fields)
    for field in CODE_FIELDS:  # one content of the user's code for the whole study, wherever its cells run
        group, name = field.split(".")
        if own_code.is_reference(config[group][name]):
            config[group][name] = own_code.pinned(config[group][name])
    return config


def check(
    config: Config, image_shape: tuple[int, int, int], num_classes: int, examples: int
) -> tuple[geometry.Table, int]:
    """Builds a cell's net and step without computing: a mistake in the last cell shows before the first is trained.

    Args:
      config: config of the cell.
      image_shape: (H, W, C).
      num_classes: number of classes in the data.
      examples: for training.

    Returns:
      The net's layers, and the run's length in steps.

    Raises:
      ValueError: if a field is out of range, or the net cannot be built.
    """
    ranges.check(config)
    net = checkpoint.make_net(config, num_classes)
    table = checks.check_net(config, net, image_shape, num_classes)
    total = total_steps(config.train, examples)
    optimizer = for_net(config.train, table, total)[1]
    checks.check_step(config, net, optimizer, image_shape, examples)
    jax.eval_shape(lambda: steps.init_state(net, optimizer, image_shape, 0))
    return table, total


def load_data(config: Config) -> data.Dataset:
    """The data of a config; the sets read last are kept, because the cells of a study share them.

    Args:
      config: config of a cell.

    Returns:
      The data set.

    Raises:
      DataError: if it is missing.
    """
    fields = config.data.to_dict()
    count = fields.pop("train_examples")
    whole = _load(tuple(sorted(fields.items())))
    return whole if count is None else data.subset(whole, count)


@functools.lru_cache(maxsize=2)
def _load(fields: tuple[tuple[str, Any], ...]) -> data.Dataset:
    return data.load(**dict(fields))
