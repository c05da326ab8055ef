"""Reads the arrays of a Keras HDF5 file, guarded, in a process of its own: damaged bytes can crash the HDF5 library.

`read` starts this very file as a program, which imports nothing of the project: python keras_hdf5.py FILE, or - for
standard input. It writes a header in JSON, its length before it, and then the bytes of each array.
"""

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

DEEPEST, MOST_GROUPS, MOST_NAMES, MOST_TEXT = 24, 20_000, 20_000, 2**24
EXPANSION, EXPANSION_BYTES = 50, 2**26  # arrays may have so many times the bytes of their file, and so many more
FILTERS = (1, 2, 3, 4, 5, 6)  # HDF5's own: deflate, shuffle, fletcher32, szip, nbit, scaleoffset; others are plug-ins
SECONDS = 60  # and one for each MiB: damaged bytes can also send the library round in circles


class Refused(ValueError):
    """A file that is not read, and why, in one line."""


def read(path: str, content: bytes | None = None) -> tuple[dict[str, Any], list[np.ndarray | None]]:
    """Reads a file in a process of its own.

    Args:
      path: the file.
      content: its bytes, where they lie in an archive.

    Returns:
      {"version", "config", "legacy", "entries"}: texts or null of the attributes keras_version and model_config,
      whether it is a legacy file, and for each array [[groups from the outermost], own name of its layer, name]; and
      the arrays, None for those that are not floating.

    Raises:
      Refused: if it is damaged, reaches for other files, or declares more than it holds.
    """
    command = [
        sys.executable,
        "-P",
        __file__,
        "-" if content is not None else os.path.abspath(os.path.expanduser(path)),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdin and child.stdout and child.stderr
        size = os.path.getsize(command[-1]) if content is None else len(content)
        watch = threading.Timer(SECONDS + size / 2**20, child.kill)
        watch.start()
        try:
            with child.stdin as stream:
                stream.write(content or b"")
            header, arrays = _received(child.stdout)
            child.wait()
        except (BrokenPipeError, EOFError):
            text = child.stderr.read(2**16).decode("utf-8", "replace").strip().splitlines()
            child.kill()
            child.wait()
            raise Refused(
                f"is a damaged HDF5 file ({(text or ['the HDF5 library crashed on it'])[-1][:200]})"
            ) from None
        finally:
            watch.cancel()
            child.kill()
    return header, arrays


def _received(stream: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray | None]]:
    """What the program wrote."""
    header = json.loads(_exactly(stream, int.from_bytes(_exactly(stream, 8), "little")))
    if "refused" in header:
        raise Refused(header["refused"])
    arrays: list[np.ndarray | None] = []
    for dtype, shape in header.pop("arrays"):
        if dtype is None:
            arrays.append(None)
            continue
        count = int(np.prod(shape, dtype=np.int64))
        raw = _exactly(stream, count * np.dtype(dtype).itemsize)
        arrays.append(np.frombuffer(raw, dtype).reshape(shape))
    return header, arrays


def _exactly(stream: IO[bytes], count: int) -> bytes:
    found = stream.read(count)
    if len(found) < count:
        raise EOFError
    return found


# From here on: the program.


class _Guard:
    """Access to an HDF5 file that follows hard links alone, and reads arrays that lie in the file itself."""

    def __init__(self, h5py: Any, size: int) -> None:
        self._h5py = h5py
        self._left, self._groups = EXPANSION * size + EXPANSION_BYTES, MOST_GROUPS

    def item(self, group: Any, name: str) -> Any:
        """What a group holds under a name (one part of a path); None if nothing."""
        # The library's own test on a group would follow links.
        link = group.get(name, getlink=True) if name in list(group.keys()) else None
        if link is None:
            return None
        if not isinstance(link, self._h5py.HardLink):
            kind = type(link).__name__
            raise Refused(
                f"{group.name}/{name} is a {kind} to another place, which is not followed; write it without links"
            )
        return group[name]

    def group(self, group: Any, name: str) -> Any:
        """The group under a name; None if there is none."""
        self._groups -= 1
        if self._groups < 0:
            raise Refused(f"has more than {MOST_GROUPS:,} groups, or groups that lie in themselves")
        found = self.item(group, name)
        return found if isinstance(found, self._h5py.Group) else None

    def names(self, group: Any) -> list[str]:
        """Names in a group."""
        if len(group) > MOST_NAMES:
            raise Refused(f"{group.name} holds {len(group):,} entries; at most {MOST_NAMES:,} are read")
        return list(group.keys())

    def texts(self, group: Any, name: str) -> list[str]:
        """An attribute of one or more texts; none if there is none."""
        if name not in group.attrs:
            return []
        entry = group.attrs.get_id(name)
        if np.prod(entry.shape, dtype=np.float64) > MOST_NAMES or entry.dtype.itemsize > MOST_TEXT:
            raise Refused(f"the attribute {name} of {group.name} is too large")
        values = np.atleast_1d(group.attrs[name]).ravel().tolist()
        return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]

    def check(self, dataset: Any) -> bool:
        """Whether a dataset holds floating numbers; refuses those that it is not safe to ask for."""
        if not isinstance(dataset, self._h5py.Dataset):
            raise Refused(f"{getattr(dataset, 'name', 'an entry')} is no array")
        where = dataset.name
        if dataset.external is not None or dataset.is_virtual:
            raise Refused(f"{where} takes its numbers from other files, which are not read; write them into one file")
        if dataset.shape is None or dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (2, 4, 8):
            return False
        properties = dataset.id.get_create_plist()
        for index in range(properties.get_nfilters()):
            if properties.get_filter(index)[0] not in FILTERS:
                raise Refused(f"{where} is compressed by a plug-in of HDF5; write it with gzip or without")
        size = dataset.dtype.itemsize
        if dataset.chunks and np.prod(dataset.chunks, dtype=np.float64) * size > self._left:
            raise Refused(f"{where} declares chunks {dataset.chunks}, far more than the file has bytes")
        if np.prod(dataset.shape, dtype=np.float64) * size > self._left:
            raise Refused(f"{where} declares {dataset.shape}, far more numbers than the file has bytes for")
        self._left -= int(np.prod(dataset.shape, dtype=np.int64)) * size
        return True


Entry = tuple[list[str], str, str, Any]


def _legacy(guard: _Guard, root: Any) -> Iterator[Entry]:
    """Arrays of a legacy .h5: a group for each layer of the model, with a list of names."""
    for layer in guard.names(root):
        group = guard.group(root, layer)
        names = [] if group is None else guard.texts(group, "weight_names")
        for index in range(MOST_NAMES if group is not None and not names else 0):  # where long, in parts
            more = guard.texts(group, f"weight_names{index}")
            if not more:
                break
            names += more
        for name in names:
            place, parts = group, [part for part in name.split("/") if part]
            for part in parts[:-1]:
                place = None if place is None else guard.group(place, part)
            dataset = None if place is None or not parts else guard.item(place, parts[-1])
            if dataset is None:
                raise Refused(f"{layer} lists {name!r}, which is not there")
            yield [layer], name, re.sub(r":\d+$", "", parts[-1]), dataset


def _container(guard: _Guard, group: Any, above: list[str]) -> Iterator[Entry]:
    """Arrays of a .weights.h5: a group for each layer, named by its class; its own name is an attribute."""
    if len(above) > DEEPEST:
        raise Refused(f"models lie in one another more than {DEEPEST} deep")
    inside = guard.group(group, "layers") or guard.group(group, "_layer_checkpoint_dependencies")
    if inside is None:
        if not above:
            raise Refused("has neither model_weights nor layers, and is no file of Keras weights")
        return
    for key in guard.names(inside):
        layer = guard.group(inside, key)
        if layer is None:
            continue
        yield from _container(guard, layer, [*above, key])
        variables = guard.group(layer, "vars")
        if variables is None:
            continue
        name = "".join(guard.texts(variables, "name"))
        for index in sorted(guard.names(variables), key=lambda text: (len(text), text)):
            yield [*above, key], name, index, guard.item(variables, index)


def _send(out: IO[bytes], header: dict[str, Any]) -> None:
    text = json.dumps(header).encode()
    out.write(len(text).to_bytes(8, "little") + text)


def main(path: str) -> None:
    """Writes what a file holds to standard output."""
    import h5py

    content = sys.stdin.buffer.read() if path == "-" else None
    size = os.path.getsize(path) if content is None else len(content)
    _limit_memory(4 * (EXPANSION * size + EXPANSION_BYTES) + 2**32)
    out = sys.stdout.buffer
    try:
        with h5py.File(path if content is None else io.BytesIO(content), "r") as root:
            guard = _Guard(h5py, size)
            legacy = guard.group(root, "model_weights") or (root if "layer_names" in root.attrs else None)
            found = list(_container(guard, root, []) if legacy is None else _legacy(guard, legacy))
            # All are checked before one is read, and read one by one.
            floating = [guard.check(dataset) for *_, dataset in found]
            header = {
                "version": "".join(guard.texts(root, "keras_version")),
                "config": "".join(guard.texts(root, "model_config")) or None,
                "legacy": legacy is not None,
                "entries": [entry[:3] for entry in found],
                "arrays": [
                    [dataset.dtype.str, list(dataset.shape)] if one else [None, None]
                    for (*_, dataset), one in zip(found, floating, strict=True)
                ],
            }
            _send(out, header)
            for (*_, dataset), one in zip(found, floating, strict=True):
                if one:
                    out.write(np.ascontiguousarray(dataset[()]).tobytes())
    except Refused as error:
        _send(out, {"refused": str(error)})
    out.flush()


def _limit_memory(limit: int) -> None:
    """Bounds what damaged bytes can make the library ask for, where the system can."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, OSError, ValueError):
        return


if __name__ == "__main__":
    main(sys.argv[1])
