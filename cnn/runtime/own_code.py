"""Functions that the user names: "my_nets.py:my_net" or "package.module:function". No other code is ever loaded.

A reference can end in "@" and the SHA-256 of its file, as in configs that are read from a workdir. The function is then
loaded only from a file with exactly this content.
"""

import difflib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import types
from collections.abc import Callable
from typing import Any

_REFERENCE = re.compile(r"(?P<place>.+):(?P<function>[A-Za-z_]\w*)(@(?P<digest>[0-9a-f]{64}))?")

_LOADED: list[types.ModuleType] = []


def is_reference(name: str) -> bool:
    """Whether a name refers to a function of the user's own.

    Args:
      name: a name from a config, such as "my_nets.py:my_net", "package.module:function" or "mnist:3.0.1".

    Returns:
      True for a place and a function's name with a colon between them; a version number is no function's name.
    """
    return _REFERENCE.fullmatch(name) is not None


def short(name: str) -> str:
    """A name as people read it.

    Args:
      name: a reference, or any other name.

    Returns:
      "my_nets.py:my_net" for a reference to a file, without its folder and digest; other names as they are.
    """
    found = _REFERENCE.fullmatch(name)
    return f"{os.path.basename(found['place'])}:{found['function']}" if found else name


def source_file(reference: str) -> str:
    """The file that a reference names; nothing is executed but the `__init__` of packages that a module lies in.

    Args:
      reference: a name for which `is_reference` is true.

    Returns:
      Absolute path.

    Raises:
      ValueError: if there is no such file or module; says which are near.
    """
    place = _parts(reference)[0]
    if _is_file(place):
        path = os.path.abspath(os.path.expanduser(place))
        if not os.path.isfile(path):
            folder = os.path.dirname(path)
            files = [x for x in os.listdir(folder) if x.endswith(".py")] if os.path.isdir(folder) else []
            raise ValueError(f"{reference}: there is no file {path}{did_you_mean(os.path.basename(path), files)}")
        return path
    _search(os.getcwd())
    try:
        spec = importlib.util.find_spec(place)
    except (ImportError, ValueError, AttributeError, TypeError):  # such as a name that begins with a dot
        spec = None
    if spec is None or spec.origin is None:
        raise ValueError(f"{reference}: there is no module {place}; a file is named with its .py, my_nets.py:my_net")
    return os.path.abspath(spec.origin)


def pinned(reference: str) -> str:
    """A reference that is valid in every directory of this machine, as long as its file does not change.

    Args:
      reference: a name for which `is_reference` is true.

    Returns:
      The absolute path (for a module its name), the function, and the digest of the file's content; a reference that
      has a digest already is returned unchanged.

    Raises:
      ValueError: if there is no such file or module.
    """
    place, function, known = _parts(reference)
    if known:
        return reference
    path = source_file(reference)
    return f"{path if _is_file(place) else place}:{function}@{digest(path)}"


def digest(path: str) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Args:
      path: path of the file.

    Returns:
      64 characters.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(reference: str, field: str) -> Callable[..., Any]:
    """Executes the file or module that the user named, and returns the function in it.

    Args:
      reference: a name for which `is_reference` is true.
      field: the config field that holds the reference, for error messages: "net.name".

    Returns:
      The function.

    Raises:
      ValueError: if there is no such file, module or function, if executing it fails, or if the reference has a digest
        and the file another content.
    """
    place, function, wanted = _parts(reference)
    try:
        path = source_file(reference)
    except ValueError as error:
        raise ValueError(f"{field}={error}{_moved(reference, field) if wanted else ''}") from error
    if wanted and digest(path) != wanted:
        raise ValueError(f"{field}={short(reference)}: {path} has changed since then{_moved(reference, field)}")
    try:
        module = load_file(path) if _is_file(place) else importlib.import_module(place)
    except Exception as error:
        raise ValueError(f"{field}={short(reference)}: {describe(error, path)}") from error
    found = getattr(module, function, None)
    if not callable(found):
        # Those that the file defines itself; what it imports, such as layers, is not meant.
        own = [x for x, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        functions = [x for x in own if callable(vars(module)[x]) and not x.startswith("_")]
        raise ValueError(f"{field}: {path} has no function {function!r}{did_you_mean(function, functions)}")
    return found


def check_saved(reference: str, workdir: str, field: str) -> None:
    """Refuses code that a run's config names and its user may never have seen: a config is data, and may be anybody's.

    Args:
      reference: what config.json names; other names than references are let through.
      workdir: directory of the run.
      field: the config field, "net.name".

    Raises:
      ValueError: if the reference has no digest, as every one that a run saves has; if its file lies in the directory
        of the run or is not named by its whole path; or if it is a module of Python's own.
    """
    found = _REFERENCE.fullmatch(reference)
    if not found:
        return
    place, why = found["place"], ""
    if not found["digest"]:
        why = "without the digest of its content"
    elif not _is_file(place):
        why = "in a module of Python's own" if place.partition(".")[0] in sys.stdlib_module_names else ""
    elif not os.path.isabs(place) or place.startswith("/proc/"):
        why = "without its whole path"
    else:
        inside = os.path.realpath(workdir)
        why = "in its own directory" if os.path.commonpath([inside, os.path.realpath(place)]) == inside else ""
    if why:
        group = field.split(".")[0]
        flag = "--net" if group == "net" else f"--config.{field}"
        raise ValueError(
            f"{os.path.join(workdir, 'config.json')}: {field} names code {why} ({short(reference)}), which is not "
            f"executed; if you trust it, name it: {flag}={place}:{found['function']}, or load_run(workdir, {group}=...)"
        )


def load_file(path: str) -> types.ModuleType:
    """Executes a Python file as a module, once for each content; it can import other files of its folder.

    Args:
      path: path of the file.

    Returns:
      The module.

    Raises:
      Exception: whatever the file raises.
    """
    path = os.path.abspath(os.path.expanduser(path))
    name = f"{os.path.splitext(os.path.basename(path))[0]}_{digest(path)[:16]}"
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == path:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    _search(os.path.dirname(path))
    sys.modules[name] = module  # dataclasses and Flax modules look up their own module there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _LOADED.append(module)
    return module


def describe(error: BaseException, path: str) -> str:
    """One line that says where in the user's file an error was raised, and which.

    Args:
      error: the error.
      path: path of the file.

    Returns:
      "my_nets.py, line 7: NameError: name 'x' is not defined".
    """
    lines = [error.lineno] if isinstance(error, SyntaxError) and error.filename == path else []
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == path:
            lines.append(step.tb_lineno)
        step = step.tb_next
    where = f"{os.path.basename(path)}, line {lines[-1]}: " if lines else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{where}{type(error).__name__}: {' '.join(str(text).split())}"


def did_you_mean(name: str, known: list[str], otherwise: str = "there are") -> str:
    """The end of a message about an unknown name.

    Args:
      name: the unknown name.
      known: names that exist.
      otherwise: words before the list of all known names, for where none is similar.

    Returns:
      "; did you mean a or b?", or the list of all known names, or "" if there are no known names.
    """
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; {otherwise} {', '.join(sorted(known))}" if known else ""


def loaded() -> list[types.ModuleType]:
    """The modules of the user's files that were executed; other processes cannot import them by name."""
    return list(_LOADED)


def _parts(reference: str) -> tuple[str, str, str | None]:
    found = _REFERENCE.fullmatch(reference)
    if not found:
        raise ValueError(f"{reference}: must be FILE.py:FUNCTION or MODULE:FUNCTION")
    return found["place"], found["function"], found["digest"]


def _is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place


def _moved(reference: str, field: str) -> str:
    """The end of an error message about a file that has changed since a run was made with it: what to do."""
    group = field.split(".")[0]
    flag = "--net" if group == "net" else f"--config.{field}"
    return (
        f"; the run keeps a copy of the file that it was made with. If you trust that copy, name it: "
        f"{flag}=WORKDIR/code/{group}/{short(reference)}, or load_run(workdir, {group}=...)"
    )


def _search(folder: str) -> None:
    """Lets the user's code import files of its folder; last in the path, so that they hide no installed package."""
    if folder not in sys.path:
        sys.path.append(folder)
