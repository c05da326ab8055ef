"""A map that a stream begins, or goes on with: sink and journal together, so that neither lies about the other."""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from cnn.dense.streaming import fingerprints, map_files
from cnn.dense.streaming import journal as journals
from cnn.dense.streaming import sink as sinks
from cnn.dense.streaming.map_files import ANEW
from cnn.dense.streaming.progress import Progress, journal_of
from cnn.dense.streaming.sinks.base import Sink
from cnn.dense.streaming.skipping import Skipping
from cnn.dense.tiles import Tiling
from cnn.images import paths
from cnn.images.errors import StorageError
from cnn.images.source import Source

LOG = logging.getLogger(__name__)


def begin(
    sink: Any, counted: Tiling, facts: Mapping[str, Any], overwrite: bool, skips: Skipping | None
) -> tuple[Sink, Progress]:
    """Makes the sink, and its journal before it: so the journal never describes an older map, and the map is known.

    Args:
      sink: path or array of the map.
      counted: the tiles that the journal counts.
      facts: the journal's fields.
      overwrite: whether an existing map may be replaced.
      skips: how windows are left out; None: none is.

    Returns:
      (the sink, the progress of the stream).

    Raises:
      StorageError: if the map cannot be made there.
    """
    path, (shape, dtype, about) = journals.journal_path(sink), _map_of(facts)
    new = path is not None and not os.path.lexists(path) and not sinks.exists(paths.resolve(sink))
    skipped = None if skips is None else (0, 0)
    if path is not None:
        sinks.check_place(paths.resolve(sink), shape, dtype, False, overwrite, about=about)
        sinks.make_folder(paths.resolve(sink))
    try:
        if path is not None:
            journals.write_journal(path, journal_of(facts, 0, fingerprints.EMPTY, fingerprints.EMPTY, skipped))
        chunk = [sinks.chunk_of(n) for n in counted.outputs]
        target = sinks.open_sink(sink, shape, dtype, chunk, overwrite=overwrite, about=about)
        if path is not None:
            map_files.mark(paths.resolve(sink), whole=False)
    except BaseException:
        if path is not None and new:
            with suppress(OSError):
                sinks.discard(paths.resolve(sink))
        raise
    return target, Progress(target, path, facts, 0, fingerprints.EMPTY, fingerprints.EMPTY, skipped)


def _map_of(facts: Mapping[str, Any]) -> tuple[tuple[int, ...], np.dtype, Mapping[str, Any]]:
    """Shape and dtype of the map of a journal, and what it says of itself."""
    return tuple(facts["map"]), np.dtype(facts["computes"]["map dtype"]), facts["about"]


def resume(
    sink: Any,
    image: Source,
    counted: Tiling,
    facts: Mapping[str, Any],
    begun: Mapping[str, Any],
    skips: Skipping | None,
) -> tuple[Sink, Progress]:
    """Opens a sink that was begun, if it and its image are, in all tiles that are done, those of its journal.

    Args:
      sink: path of the map.
      image: the image.
      counted: the tiles that the journal counts.
      facts: the journal's fields as they are now.
      begun: the journal.
      skips: how windows are left out; None: none is.

    Returns:
      (the sink, the progress of the stream).

    Raises:
      StorageError: if net, image, its place, classes' names, options or map are others.
    """
    path = str(journals.journal_path(sink))
    journals.check_continued(path, begun, facts)
    facts = {**facts, "about": begun.get("about", facts["about"])}  # of the version, too, that began the map
    shape, dtype, about = _map_of(facts)
    target = sinks.open_sink(sink, shape, dtype, existing=True, about=about, complete=begun["complete"])
    map_files.mark(paths.resolve(sink), whole=begun["complete"])
    done = begun["done"]
    read, written = fingerprints.of_first(done, counted, image, target, skips)
    changed = None
    if written != begun["written"]:
        changed = "is not the map that its journal describes: the scores of its finished tiles have changed"
    elif read != begun["read"]:
        what = "image, or mask" if skips else "image"
        changed = f"was begun with another {what}: the pixels of its {done} finished tiles differ from {image.name}"
    elif begun["complete"] and begun.get("beside") not in (None, target.digest()):
        changed = _mended(target, begun["beside"])
    if changed:
        target.close()
        raise StorageError(f"{target.name} {changed}; name another sink, or {ANEW}")
    return target, Progress(
        target, path, facts, done, read, written, None if skips is None else tuple(begun["skipped"])
    )


def _mended(target: Sink, beside: str) -> str | None:
    """Makes what a finished map holds beside its scores anew, as it was; gives what is wrong where that cannot be."""
    if target.make_anew() and target.digest() == beside:
        LOG.warning("%s: its smaller levels, or its description, had changed; they are made anew", target.name)
        return None
    return "is not as its stream wrote it: its scores are, and what it holds beside them has changed"
