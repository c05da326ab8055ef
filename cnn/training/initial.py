"""Starting from another run: layers of equal name and shape begin with its weights, all others as usual."""

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn import nets
from cnn.data import Dataset
from cnn.runs import checkpoint
from cnn.runs.checkpoint import Run
from cnn.runs.config import Config
from cnn.training.steps import State
from cnn.windows import shape_text


class Start(NamedTuple):
    """What a run began with, where that is another run.

    Attributes:
      run: absolute path of the other run.
      step: the step of its checkpoint.
      taken: names of the layers whose variables were taken.
      initialised: for each other layer with variables, why it was initialised as usual.
      classes: how the classes of the other run differ, in a line; "" if they do not.
    """

    run: str
    step: int
    taken: tuple[str, ...]
    initialised: dict[str, str]
    classes: str = ""

    def __str__(self) -> str:
        others = "; ".join(f"{name}: {why}" for name, why in self.initialised.items())
        others = f"; initialised as usual: {others}" if others else ", which are all layers with parameters"
        classes = f"; {self.classes}" if self.classes else ""
        return f"started from {self.run} at step {self.step:,}: {', '.join(self.taken)}{others}{classes}"


def load(initial_run: str, workdir: str | None = None) -> Run | None:
    """Loads the run that another one is to start from.

    Args:
      initial_run: `train.initial_run`, the directory of a run; "" for none.
      workdir: directory of the run that starts; None if it has none.

    Returns:
      The other run at its latest checkpoint, which is only read; None if there is to be none.

    Raises:
      ValueError: if it is no run, has no checkpoint, is damaged, or is the run that starts.
    """
    if not initial_run:
        return None
    path = _directory(initial_run)
    if workdir and os.path.realpath(path) == os.path.realpath(os.path.expanduser(workdir)):
        raise ValueError(f"train.initial_run (={initial_run!r}) is the run's own directory; choose another --workdir")
    return _load(initial_run)


def with_layers(config: Config) -> Config:
    """A config whose net is the other run's, where it asks for layers and names none.

    Args:
      config: the config of a run.

    Returns:
      The config; with net.name "layers", no net.options.layers and a `train.initial_run`, a copy with the layers and
      the output activation of that run.

    Raises:
      ValueError: if that is no run.
    """
    initial_run = config.train.get("initial_run", "")
    if config.net.name != "layers" or config.net.options.get("layers") or not initial_run:
        return config
    net = _load(initial_run).net
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.net.options.layers = nets.to_config(net)
        config.net.output_activation = net.output_activation
    return config


def prepared(config: Config, dataset: Dataset) -> tuple[Config, Dataset]:
    """What a run that starts from another one trains: `with_layers` and `normalised_as` together.

    Args:
      config: the config of a run; without `train.initial_run`, nothing is changed.
      dataset: its data.

    Returns:
      (config, data set).

    Raises:
      ValueError: if the other run is none.
    """
    other = load(config.train.get("initial_run", ""))
    return (with_layers(config), normalised_as(dataset, other)) if other else (config, dataset)


def normalised_as(dataset: Dataset, run: Run) -> Dataset:
    """A data set whose images are normalised as another run's were: its weights were trained for that.

    Args:
      dataset: the data set.
      run: the other run.

    Returns:
      The data set with the run's mean and std; as it is where the images have another number of channels.
    """
    if len(run.mean) != len(dataset.mean) or (run.mean, run.std) == (dataset.mean, dataset.std):
        return dataset
    mean, std = ([round(float(x), 4) for x in values] for values in (run.mean, run.std))
    print(f"images are normalised as those of {run.workdir}: mean {mean}, std {std}", flush=True)
    return dataclasses.replace(dataset, mean=tuple(run.mean), std=tuple(run.std))


def begin(state: State, run: Run, class_names: Sequence[str] = ()) -> tuple[State, Start]:
    """The state before the first step, with what fits of another run's variables.

    A layer is taken whole, running statistics of batch normalisation included, or not at all.

    Args:
      state: the state before the first step, as initialised.
      run: the other run.
      class_names: names of the classes of the run that starts; () if they are not known. A score belongs to the class
        at its place, not to one of the same name: where the names or their order differ, what was taken says so.

    Returns:
      The state, and what was taken.

    Raises:
      ValueError: if no layer fits; says why for each.
    """
    own, other = _layers(state.variables), _layers(run.variables)
    why = {name: _difference(arrays, other.get(name)) for name, arrays in own.items()}
    taken = tuple(name for name, text in why.items() if not text)
    rest = {name: text for name, text in why.items() if text}
    if not taken:
        reasons = "; ".join(f"{name}: {text}" for name, text in rest.items())
        raise ValueError(
            f"train.initial_run (={run.workdir!r}): none of its layers has the name and the shapes of a layer of this "
            f"net: {reasons}. Name a run of a similar net, or leave the field out"
        )

    def mixed(path: Any, leaf: Any) -> Any:
        return other[path[1].key][jax.tree_util.keystr((path[0], *path[2:]))] if path[1].key in taken else leaf

    variables = jax.tree_util.tree_map_with_path(mixed, state.variables)
    params = variables.pop("params")
    # The optimiser starts at zero whatever the parameters are.
    start = Start(run.workdir, run.step, taken, rest, _classes(run.class_names, class_names))
    return state._replace(params=params, statistics=variables), start


def _classes(there: Sequence[str] | None, here: Sequence[str]) -> str:
    """How the classes of the other run differ from those of this one; "" if they do not, or if either has no names."""
    there, here = tuple(name for name in there or () if not name.endswith(" (unnamed)")), tuple(here)
    if not there or not here or there == here:
        return ""
    what = "the same classes in another order" if sorted(there) == sorted(here) else "other classes"
    place, (old, new) = next(
        (i, pair) for i, pair in enumerate(itertools.zip_longest(there, here)) if pair[0] != pair[1]
    )
    return (
        f"that run has {what}: score {place} was {'none' if old is None else repr(old)} and is "
        f"{'none' if new is None else repr(new)} here; weights of scores keep their places"
    )


def _directory(initial_run: str) -> str:
    return os.path.abspath(os.path.expanduser(initial_run))


def _load(initial_run: str) -> Run:
    try:
        return checkpoint.load_run(_directory(initial_run))
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"train.initial_run (={initial_run!r}): {error}") from error


def _layers(variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The arrays of each layer by their place in it, parameters and statistics together."""
    found: dict[str, dict[str, Any]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(dict(variables))[0]:
        found.setdefault(path[1].key, {})[jax.tree_util.keystr((path[0], *path[2:]))] = leaf
    return found


def _difference(own: Mapping[str, Any], other: Mapping[str, Any] | None) -> str:
    """Why a layer of another run does not fit; "" if it does."""
    if other is None:
        return "no layer of that name there"
    if set(own) != set(other):
        return "other variables there"
    differ = [name for name in own if np.shape(own[name]) != np.shape(other[name])]
    if not differ:
        return ""
    shown = max(differ, key=lambda name: np.ndim(own[name]))  # the kernel says more than the bias
    there, here = (shape_text(np.shape(arrays[shown])) for arrays in (other, own))
    return f"{there} there and {here} here"
