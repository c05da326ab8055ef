"""Zarr groups and arrays in directories and zip files: their metadata, and what lies in them."""

import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from cnn.images import paths
from cnn.images.errors import StorageError

MOST_LISTED = 8  # names of a group's arrays in a message
ZIP_METHODS = (0, 8, 12, 93, 95)  # stored, deflate, bzip2, zstd and xz; files in others are missing for TensorStore
_ENCRYPTED = 1  # a bit of a zip entry's flags
_OF_MACOS = "__MACOSX"  # the folder of attributes that macOS puts beside the one that is zipped


class Store(Protocol):
    """Where the files of a zarr lie."""

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None if there is none."""
        ...

    def folders(self, path: str) -> list[str]:
        """The names of the folders in a folder, sorted."""
        ...

    def spec(self, path: str) -> dict[str, Any]:
        """A folder as a key-value store of TensorStore."""
        ...


class Folder:
    """A directory that holds a zarr."""

    def __init__(self, path: str) -> None:
        """Takes a directory.

        Args:
          path: its path.
        """
        self._path = path

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None if there is none."""
        try:
            with open(os.path.join(self._path, path), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def folders(self, path: str) -> list[str]:
        """The names of the folders in a folder, sorted."""
        with os.scandir(os.path.join(self._path, path)) as entries:
            return sorted(entry.name for entry in entries if os.path.isdir(entry.path))

    def spec(self, path: str) -> dict[str, Any]:
        """A folder as a key-value store of TensorStore."""
        return {"driver": "file", "path": paths.for_tensorstore(os.path.join(self._path, path))}


class Zip:
    """A zip file that holds a zarr, at its root or in its one folder."""

    def __init__(self, path: str) -> None:
        """Takes a zip file.

        Args:
          path: its path.

        Raises:
          StorageError: if it holds a file twice, or in a way that TensorStore does not read: it takes both for missing
            or damaged.
        """
        self._path = path
        with zipfile.ZipFile(path) as file:
            entries = file.infolist()
        self._names = frozenset(entry.filename for entry in entries)
        anew = "unpack it, and zip it anew without compression"
        strange = [one for one in entries if one.compress_type not in ZIP_METHODS or one.flag_bits & _ENCRYPTED]
        if strange:
            how = f"in zip's method {strange[0].compress_type}"
            how = "encrypted" if strange[0].flag_bits & _ENCRYPTED else how
            raise StorageError(f"{path}: its {strange[0].filename} is stored {how}, which is not read; {anew}")
        if len(self._names) < len(entries):
            twice = Counter(entry.filename for entry in entries).most_common(1)[0][0]
            raise StorageError(f"{path}: it holds {twice} twice, as if written in several steps; {anew}")
        tops = {name.split("/")[0] for name in self._names} - {_OF_MACOS}
        alone = len(tops) == 1 and next(iter(tops)) not in self._names
        self._root = f"{next(iter(tops))}/" if alone else ""

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None if there is none."""
        name = self._root + path
        if name not in self._names:
            return None
        with zipfile.ZipFile(self._path) as file:
            return file.read(name)

    def folders(self, path: str) -> list[str]:
        """The names of the folders in a folder, sorted."""
        start = self._root + (f"{path}/" if path else "")
        inside = (name[len(start) :] for name in self._names if name.startswith(start))
        return sorted({name.split("/")[0] for name in inside if "/" in name})

    def spec(self, path: str) -> dict[str, Any]:
        """A folder as a key-value store of TensorStore."""
        start = self._root + (f"{path}/" if path else "")
        return {"driver": "zip", "base": {"driver": "file", "path": paths.for_tensorstore(self._path)}, "path": start}


class Node(NamedTuple):
    """A zarr array or group.

    Attributes:
      name: its name in messages.
      store: where its files lie.
      path: its path in the store; "" at the root.
      version: zarr's version, 2 or 3.
      group: whether it is a group.
      metadata: its metadata document.
      attributes: what its writer says of it.
    """

    name: str
    store: Store
    path: str
    version: int
    group: bool
    metadata: Mapping[str, Any]
    attributes: Mapping[str, Any]

    def child(self, path: str) -> "Node":
        """A node in this group.

        Args:
          path: its path from here, "a" or "a/b".

        Returns:
          The node.

        Raises:
          StorageError: if there is none, or the path leads out of the group.
        """
        if ".." in path.split("/"):
            raise StorageError(
                f"{self.name}: its entry {path} lies outside of it, which is not followed; open that path"
            )
        inner = "/".join(part for part in (self.path, *path.split("/")) if part not in ("", "."))
        found = node_at(f"{self.name}/{path.strip('/')}", self.store, inner)
        if found is None:
            raise StorageError(f"{self.name}: there is no {path} in it; it holds {listed(self)}")
        return found

    def children(self) -> "Iterator[Node]":
        """The nodes directly in this group, by name."""
        for folder in self.store.folders(self.path):
            inner = "/".join(part for part in (self.path, folder) if part)
            found = node_at(f"{self.name}/{folder}", self.store, inner)
            if found is not None:
                yield found


def node_at(name: str, store: Store, path: str) -> Node | None:
    """The zarr array or group in a folder.

    Args:
      name: its name in messages.
      store: where its files lie.
      path: the folder's path in the store; "" for its root.

    Returns:
      The node; None if there is none.

    Raises:
      StorageError: if its metadata are damaged.
    """

    def document(file: str) -> dict[str, Any] | None:
        text = store.read(f"{path}/{file}" if path else file)
        if text is None:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{name}: its {file} is damaged: {error}; take an undamaged copy") from error
        if not isinstance(found, dict) or not isinstance(found.get("attributes") or {}, dict):
            raise StorageError(f"{name}: its {file} is damaged: it is no JSON object; take an undamaged copy")
        return found

    metadata = document("zarr.json")
    if metadata is not None:
        group = metadata.get("node_type") == "group"
        return Node(name, store, path, 3, group, metadata, metadata.get("attributes") or {})
    for file, group in ((".zarray", False), (".zgroup", True)):
        metadata = document(file)
        if metadata is not None:
            return Node(name, store, path, 2, group, metadata, document(".zattrs") or {})
    return None


def listed(group: Node) -> str:
    """What a group holds, in words: the paths of its images and arrays, from the group.

    Args:
      group: the group.

    Returns:
      The first paths, with commas; "nothing" if there is none.
    """
    names = []
    start = len(group.name) + 1
    for node in _images(group, {_place(group)}):
        if len(names) == MOST_LISTED:
            return f"{', '.join(names)}, ..."
        names.append(node.name[start:])
    return ", ".join(names) or "nothing"


def _images(group: Node, seen: set[str]) -> Iterator[Node]:
    """The arrays below a group, and the groups that are images, whose arrays are its levels; links back end there."""
    for node in group.children():
        if node.group and _place(node) in seen:
            continue
        seen.add(_place(node))
        if node.group and not multiscales(node):
            yield from _images(node, seen)
        else:
            yield node


def _place(node: Node) -> str:
    """The place of a node in its store, the same by whichever link it is reached."""
    return node.store.spec(node.path)["path"]


def multiscales(group: Node) -> list[Mapping[str, Any]]:
    """The images of a group as OME-Zarr describes them.

    Args:
      group: the group.

    Returns:
      Its "multiscales"; [] if it has none.
    """
    return ome(group).get("multiscales") or []


def ome(group: Node) -> Mapping[str, Any]:
    """What OME-Zarr says of a group: from version 0.5 on under "ome", before at the top.

    Args:
      group: the group.

    Returns:
      The attributes.
    """
    return group.attributes.get("ome") or group.attributes


def find(path: str, inside: str) -> Node:
    """The zarr array or group that a path names.

    Args:
      path: path of a directory or a zip file.
      inside: path from there to the node; "" for the file's own.

    Returns:
      The node.

    Raises:
      StorageError: if there is none.
    """
    folder = os.path.isdir(path)
    store: Store = Folder(path) if folder else Zip(path)
    root = node_at(path, store, "")
    if root is None:
        what = "a directory without zarr.json or .zarray" if folder else "a zip file without zarr.json or .zarray"
        raise StorageError(f"{path}: {what} is not a zarr array")
    return root.child(inside) if inside else root
