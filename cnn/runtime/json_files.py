"""JSON read from files that something may have damaged: whatever is wrong with a text is said in plain words."""

import hashlib
import json
from typing import Any

MOST_DEEP = 100  # lists and objects within each other, of which no file of this program has ten


class JsonError(ValueError):
    """A text that is no JSON; its message is the end of a sentence about the file: "is empty"."""


def parse(content: bytes) -> Any:
    """Parses JSON.

    Args:
      content: the bytes of a file, UTF-8.

    Returns:
      The value; NaN and Infinity, which Python writes beside JSON, are read too.

    Raises:
      JsonError: if it is empty, no text, no JSON, nested too deep, or has an object that names a key twice.
    """
    if not content.strip():
        raise JsonError("is empty")
    if not content.strip(b"\0"):
        raise JsonError("holds zeros only")
    try:
        text = content.decode("utf-8")
        found = json.loads(text, object_pairs_hook=_unique)
        _check_depth(found, MOST_DEEP)
        return found
    except JsonError:
        raise
    except UnicodeDecodeError as error:
        raise JsonError(f"is no text from byte {error.start:,} on") from error
    except json.JSONDecodeError as error:
        raise JsonError(f"is no JSON from line {error.lineno}, column {error.colno} on") from error
    except RecursionError as error:
        raise JsonError("is nested too deep") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise JsonError("holds a number that is too long") from error


def read(path: str) -> Any:
    """Reads a JSON file.

    Args:
      path: path of the file.

    Returns:
      Its value.

    Raises:
      JsonError: if it is damaged.
      OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        return parse(file.read())


def digest(value: Any) -> str:
    """A checksum of a value, however its JSON is laid out.

    Args:
      value: a value that JSON can hold.

    Returns:
      16 hexadecimal digits of the SHA-256 of its JSON with sorted keys. A list and a tuple have the same.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"names {twice[:40]!r} twice")
    return found


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise JsonError("is nested too deep")
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(one, dict | list):
            _check_depth(one, left - 1)
