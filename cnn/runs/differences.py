"""What is said of a field that differs between two configs."""

from typing import Any


def difference(field: str, there: Any, here: Any) -> str:
    """Says in which way two values of a field differ.

    Args:
      field: full name of the field.
      there: its value in a saved config.
      here: its value in another one.

    Returns:
      "field is 1 there and 2 here"; of two lists of records the first that differ, by their index.
    """
    if _are_records(there) and _are_records(here):
        same = [a == b for a, b in zip(there, here, strict=False)]
        index = same.index(False) if False in same else len(same)
        field, there, here = (
            f"{field}[{index}]",
            *(values[index] if index < len(values) else None for values in (there, here)),
        )
    return f"{field} is {_shown(there)} there and {_shown(here)} here"


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)


def _shown(value: Any) -> str:
    """A value in one line; of a list of records how many it holds."""
    return f"a list of {len(value)} records" if _are_records(value) else repr(value)
