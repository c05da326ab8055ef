"""The flags of images of one's own: what of a file is read, how it is run, what is written; and which go together."""

import os
from typing import TYPE_CHECKING, Any

from absl import app, flags

from cnn.commands import flags as common
from cnn.commands import weights
from cnn.runtime import byte_sizes
from experiments.dense_evaluation import shared

if TYPE_CHECKING:
    from cnn.reports.streamed import Asked

PAGE = flags.DEFINE_integer("page", None, "Image: page of a file of several, from 0.", lower_bound=0)
LEVEL = flags.DEFINE_integer("level", None, "Image: level of its pyramid; 0 is the largest.", lower_bound=0)
SELECT = flags.DEFINE_list("select", None, "Image: the entry of each further axis, t=0,z=3.")
RANGE = flags.DEFINE_list(
    "range", None, "Image: values of black and white, 0,4095; default: of the dtype, or the run's."
)
NODATA = flags.DEFINE_float("nodata", None, "Image: the value of pixels that hold nothing; default: as the file says.")
MASK = common.define_path("mask", None, "Image: image file that is zero where windows are to be left out.")
SCALE = flags.DEFINE_float("scale", None, "Image: it is resized by this factor, antialiased, while it is read.")
SPACING = flags.DEFINE_float("spacing", None, "Image: it is resized to this size of a pixel, micrometres or metres.")
SKIP = flags.DEFINE_enum("skip", None, ["nodata", "constant"], "Image: windows of this get no score, and cost nothing.")
SKIP_WINDOWS = flags.DEFINE_enum(
    "skip_windows",
    "any",
    ["any", "all"],
    "Image: windows with any pixel to skip get no score, or those of nothing else.",
)
MEMORY = flags.DEFINE_string("memory", "2GB", "Image: memory for tiles and parameters.")
CONTEXT = flags.DEFINE_enum("context", None, ["crop", "image"], "Image: what padding a window sees.")
WRITE = flags.DEFINE_enum(
    "write", "scores", ["scores", "probabilities", "class"], "Image: what its map holds; class: the winning one alone."
)
MAP_DTYPE = flags.DEFINE_enum("map_dtype", "float32", ["float32", "float16"], "Image: dtype of its map.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Image: begin anew, and replace an existing map.")
DETECTIONS = common.define_path(
    "detections", None, "Image: file of detections, .csv or .geojson. With --images: csv or geojson, beside each map."
)
THRESHOLD = flags.DEFINE_float("threshold", 0.5, "Detections: least probability.", lower_bound=0, upper_bound=1)
BACKGROUND = flags.DEFINE_string(
    "background", None, 'Image: class that is no object, by name or number; default: one of the name "background".'
)
OVERLAP = flags.DEFINE_float(
    "overlap",
    None,
    "Detections: most overlap of two of a class, intersection over union.",
    lower_bound=0,
    upper_bound=1,
)
MAPS = flags.DEFINE_enum("maps", "zarr", ["zarr", "ome.zarr", "npy", "tif"], "Several images: format of their maps.")
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Image: say what would be read, computed and written, and how long it takes; write nothing."
)
OF_DETECTIONS = (THRESHOLD, OVERLAP)
FLAGS = (
    *(PAGE, LEVEL, SELECT, RANGE, NODATA, MASK, SCALE, SPACING, SKIP, SKIP_WINDOWS, MEMORY, CONTEXT, WRITE, MAP_DTYPE),
    *(OVERWRITE, DETECTIONS, *OF_DETECTIONS, BACKGROUND, MAPS, DRY_RUN, shared.COVER),
)


def several() -> bool:
    """Whether the command line names several images."""
    return bool(shared.IMAGES.value) and shared.PROTOCOL.value != "grid"


def one_or_several() -> bool:
    """Whether the command line names an image, or several."""
    return bool(shared.IMAGE.value) or several()


def check() -> None:
    """Raises `absl.app.UsageError` for flags that do not apply, or do not go together."""
    for holder in (shared.IMAGE, shared.IMAGES):
        if holder.present and not (holder.value or "").strip():  # as of a variable of the shell that is not set
            raise app.UsageError(f"--{holder.name}= names no image; name one, or leave the flag out")
    if not one_or_several():
        given = shared.given(FLAGS)
        if weights.image_channels() is not None:
            given.append("--channels")
        if given:
            raise app.UsageError(f"{', '.join(given)} is for --image=FILE or --images=...; leave it out")
        return
    if shared.IMAGE.value and shared.IMAGES.value:
        raise app.UsageError("--image and --images: name one image, or several")
    given = shared.given(shared.OF_PICTURES) + ["--protocol=grid"] * (shared.PROTOCOL.value == "grid")
    if given:
        raise app.UsageError(f"{', '.join(given)} is for scenes or grids, not for images of your own; leave one out")
    if len(shared.STRIDE.value or []) > 1:
        raise app.UsageError(f"--image takes one --stride, got {shared.STRIDE.value}")
    if SCALE.value is not None and SPACING.value is not None:
        raise app.UsageError("--scale and --spacing: both say how large the image is read; leave one out")
    for holder in (SCALE, SPACING):
        if holder.value is not None and not holder.value > 0:
            raise app.UsageError(f"--{holder.name}={holder.value:g}: must be above 0")
    if SKIP_WINDOWS.present and not (SKIP.value or MASK.value):
        raise app.UsageError("--skip_windows is for --skip or --mask; add one, or leave it out")
    if MAP_DTYPE.present and WRITE.value == "class":
        raise app.UsageError("--map_dtype is for scores and probabilities; a map of classes holds whole numbers")
    given = shared.given(OF_DETECTIONS)
    if given and not DETECTIONS.value:
        raise app.UsageError(f"{', '.join(given)} is for --detections=FILE; add that, or leave the flag out")
    if DETECTIONS.value and not THRESHOLD.value > 0:
        raise app.UsageError(f"--threshold={THRESHOLD.value:g}: must be above 0, where every window would be found")
    byte_sizes.parse_bytes(MEMORY.value)
    reading()
    _check_files()


def _check_files() -> None:
    """Whether files that are written have names that say what they are."""
    output, detections = shared.path(shared.OUTPUT), DETECTIONS.value or ""
    if several():
        if shared.is_map(output):
            raise app.UsageError(f"--output={output}: each of several images has a map of its own; name a directory")
        if detections and detections not in ("csv", "geojson"):
            raise app.UsageError(f"--detections={detections}: with --images csv or geojson, a file beside each map")
    else:
        if MAPS.present:
            raise app.UsageError("--maps is for --images=...; --output=MAP.tif names the format of a single map")
        if detections and not detections.lower().endswith(shared.TABLES):
            raise app.UsageError(f"--detections={detections}: detections are written as .csv or .geojson")
    if not shared.is_map(output):
        shared.check_directory()
    image = shared.path(shared.IMAGE)
    for name, written in (("output", output), ("detections", detections)):
        if image and written and os.path.realpath(image) == os.path.realpath(written):
            raise app.UsageError(f"--{name}={written} is the image itself, which would be lost; name another")


def reading() -> dict[str, Any]:
    """The arguments of `cnn.dense.open_image` that the command line sets.

    Returns:
      Name -> value.

    Raises:
      absl.app.UsageError: if a value is not of its form.
    """
    found: dict[str, Any] = {"page": PAGE.value, "level": LEVEL.value, "nodata": NODATA.value, "mask": MASK.value}
    found |= {"scale": SCALE.value, "spacing": SPACING.value, "channels": weights.image_channels()}
    if SELECT.value:
        found["select"] = dict(map(_entry, SELECT.value))
    if RANGE.value:
        found["value_range"] = _range(RANGE.value)
    return {name: value for name, value in found.items() if value is not None}


def _entry(text: str) -> tuple[str, int]:
    axis, _, number = text.partition("=")
    if not axis.strip() or not number.strip().isdecimal():
        raise app.UsageError(f"--select={','.join(SELECT.value or ())}: axis=number, with commas between: t=0,z=3")
    return axis.strip(), int(number)


def _range(texts: list[str]) -> tuple[float, float]:
    try:
        low, high = (float(text) for text in texts)
    except ValueError:
        low = high = 0.0
    if not low < high or not abs(low) + abs(high) < float("inf"):
        raise app.UsageError(f"--range={','.join(texts)}: two numbers, the lower one first: 0,4095")
    return low, high


def stride() -> int | None:
    """The stride that --stride asks for, pixels; None: the net's native stride."""
    return shared.STRIDE.value[0] if shared.STRIDE.value else None


def asked() -> "Asked":
    """What the command line asks of an image."""
    from cnn.reports.streamed import Asked

    streaming: dict[str, Any] = {"stride": stride(), "context": CONTEXT.value, "skip": SKIP.value}
    streaming |= {"cover": shared.COVER.value or None, "overwrite": OVERWRITE.value or None}
    for holder in (WRITE, MAP_DTYPE, SKIP_WINDOWS):
        streaming[holder.name] = holder.value if holder.value != holder.default else None
    return Asked(
        reading(),
        {name: value for name, value in streaming.items() if value is not None},
        byte_sizes.parse_bytes(MEMORY.value),
        [int(scale) for scale in shared.SCALES.value],
        DETECTIONS.value,
        THRESHOLD.value,
        BACKGROUND.value,
        OVERLAP.value,
    )
