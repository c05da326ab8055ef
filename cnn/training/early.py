"""Everything about a config that can be checked before its data are read: one pass that names all that is wrong."""

from cnn import nets
from cnn.runs import config as config_lib
from cnn.runs import ranges, together
from cnn.runs.config import Config
from cnn.runtime import own_code


def check(config: Config, workdir: str | None = None, *, given: bool = False) -> None:
    """Checks a config before data are read, anything is compiled or a workdir is begun.

    Args:
      config: the config of a run.
      workdir: directory of the run, which is not made; None: it has none.
      given: whether the data are given in memory.

    Raises:
      ValueError: if something is wrong; one line that names all of it.
    """
    wrong = ranges.problems(config) + together.problems(config, given=given)
    if not any(text.startswith("net.") for text in wrong):
        wrong += _net(config)
    if workdir is not None:
        try:
            config_lib.check_workdir(workdir)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(wrong))


def _net(config: Config) -> list[str]:
    """What is wrong with the net by its name and options; one of the user's own is built when its data are there."""
    name = config.net.name
    if own_code.is_reference(name):
        try:
            own_code.source_file(name)
        except ValueError as error:
            return [str(error)]
        return []
    if name == "layers" and not config.net.options.get("layers") and config.train.get("initial_run"):
        return []  # the layers are those of the other run
    try:
        net = nets.create(
            name, config.net.num_classes, output_activation=config.net.get("output_activation"), **config.net.options
        )
        nets.from_config(nets.to_config(net))  # which looks at the fields of each layer
    except ValueError as error:
        return [" ".join(str(error).replace(" cannot be written in a record; ", " must be ").split())]
    return []
