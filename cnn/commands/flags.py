"""Flags that several commands have, each defined here once; a command calls the functions for those it takes."""

import ast
import copy
import math
import os
import re
from typing import Any

from absl import flags
from ml_collections import config_flags

from cnn.runs import config as config_lib
from cnn.runs import config_files, defaults

MOST_CPU_DEVICES = 1024  # more than any machine has cores; JAX makes as many threads
_FIELD = re.compile(r"-{1,2}(?:no)?config\.([^=]*)")


class ConfigFlag:
    """`--config=FILE` and `--config.FIELD=VALUE`, as the command line has them; filled when flags are parsed.

    Attributes:
      path: path of the config file; "" for the defaults alone.
      given: whether the command line names a config.
      value: the config with its overrides; None where the command needs none and there is none.
      overrides: field -> value, as the command line sets them.
    """

    def __init__(self, default: str | None, meaning: str) -> None:
        self.default, self.meaning = default, meaning
        self.path, self.given = "", False
        self.value: Any = None
        self.overrides: dict[str, Any] = {}
        self._absent: list[str] = []

    def take(self, argv: list[str]) -> list[str]:
        """Reads the config that the command line names, and lets its fields be flags.

        Args:
          argv: the command line.

        Returns:
          The command line without --config.

        Raises:
          FileNotFoundError: if there is no such config.
          ValueError: if the file fails, or a field does not exist; says which is near.
        """
        rest, named = _without_config(argv)
        self.given = named is not None
        name = named if named is not None else self.default
        # Without a checkout there are no configs but the user's own: a run starts from the defaults.
        installed = named is None and config_files.folder() is None
        self.path = "" if name is None or installed else config_files.find(name)
        config = config_files.read(self.path) if self.path else defaults.get_config()
        self._base = copy.deepcopy(config)
        known = config_lib.fields(config)
        rest, self._absent = _without_absent(rest)
        wrong = [text for argument in rest[1:] if (text := _mistake(argument, config, known))]
        if wrong:
            raise ValueError("; ".join(dict.fromkeys(wrong)))
        # New attributes are options of the net, which it checks itself; all other fields are checked above.
        config_flags.DEFINE_config_dict(
            "config", config, self.meaning, lock_config=False, accept_new_attributes=True, sys_argv=rest
        )
        self.value = config
        return rest

    def finish(self) -> None:
        """Keeps what the command line changed; called once the flags are parsed."""
        self.overrides = dict(config_flags.get_override_values(flags.FLAGS["config"]))
        from cnn.runs import overrides  # here, so that --help and mistakes in flags do not wait for JAX

        self.overrides |= dict.fromkeys(self._absent)
        self.value = self._base
        overrides.override(self.value, self.overrides)


def _mistake(argument: str, config: Any, known: dict[str, Any]) -> str | None:
    """What is wrong with `--config.FIELD=VALUE`, for a field that does not exist or a value of another type."""
    found = _FIELD.match(argument)
    if not found or found[1].startswith("net.options"):
        return None
    field, (_, given, value) = found[1], argument.partition("=")
    if field in known:
        return _of_other_type(field, value) if given else None
    if any(other.startswith(field + ".") for other in known):
        inside = [other for other in known if other.startswith(field + ".")]
        return f"--config.{field} is a group of fields; set one of them: {', '.join(inside)}"
    return f"--config.{' '.join(field.split())}: there is no such field{config_lib.closest(field, config)}"


def _of_other_type(field: str, value: str) -> str | None:
    """Says which type a field has, where a value on the command line is of another."""
    default = next((one.default for one in defaults.FIELDS if one.name == field), "")
    kind = default if isinstance(default, type) else type(default)
    parsers: dict[type, tuple[Any, str]] = {
        bool: (flags.BooleanParser(), "True or False"),
        int: (flags.IntegerParser(), "a whole number"),
        float: (flags.FloatParser(), "a number"),
        tuple: (
            _Values(),
            "values in brackets, with commas between them and names in quotes",
        ),
    }
    if kind not in parsers:
        return None
    parser, words = parsers[kind]
    try:
        parser.parse(value)
    except ValueError:
        return f"--config.{field}={' '.join(value.split())[:80]}: it must be {words}"
    return None


class _Values:
    """Whether a text is a tuple, or a value by itself."""

    def parse(self, text: str) -> None:
        """Raises ValueError for what begins as a tuple and is none."""
        if text.strip()[:1] in ("(", "["):
            try:
                ast.literal_eval(text.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
                raise ValueError(text) from error


def _without_absent(argv: list[str]) -> tuple[list[str], list[str]]:
    """The command line without --config.FIELD=None, for fields that may be absent; and those fields."""
    found = [re.fullmatch(r"-{1,2}config\.([^=]+)=(?:None|none)", argument) for argument in argv]
    absent = [match[1] if match and match[1] in defaults.MAY_BE_ABSENT else "" for match in found]
    return [argument for argument, field in zip(argv, absent, strict=True) if not field], [x for x in absent if x]


def _without_config(argv: list[str]) -> tuple[list[str], str | None]:
    """The command line without --config=NAME or --config NAME, and the last NAME."""
    rest, name, position = argv[:1], None, 1
    while position < len(argv):
        argument = argv[position]
        if argument == "--":
            break
        found = re.fullmatch(r"-{1,2}config(?:=(.*))?", argument, re.DOTALL)
        if not found:
            rest.append(argument)
        elif found[1] is not None:
            name = found[1]
        elif position + 1 < len(argv):
            position += 1
            name = argv[position]
        else:
            raise ValueError("--config needs a name: --config=mnist, or a file: --config=my_config.py")
        position += 1
    return rest + argv[position:], name


def check_finite(*free: str) -> None:
    """Refuses NaN and infinities of all flags that are numbers: absl takes NaN whatever the bounds of a flag are.

    Args:
      *free: names of flags that may be such.

    Raises:
      ValueError: if there are some; names them all.
    """
    values = {name: flags.FLAGS[name].value for name in flags.FLAGS if not name.startswith("config.")}
    wrong = [  # of a config's fields their ranges say more
        f"--{name}={value}: it must be a finite number"
        for name, value in values.items()
        if name not in free and isinstance(value, float) and not math.isfinite(value)
    ]
    if wrong:
        raise ValueError("; ".join(wrong))


class _Path(flags.ArgumentParser):
    """A path in which `~` is the user's home, as in a shell, which leaves it alone after an equals sign."""

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)

    def flag_type(self) -> str:
        return "path"


class _Folder(_Path):
    """A path that is not empty."""

    def parse(self, argument: str) -> str:
        if not argument.strip():
            raise ValueError("it is empty; name a folder, or leave the flag out")
        return super().parse(argument)


def define_path(name: str, default: str | None, meaning: str) -> flags.FlagHolder:
    """Defines a flag for the path of a file or folder; `~` stands for the user's home.

    Args:
      name: name of the flag.
      default: its value where the command line has none.
      meaning: the text that --help shows.

    Returns:
      The flag.
    """
    return flags.DEFINE(_Path(), name, default, meaning, serializer=flags.ArgumentSerializer())


CONFIG_FLAGS: list[ConfigFlag] = []  # of this program: one or none


def define_config(default: str | None, meaning: str) -> ConfigFlag:
    """Defines --config and --config.FIELD.

    Args:
      default: name of the config that is taken where the command line names none; None: the defaults alone.
      meaning: the text that --help shows.

    Returns:
      What the command line says, once it is parsed.
    """
    CONFIG_FLAGS.append(ConfigFlag(default, meaning))
    return CONFIG_FLAGS[-1]


def define_workdir(meaning: str) -> flags.FlagHolder:
    """Defines --workdir.

    Args:
      meaning: the text that --help shows: whose directory it is, and where by default.

    Returns:
      The flag.
    """
    return flags.DEFINE(_Folder(), "workdir", None, meaning, serializer=flags.ArgumentSerializer())


def define_net() -> flags.FlagHolder:
    """Defines --net, for commands that load a trained run."""
    return flags.DEFINE_string(
        "net",
        None,
        "For a run with a net of your own whose file was moved or changed: the function that builds the net, "
        "FILE.py:FUNCTION; a run keeps a copy of the file in WORKDIR/code/net.",
    )


def define_weights() -> flags.FlagHolder:
    """Defines --weights, for commands that read nets of other frameworks."""
    return define_path(
        "weights",
        None,
        "A trained net of another framework: .onnx, .safetensors (with --config.net.name), .keras, .h5 or .caffemodel.",
    )


def define_checkpoint() -> flags.FlagHolder:
    """Defines --checkpoint, for commands that load a trained run."""
    return flags.DEFINE_enum(
        "checkpoint",
        "last",
        ["last", "best"],
        "The checkpoint of the run that is used: the last one, or that of the best validation (checkpoint.best).",
    )


def define_cpu_devices(default: int, meaning: str) -> flags.FlagHolder:
    """Defines --cpu_devices.

    Args:
      default: number of devices.
      meaning: the text that --help shows.

    Returns:
      The flag.
    """
    return flags.DEFINE_integer("cpu_devices", default, meaning, lower_bound=0, upper_bound=MOST_CPU_DEVICES)


def define_processes() -> tuple[flags.FlagHolder, flags.FlagHolder, flags.FlagHolder]:
    """Defines --coordinator, --num_processes and --process_id, for commands that several processes run together."""
    return (
        flags.DEFINE_string(
            "coordinator",
            "",
            "HOST:PORT of the first of several processes that work together, started with the same command but for "
            "--process_id; auto: as SLURM, Open MPI, Kubernetes or a TPU pod say; empty: this process is alone.",
        ),
        flags.DEFINE_integer(
            "num_processes", None, "With --coordinator=HOST:PORT: number of processes.", lower_bound=1
        ),
        flags.DEFINE_integer(
            "process_id", None, "With --coordinator=HOST:PORT: number of this process, from 0.", lower_bound=0
        ),
    )


def define_ops() -> flags.FlagHolder:
    """Defines --ops."""
    return flags.DEFINE_enum(
        "ops",
        None,
        ["fast", "plain"],
        "How convolutions and pools are computed on a CPU: fast: by the algorithms of cnn.ops where they are faster; "
        "plain: by XLA's own everywhere; by default as the run's config says (train.ops).",
    )


def define_compilation_cache() -> flags.FlagHolder:
    """Defines --compilation_cache."""
    return define_path(
        "compilation_cache",
        "auto",
        "Folder in which compiled programs are kept; auto: in the user's cache directory; empty: none are kept.",
    )


def define_data_cache() -> flags.FlagHolder:
    """Defines --data_cache."""
    return define_path(
        "data_cache",
        "auto",
        "Folder in which decoded data sets are kept; auto: in the user's cache directory; none: none are kept.",
    )
