"""Runs the scenes protocol and writes its report: numbers, table and pictures."""

import os
import time
from collections.abc import Sequence
from typing import Any

from cnn import data
from cnn.data.readers import Split
from cnn.protocols import on_scenes
from cnn.protocols import scenes as scenes_lib
from cnn.protocols.on_scenes import SceneRow
from cnn.protocols.progress import Progress
from cnn.reports import image_pictures, run_pictures, run_report, scenes_tables, tables
from cnn.runs import logs
from cnn.runs.checkpoint import Run
from cnn.runtime import own_code, whole
from cnn.training.evaluate import load_data

PICTURES = 4  # scenes whose score map is drawn: the first ones
SAMPLES = 24  # scenes in the overview picture


def run_scenes(
    run: Run,
    split: Split,
    output_dir: str,
    *,
    scenes: int,
    size: int,
    seed: int,
    strides: Sequence[int] | None = None,
    batch_size: int = 50,
    timing_images: int = 50,
    split_name: str = "test",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Builds scenes from a split, classifies them by every method, prints the table and writes everything.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`).
      split: the examples that the scenes are made from.
      output_dir: receives result.json, table.md, scenes.png, scene_0.png, ... and report.html; made if missing.
      scenes: number of scenes.
      size: height and width of a scene, pixels.
      seed: seed of the scenes (`cnn.protocols.scenes.build`).
      strides: strides of the dense runs, pixels; None: the native stride and 1
        (`cnn.protocols.on_scenes.evaluate_scenes`).
      batch_size: scenes in one call to the device.
      timing_images: scenes in the batch that is timed.
      split_name: for the record.
      progress: says what is being done; None: one that prints to standard error.

    Returns:
      The contents of result.json: rows, agreement, savings, best_dense, what was run, versions, device and commit.

    Raises:
      ValueError: if a number does not fit; a scene too small for its object says which size would do.
      GeometryError: if the net cannot slide over a scene.
    """
    start, progress = time.monotonic(), progress or Progress()
    progress.stage(f"making {scenes:,} scenes of {size}x{size} pixels")
    made = scenes_lib.build(split.images, split.labels, count=scenes, seed=seed, size=size)
    options = {"strides": strides, "batch_size": batch_size, "timing_images": timing_images}
    found = on_scenes.evaluate_scenes(run, made.images, made.labels, **options, progress=progress)
    config: Any = run.config
    facts = {
        "net": own_code.short(config.net.name),
        "data": own_code.short(config.data.name),
        "background": config.train.background,
        "split": split_name,
        "scenes": scenes,
        "size": size,
        "seed": seed,
        "window": list(run.image_shape[:2]),
        "steps": run.step,
        "examples_in_split": len(split.labels),
        "strokes_per_scene": float(made.strokes.mean()),
    }
    result = {
        **facts,
        "at_object": on_scenes.accuracy_at_objects(run, made),
        "rows": [row._asdict() for row in found.rows],
        "best_dense": _verdict(found.rows),
        "agreement": found.agreement._asdict(),
        "predicted_saving": found.predicted_saving,
        "measured_saving": found.measured_saving,
        "values_saving": on_scenes.values_saving(run, size),
        "timing_images": found.timing_images,
        "seconds": round(time.monotonic() - start, 1),
        **logs.environment(),
    }
    os.makedirs(output_dir, exist_ok=True)
    logs.write_json(os.path.join(output_dir, "result.json"), result)
    document = scenes_tables.document(result)
    with whole.written(os.path.join(output_dir, "table.md")) as part, open(part, "w") as file:
        file.write(tables.document_markdown(document))
    print(tables.document_text(document), flush=True)
    progress.stage("drawing")
    run_pictures.samples_picture(
        os.path.join(output_dir, "scenes.png"),
        made.images[:SAMPLES],
        made.labels[:SAMPLES],
        run.class_names,
        title=f"scenes of {size}x{size} pixels from the {split_name} split of {result['data']}",
    )
    for i in range(min(PICTURES, scenes)):
        path = os.path.join(output_dir, f"scene_{i}.png")
        stride = None if strides is None else min(strides)
        label = int(made.labels[i])
        image_pictures.map_picture(path, run, made.images[i], stride or 1, label, made.boxes[i], f"scene {i}")
    print(f"wrote {run_report.write_dense_page(output_dir)}", flush=True)
    return result


def load_split(run: Run, name: str) -> Split:
    """Reads a split of the data set that a run was trained on.

    Args:
      run: a trained net.
      name: "train", "validation" or "test".

    Returns:
      The split.

    Raises:
      DataError: (a ValueError) if the data cannot be found, has other classes or sizes than it had, or has no examples.
    """
    config: Any = run.config
    dataset = load_data(run)
    split: Split = getattr(dataset, name)
    if not len(split.labels):
        raise data.DataError(
            f"the {name} split of {dataset.name!r} has no examples (data.validation_fraction="
            f"{config.data.validation_fraction}); take another split"
        )
    return split


def _verdict(rows: Sequence[SceneRow]) -> dict[str, Any]:
    """The most accurate dense row, and whether its interval lies wholly above those of the simplest methods."""
    best = max((row for row in rows if row.method.startswith("dense")), key=lambda row: row.accuracy)
    simple = [row for row in rows if row.method in (on_scenes.RESIZE, on_scenes.CENTRE_CROP)]
    return {**best._asdict(), "interval_above": {row.method: best.low > row.high for row in simple}}
