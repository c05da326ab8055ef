"""Which pictures of a folder cannot be read: by one process, or by several that find them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnn.data.class_folders import Listing
from cnn.data.image_files import Read
from cnn.data.leftovers import Leftovers
from cnn.images.errors import DataError
from cnn.runtime import processes
from cnn.runtime.shares import Share


def reasons(read: Read, paths: Sequence[str], leftovers: Leftovers) -> dict[int, str]:
    """Why pictures are left out.

    Args:
      read: what was read of them.
      paths: their files.
      leftovers: whether files that cannot be used stop; damaged ones that were decoded count then as others do.

    Returns:
      Number of the picture -> the reason, without its path, which stands beside it; in their order.
    """
    out = {i: _reason(error, paths[i]) for i, error in read.errors.items()}
    if not leftovers.stops:
        out |= {i: f"damaged: {text}" for i, text in read.damages.items()}
    return dict(sorted(out.items()))


def _reason(error: DataError, path: str) -> str:
    return str(error).replace(f"cannot read {path} as an image: ", "cannot be decoded: ").replace(f"{path}: ", "")


def found_together(
    listing: Listing, leftovers: Leftovers, share: Share, read: Callable[[Sequence[str]], Read]
) -> list[int]:
    """Leaves out what cannot be read of a listing that several processes share: each tries its share of the files.

    So all have the same pictures before any is given to a process. Each decodes its share twice, and nothing of
    another one's. All processes call this alike.

    Args:
      listing: the pictures, the same in all processes.
      leftovers: takes what cannot be read, in the order of the listing.
      share: this process's share. Where no other process was joined, it tries all files.
      read: reads pictures, and does not stop.

    Returns:
      The numbers of the pictures that are left.
    """
    count = len(listing.paths)
    rows = range(count)[share.rows(count) if processes.count() > 1 else slice(None)]
    own = listing.paths[rows.start : rows.stop]
    tried = reasons(read(own), own, leftovers)
    found = processes.gather([[rows.start + i, reason] for i, reason in tried.items()])
    out = {i: reason for part in found for i, reason in part if i < count}
    leftovers.leave_out([(listing.paths[i], out[i]) for i in sorted(out)])
    return [i for i in range(count) if i not in out]
