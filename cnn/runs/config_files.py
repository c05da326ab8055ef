"""Config files: those of the checkout by name, and the user's own; they are executed."""

import os
import sys

from ml_collections import ConfigDict

from cnn.runs import defaults
from cnn.runs.defaults import Config
from cnn.runtime import own_code


def folder() -> str | None:
    """The folder of configs in this project's checkout; None for an installed package, which has none."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.path.join(root, "configs")
    return path if os.path.exists(os.path.join(path, "default.py")) else None


def find(name: str) -> str:
    """The file of a config.

    Args:
      name: a path, or the bare name of a file in the checkout's configs/: "mnist".

    Returns:
      A path, relative to the current directory where the checkout is that directory.

    Raises:
      FileNotFoundError: if there is none; says which names are near.
    """
    name = os.path.expanduser(name)
    if os.path.isfile(name):
        return name
    known = folder()
    names = sorted(file[:-3] for file in os.listdir(known) if file.endswith(".py")) if known else []
    names = [config for config in names if config != "__init__"]
    stem = os.path.splitext(os.path.basename(name))[0]
    # A bare name, or a path as it would be written in the checkout.
    if known and stem in names and name in (stem, f"{stem}.py", os.path.join("configs", f"{stem}.py")):
        path = os.path.join(known, f"{stem}.py")
        return os.path.relpath(path) if os.path.dirname(known) == os.getcwd() else path
    near = own_code.did_you_mean(stem, names, "configs:") if known else "; name a config file of your own"
    raise FileNotFoundError(f"--config={name}: there is no such config{near}")


def read(path: str) -> Config:
    """Executes a config file.

    Args:
      path: path of a Python file with a function `get_config`.

    Returns:
      What `get_config()` returns.

    Raises:
      ValueError: if the file fails, has no such function (says in which line and why), or its config lacks fields.
    """
    known = folder()
    if known and os.path.dirname(known) not in sys.path:
        sys.path.append(os.path.dirname(known))  # configs import each other as `configs.NAME`
    try:
        config = own_code.load_file(path).get_config()
    except Exception as error:
        raise ValueError(f"--config={path}: {own_code.describe(error, os.path.abspath(path))}") from error
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"--config={path}: get_config() returned {type(config).__name__}; start from "
            "cnn.runs.defaults.get_config() and change its fields"
        )
    missing = [name for name, _, _ in defaults.FIELDS if not _has(config, name)]
    if missing:
        raise ValueError(
            f"--config={path}: get_config() returned a config without {missing[0]} and {len(missing) - 1} more fields; "
            "start from cnn.runs.defaults.get_config() and change its fields"
        )
    return config


def _has(config: Config, field: str) -> bool:
    """Whether a config has a field of this full name."""
    for name in field.split("."):
        if not isinstance(config, ConfigDict) or name not in config:
            return False
        config = config[name]
    return True
