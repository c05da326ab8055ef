"""What is said of one image that was run densely: on the terminal, and as facts of its page."""

import itertools
import os
from collections.abc import Mapping
from typing import Any

from cnn.reports.streamed import Looked
from cnn.windows import shape_text


def facts(looked: Looked) -> dict[str, Any]:
    """What was asked and done, name by name; values that JSON can hold."""
    done, summary = looked.done, looked.summary
    found: dict[str, Any] = {
        "map": os.path.basename(looked.opened.path),
        "classes": done.shape[2],
        "window": done.window,
        "strides": done.stride,
        "context": done.context,
        "backend": done.backend,
        "tiles": done.tiles,
        "tiles_computed": done.tiles - done.tiles_done_before,
        "tile": done.outputs,
        "seconds": done.seconds,
        "megapixels_per_second": done.megapixels_per_second,
        "to_the_bit": done.to_the_bit,
        "known_windows": summary.known,
        "written": getattr(looked.opened, "written", "scores"),
    }
    found |= {
        name: value for name in ("skipped_windows", "skipped_tiles") if (value := getattr(done, name, None)) is not None
    }
    chosen = dict(looked.source.facts.chosen)
    spacing = looked.source.facts.spacing
    found |= {"chosen": chosen} if chosen else {}
    found |= {"pixel": f"{spacing.y:.6g} x {spacing.x:.6g} {spacing.unit}"} if spacing else {}
    return found | ({"detections": dict(looked.counts)} if looked.counts is not None else {})


def lines(looked: Looked, source: str) -> list[str]:
    """What was done, for the terminal."""
    done, summary = looked.done, looked.summary
    written = getattr(looked.opened, "written", "scores")
    what = {"scores": "logits", "class": "the winning class and its probability"}.get(written, written)
    last = ""
    if done.last != (None, None):
        named = [(n, at) for n, at in zip(("row", "column"), done.last, strict=True) if at is not None]
        last = ", and the last {} at pixel {}".format(
            *(" and ".join(map(str, part)) for part in zip(*named, strict=True))
        )
    exact = "to the bit" if done.to_the_bit else "within 1e-5 of the largest score"
    result = [
        f"{source}: {shape_text(done.image_shape[:2])} pixels -> {looked.opened.path}: "
        f"{shape_text(looked.opened.shape)} {what}, {getattr(looked.opened, 'dtype', 'float32')}",
        f"  score (i, j) belongs to the window {shape_text(done.window)} at pixel "
        f"(i * {done.stride[0]}, j * {done.stride[1]}){last}; context {done.context!r}",
        f"  {tiles_text(facts(looked))}",
        f"  equal to the map of one pass {exact}",
    ]
    if summary.known < summary.windows:
        absent = summary.windows - summary.known
        tiles = getattr(done, "skipped_tiles", 0)
        result.append(
            f"  {absent:,} of {summary.windows:,} windows ({absent / summary.windows:.1%}) have no score"
            + (f"; {tiles} of {done.tiles} tiles were not computed for that" if tiles else "")
        )
    return result


def tiles_text(found: Mapping[str, Any]) -> str:
    """How many tiles a stream computed, of what size, and how fast.

    Args:
      found: the facts of its map (`facts`).

    Returns:
      A phrase.
    """
    size = f"tiles of {shape_text(found['tile'])} scores"
    if not found["tiles_computed"]:
        return f"all {found['tiles']:,} {size} were computed by an earlier run"
    rate = f"{found['megapixels_per_second']:.2f} megapixels/s ({found['backend']})"
    return f"{found['tiles_computed']:,} of {found['tiles']:,} {size} in {found['seconds']:.1f} s, {rate}"


def detection_lines(looked: Looked, path: str) -> list[str]:
    """Counts of detections, for the terminal."""
    counts = looked.counts or {}
    most = sorted(counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {count:,}" for name, count in itertools.islice(most, 12))
    more = ", ..." if len(most) > 12 else ""
    return [f"  {sum(counts.values()):,} detections -> {path}" + (f": {listed}{more}" if most else "")]
