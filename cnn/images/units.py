"""Sizes of pixels in the units that files write, as micrometres, metres or degrees."""

from cnn.images.facts import Spacing

# Names of units in lower case -> (the unit that is kept, how many of it one is).
_KNOWN = {
    "micrometre": ("micrometre", 1.0),
    "nanometre": ("micrometre", 1e-3),
    "picometre": ("micrometre", 1e-6),
    "angstrom": ("micrometre", 1e-4),
    "millimetre": ("micrometre", 1e3),
    "centimetre": ("micrometre", 1e4),
    "inch": ("micrometre", 25400.0),
    "metre": ("metre", 1.0),
    "kilometre": ("metre", 1e3),
    "foot": ("metre", 0.3048),
    "degree": ("degree", 1.0),
}
_SHORT = {
    "um": "micrometre", "µm": "micrometre", "μm": "micrometre", "micron": "micrometre",  # micro's sign, and a Greek mu
    "nm": "nanometre", "pm": "picometre", "å": "angstrom", "mm": "millimetre", "cm": "centimetre", "in": "inch",
    "m": "metre", "km": "kilometre", "ft": "foot", "feet": "foot", "deg": "degree",
}  # fmt: skip


def spacing(y: float, x: float, unit: str | None, x_unit: str | None = None) -> Spacing | None:
    """The size of a pixel in one of the units that are kept.

    Args:
      y: height, in `unit`.
      x: width, in `x_unit`.
      unit: the unit's name: "micrometer", "µm", "nanometre", "m", "degrees", ...
      x_unit: the unit of the width; None: the same.

    Returns:
      The spacing; None if a unit is unknown, the two are not of one kind, or a size is not above 0.
    """
    first, second = _unit(unit), _unit(x_unit or unit)
    if first is None or second is None or not (y > 0 and x > 0):
        return None
    (kept, of_y), (other, of_x) = first, second
    return Spacing(y * of_y, x * of_x, kept) if kept == other else None


def _unit(name: str | None) -> tuple[str, float] | None:
    word = (name or "").strip().lower().replace("meter", "metre")
    word = _SHORT.get(word, word)
    return _KNOWN.get(word) or _KNOWN.get(word.removesuffix("s"))
