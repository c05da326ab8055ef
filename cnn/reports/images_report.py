"""Several images, run densely: a map and a page for each, one table of all; one that fails stops no other."""

import glob
import hashlib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cnn.dense.streaming.journal import journal_path, read_journal
from cnn.dense.streaming.map_files import working_path
from cnn.images.errors import DataError, StorageError
from cnn.images.files import SUFFIXES
from cnn.images.paths import printable, say_left_out, zarr_metadata
from cnn.protocols.progress import Progress
from cnn.reports import html, image_report, run_report
from cnn.reports.html import Links, Numbers, Section
from cnn.reports.html_cells import Cell
from cnn.reports.markdown import markdown
from cnn.reports.streamed import Asked
from cnn.reports.tables import Table
from cnn.runs import logs
from cnn.runs.checkpoint import Run
from cnn.runtime import whole
from cnn.windows import shape_text

TABLE = "One row an image: the class with the largest mean probability over all windows, and that mean."
WRITTEN = (".md", ".json", ".html", ".csv", ".geojson")  # what this program writes beside maps, and no image
TILE = 256  # scores along each axis of a tile, the same for all images, so that they share one program
WORKING = working_path("")


def find(text: str) -> list[str]:
    """The images that --images names.

    Args:
      text: a file, a folder, a pattern, or several of these with commas between them.

    Returns:
      Their paths, those of a folder or a pattern in order of their names, each once.

    Raises:
      DataError: if a part names nothing.
    """
    parts = [text] if os.path.exists(os.path.expanduser(text)) else text.split(",")
    found: dict[str, str] = {}
    for part in filter(None, (os.path.expanduser(part.strip()) for part in parts)):
        paths = _expand(part)
        if not paths:
            what = "a folder without images" if os.path.isdir(part) else "there is no such file, and none that matches"
            what += "; for a comma in a name write ?, which fits any character" if "," in text else ""
            raise DataError(f"--images: {part}: {what}")
        for path in paths:
            found.setdefault(os.path.abspath(path), path)
    if not found:
        raise DataError(f"--images={text}: names no images")
    return list(found.values())


def _expand(part: str) -> list[str]:
    if os.path.isdir(part) and zarr_metadata(part) is None:
        names = [name for name in sorted(os.listdir(part)) if not name.startswith(".")]
        images = [os.path.join(part, name) for name in names if name.lower().endswith(SUFFIXES)]
        images = [path for path in images if not _is_map(path)]
        others = [name for name in names if not name.lower().endswith((*SUFFIXES, *WRITTEN))]
        say_left_out(part, others, "are no images by their names; name them, or a pattern")
        return images
    if os.path.exists(part.partition("::")[0]):
        return [part.rstrip(os.sep)]
    hits = sorted(path.rstrip(os.sep) for path in glob.glob(part, recursive=True))
    return [path for path in hits if not _is_map(path) and not path.lower().endswith(WRITTEN)]


def _is_map(path: str) -> bool:
    """Whether a file is a map, or what a .tif is written from, of an earlier run into the same folder: no image."""
    path = path.rstrip(os.sep)
    return any(os.path.exists(str(journal_path(name))) for name in (path, path.removesuffix(WORKING)))


def map_names(paths: Sequence[str], suffix: str) -> list[str]:
    """A name for the map of each image, no two alike on any file system.

    Args:
      paths: the images.
      suffix: of the maps, "zarr".

    Returns:
      "slide.svs.zarr" for each; where two images have the same name, with a mark of the folder.
    """
    names = [image_report.result_name(path) for path in paths]
    folded = [name.casefold() for name in names]
    for i, path in enumerate(paths):
        if folded.count(folded[i]) > 1:
            mark = hashlib.sha256(os.path.abspath(path).encode()).hexdigest()[:6]
            names[i] = f"{names[i]}-{mark}"
    return [f"{name}.{suffix}" for name in names]


def run_images(
    run: Run, paths: Sequence[str], output_dir: str, asked: Asked, suffix: str, progress: Progress
) -> list[dict[str, str]]:
    """Runs a net densely over images; maps that were begun are continued.

    Args:
      run: a trained net.
      paths: the images.
      output_dir: receives a map and a page for each, table.md, result.json and report.html.
      asked: what is asked of each; `detections` is "csv" or "geojson", for a file beside each map.
      suffix: of the maps: "zarr", "ome.zarr", "npy" or "tif".
      progress: says what is being done.

    Returns:
      {"image": path, "error": line} of those that failed.

    Raises:
      DataError: if the directory holds results of another kind, or cannot be made.
    """
    results = os.path.join(output_dir, "result.json")
    before = logs.read_json(results) if os.path.exists(results) else {"images": []}
    if "images" not in before:
        raise DataError(f"{output_dir}: its result.json is that of another evaluation; name another directory")
    try:
        os.makedirs(output_dir, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{output_dir}: the directory cannot be made: {error.strerror}; name another") from error
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for i, (path, name) in enumerate(zip(paths, map_names(paths, suffix), strict=True)):
        sink = os.path.join(output_dir, name)
        progress.stage(f"image {i + 1} of {len(paths)}: {path}")
        try:
            rows.append({**image_report.run_map(run, path, sink, of_one(asked, sink), progress), "map": name})
        except Exception as error:  # of any kind: the others are computed whatever is wrong with this one
            image, said = said_of(path, error)
            failed.append({"image": image, "error": said})
            print(f"{image}: failed", file=sys.stderr, flush=True)
    for one in failed:
        print(f"error: {one['image']}: {one['error']}", file=sys.stderr, flush=True)
    if rows or not before["images"]:
        _write(output_dir, rows, failed)
        wrote = f"wrote {output_dir}/table.md, result.json and {run_report.NAME}"
    else:  # as with a flag that fits none of the maps that are there
        wrote = f"{output_dir}/table.md, result.json and {run_report.NAME} are left as they were"
    print(f"{len(rows)} of {len(paths)} images; {wrote}", flush=True)
    return failed


def said_of(path: str, error: Exception) -> tuple[str, str]:
    """What is said of an image that fails.

    Args:
      path: its file.
      error: why it fails.

    Returns:
      (its name, the reason without it), as any file and terminal can hold them.
    """
    name = printable(path)
    kind = "" if isinstance(error, ValueError | OSError | MemoryError) else f"{type(error).__name__}: "
    return name, kind + printable(str(error)).removeprefix(name).lstrip(": ")


def of_one(asked: Asked, sink: str) -> Asked:
    """What is asked of one image of several.

    Args:
      asked: what is asked of each.
      sink: its map.

    Returns:
      The same, with a tile that all images share, but that of its map where a tile of this is done; and its own
      detections.

    Raises:
      StorageError: if what lies beside the map is not its journal.
    """
    begun = None if asked.streaming.get("overwrite") else read_journal(str(journal_path(sink)))
    streaming = {**asked.streaming} if begun and begun["done"] else {**asked.streaming, "tile": TILE}
    return asked._replace(streaming=streaming, detections=f"{sink}.{asked.detections}" if asked.detections else None)


def _write(output_dir: str, rows: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, str]]) -> None:
    """Writes table.md, result.json and report.html."""
    columns, cells = _table(rows)
    text = f"# {len(rows)} images, run densely\n\n{markdown(columns, [[cell.text for cell in row] for row in cells])}"
    if failed:
        text += "\n" + markdown(("image", "error"), [(one["image"], one["error"]) for one in failed])
    with whole.written(os.path.join(output_dir, "table.md")) as part, open(part, "w", encoding="utf-8") as file:
        file.write(text)
    environment = logs.environment()
    drop = environment.keys()
    kept = [{name: value for name, value in row.items() if name not in drop} for row in rows]
    result = {"images": kept, "failed": list(failed), **environment}
    logs.write_json(os.path.join(output_dir, "result.json"), result)
    numbers = {"images": f"{len(rows):,}", "failed": f"{len(failed):,}"}
    numbers["megapixels"] = f"{sum(row['size'][0] * row['size'][1] for row in rows) / 1e6:,.1f}"
    if any("detections" in row for row in rows):
        numbers["detections"] = f"{sum(sum(row.get('detections', {}).values()) for row in rows):,}"
    pages = {os.path.basename(row["image"]): row["map"] + image_report.PAGE_SUFFIX for row in rows}
    sections = [
        Section("Images", [Numbers(numbers), Table(columns, cells, TABLE, lead=1)]),
        Section("Pages", [Links(pages)]),
    ]
    if failed:
        errors = [(one["image"], one["error"]) for one in failed]
        sections.insert(0, Section("Failed", [Table(("image", "error"), errors, "Images without a map.", lead=1)]))
    sections.append(run_report.made(result))
    html.write(os.path.join(output_dir, run_report.NAME), "Images, run densely", sections)


def _table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Cell]]]:
    """The table of all images: titles of its columns, and its cells."""
    found = any("detections" in row for row in rows)
    columns = ["image", "size", "windows", "best class", "its mean", "without a score", "seconds", "MP/s", "map"]
    columns = [*columns[:5], *(["detections"] if found else []), *columns[5:]]
    cells = []
    for row in rows:
        windows = row["windows"][0] * row["windows"][1]
        over = "probabilities" if "probabilities" in row else "shares"
        name, value = row[over][0]
        value = math.nan if value is None else value
        name = name if row["known_windows"] else "none: no window has a score"
        absent = 1 - row["known_windows"] / windows
        count = sum(row.get("detections", {}).values())
        line = [
            Cell(os.path.basename(row["image"])),
            Cell(shape_text(row["size"]), row["size"][0] * row["size"][1]),
            Cell(shape_text(row["windows"]), windows),
            Cell(name),
            Cell(f"{value:.1%}", value),
            *([Cell(f"{count:,}", count)] if found else []),
            Cell(f"{absent:.1%}", absent),
            *_timing(row),
            Cell(row["map"]),
        ]
        cells.append(line)
    return columns, cells


def _timing(row: Mapping[str, Any]) -> tuple[Cell, Cell]:
    """The seconds and the speed of a stream; of a map that an earlier run computed neither is known."""
    if not row["tiles_computed"]:
        return Cell("earlier", math.nan), Cell("earlier", math.nan)
    seconds, rate = row["seconds"], row["megapixels_per_second"]
    return Cell(f"{seconds:.1f}", seconds), Cell(f"{rate:.2f}", rate)
