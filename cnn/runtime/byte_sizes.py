"""Numbers of bytes as people write them: "2GB", "500 MB", "1.5GiB"."""

import operator
import re
from typing import Any


def parse_bytes(text: str, what: str = "--memory") -> int:
    """Reads a number of bytes as people write it.

    Args:
      text: "2GB", "500 MB", "1.5GiB" or "1000000"; KB, MB, GB, TB are powers of 1000, KiB, MiB, ... of 1024.
      what: name of the field, for the error.

    Returns:
      Bytes.

    Raises:
      ValueError: if it is not such a number.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?))?B?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise ValueError(f"{what}={text}: must be a number of bytes above 0, such as 2GB, 500MB or 1.5GiB")
    power = "KMGT".index(found[2].upper()) + 1 if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def as_bytes(value: Any, what: str) -> int:
    """A number of bytes from a number, or from a text as `parse_bytes` takes it.

    Args:
      value: a number above 0, whole or not (2e9), or a text such as "2GB".
      what: name of the field, for the error.

    Returns:
      Bytes, at least 1.

    Raises:
      ValueError: if it is neither.
    """
    if isinstance(value, str):
        return parse_bytes(value, what)
    try:
        number = int(value) if isinstance(value, float) else operator.index(value)
    except (TypeError, ValueError, OverflowError):  # no number; NaN; infinite
        number = 0
    if number < 1:
        raise ValueError(f"{what}={value}: must be a number of bytes above 0, such as 2GB, 500MB or 1.5GiB")
    return number


def bytes_text(count: float) -> str:
    """Writes a number of bytes with at most three digits: 1536 -> "1.5 KiB"."""
    power = 0
    while abs(count) >= 1000 and power < 4:  # not 1024, which has four digits
        count, power = count / 1024, power + 1
    return f"{count:.3g} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
