"""Checks of what was asked of a file: options that its format does not have are refused, never ignored."""

import operator
from collections.abc import Mapping, Sequence

from cnn.images.errors import StorageError
from cnn.images.facts import Choice

_MEANT_FOR = {"page": "files of several pages", "level": "image pyramids", "select": "files with named axes"}


def only(path: str, kind: str, choice: Choice, *taken: str) -> None:
    """Refuses options that a format does not have.

    Args:
      path: name of the file.
      kind: what the file is, e.g. "a zarr array".
      choice: what was asked for; page 0 and level 0 are what every file has.
      taken: names of the options that the format has: "page", "level", "select".

    Raises:
      StorageError: if another was given; names it, the file and its kind.
    """
    for name, value in choice._asdict().items():
        if name not in taken and value:
            raise StorageError(
                f"{path}: {name} (={value!r}) is for {_MEANT_FOR[name]}, and this is {kind}; leave it out"
            )


def whole(path: str, choice: Choice) -> Choice:
    """What was asked for, with whole numbers alone.

    Args:
      path: name of the file.
      choice: what was asked for.

    Returns:
      The same, as ints.

    Raises:
      StorageError: if a page, a level or an entry is no whole number, or `select` gives no names.
    """
    page, level, select = choice
    if select is not None and not isinstance(select, Mapping):
        raise StorageError(f"{path}: select (={select!r}) must give an entry for each name of an axis, as {{'z': 3}}")
    return Choice(
        None if page is None else as_index(path, "page", page),
        None if level is None else as_index(path, "level", level),
        None if select is None else {str(name): as_index(path, f"select of {name}", n) for name, n in select.items()},
    )


def one_of(path: str, option: str, value: int | None, entries: Sequence[str], what: str) -> int:
    """The number of the entry that is meant.

    Args:
      path: name of the file.
      option: the name of the option, "page" or "level".
      value: the number that was asked for; None: the only entry.
      entries: the entries that can be chosen, as a text for the error.
      what: what the entries are, in the plural, e.g. "levels".

    Returns:
      The number, counted from 0.

    Raises:
      StorageError: if there is no such entry, or nothing was asked for and there are several.
    """
    listed = ", ".join(f"{i}: {entry}" for i, entry in enumerate(entries[:12])) + (", ..." if entries[12:] else "")
    if value is None:
        if len(entries) == 1:
            return 0
        raise StorageError(f"{path}: it holds {len(entries)} {what} ({listed}); choose one with {option}=")
    number = as_index(path, option, value)
    if not 0 <= number < len(entries):
        raise StorageError(f"{path}: {option} (={number}) must be 0 to {len(entries) - 1}; its {what} are {listed}")
    return number


def as_index(path: str, option: str, value: object) -> int:
    """A number that counts something.

    Args:
      path: name of the file.
      option: the name of the option.
      value: what was given for it.

    Returns:
      It, as an int.

    Raises:
      StorageError: if it is no whole number.
    """
    try:
        return operator.index(value)  # type: ignore[arg-type]  # its TypeError is what is asked for
    except TypeError:
        raise StorageError(f"{path}: {option} (={value!r}) must be a whole number, counted from 0") from None
