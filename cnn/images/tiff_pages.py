"""Which page of a TIFF is the image: one rule for all that read pictures."""

from typing import Any

BESIDE = ("thumbnail", "label", "macro")  # names of the pictures that a slide's file holds beside the slide
_REDUCED, _MASK = 1, 4  # bits of the tag NewSubfileType


def meant(file: Any) -> Any:
    """The pages of the image; of an image pyramid those of its largest level.

    Args:
      file: an opened `tifffile.TiffFile`.

    Returns:
      The only series (tifffile's) that is not known as a reduced picture, a mask, a thumbnail or a label; it has one
      page.

    Raises:
      ValueError: if none or several are left, or it is a stack; says how many and of which sizes.
    """
    known = _REDUCED | _MASK
    left = [one for one in file.series if one.name.lower() not in BESIDE and not int(one.keyframe.subfiletype) & known]
    if len(file.series) == 1:
        left = list(file.series)
    if len(left) != 1:
        sizes = ", ".join("x".join(map(str, one.shape)) for one in file.series[:4])
        more = ", ..." if len(file.series) > 4 else ""
        raise ValueError(
            f"it holds {len(file.series)} pictures ({sizes}{more}); write the one that is meant as a file of its own"
        )
    series = left[0]
    if len(series) != 1 or series.keyframe.imagedepth != 1:
        raise ValueError(
            f"{len(series)} pages, together {'x'.join(map(str, series.shape))} ({series.axes}); an image is one page, "
            "[H, W] or [H, W, C]; write the one that is meant as a file of its own"
        )
    return series
