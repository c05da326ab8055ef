"""Dense evaluation of a trained net: `python -m experiments.dense_eval --workdir=DIR`.

Makes larger scenes from the examples of a split, compares crops with dense evaluation on them, and writes table.md,
result.json, pictures and report.html to DIR/dense_eval. With `--protocol=grid` it tests the net on whole pictures
instead, at several scales, by crops, densely and by both, as the VGG paper does, and writes to DIR/grid. With
`--image=FILE` it evaluates the net densely on an image of yours, of any size and in any format that is read, tile by
tile, and continues an evaluation that was stopped: into DIR/dense_eval, with pictures and a page, or into a map that
other programs open: `--image=slide.svs --output=map.ome.zarr --detections=found.geojson`. `--images='slides/*.tif'`
takes several, and `--dry_run` says what it would do. `--weights=net.onnx --image=photo.jpg` takes a net of another
framework, and needs no run.
"""

import cnn.commands  # noqa: F401  first: from here on a signal ends the command in one line

# isort: split
import os
import types
from typing import TYPE_CHECKING

from absl import app

from cnn.commands import program, weights
from cnn.protocols.progress import Progress
from experiments.dense_evaluation import grid, image, image_flags, images, scenes, shared

if TYPE_CHECKING:
    from cnn.runs.checkpoint import Run


def main() -> None:
    """Loads the run and evaluates its net on scenes, on pictures, or on one picture."""
    _check_flags()
    with Progress() as progress:
        kind = _kind()
        progress.stage(f"loading {weights.WEIGHTS.value or f'the run in {shared.path(shared.WORKDIR)}'}")

        # Imported here so that --help and errors in flags respond at once.
        from cnn.runtime import compiler, process, processes

        processes.start(*(flag.value for flag in shared.PROCESSES))
        compiler.cache_compilations(shared.COMPILATION_CACHE.value)
        if not image_flags.one_or_several():  # a stream with freed memory kept would exceed its memory limit
            process.keep_memory()
        run = _imported() if weights.WEIGHTS.value else _trained()
        folder = run.workdir or os.path.splitext(os.path.basename(weights.WEIGHTS.value))[0]
        default = "grid" if kind is grid else "images" if kind is images else "dense_eval"
        output = shared.path(shared.OUTPUT) or os.path.join(folder, default)
        if kind is image or image_flags.DRY_RUN.value:  # a map has a lock of its own, and pages appear whole
            kind.evaluate(run, output, progress)
            return
        with processes.alone(output, f"--output={output}"):
            kind.evaluate(run, output, progress)


def _trained() -> "Run":
    """The run of --workdir."""
    from cnn.runs import checkpoint

    return checkpoint.load_run(shared.path(shared.WORKDIR), net=shared.NET.value, which=shared.CHECKPOINT.value)


def _imported() -> "Run":
    """The net of --weights, which needs no workdir."""
    from cnn.exchange import workdirs

    found = weights.read({"net.name": shared.NET.value} if shared.NET.value else {}, image=True)
    print(weights.describe(found), flush=True)
    return workdirs.as_run(found.classifier)


def _kind() -> types.ModuleType:
    """The module of the evaluation that the flags ask for."""
    if image_flags.one_or_several():
        return images if image_flags.several() else image
    return grid if shared.PROTOCOL.value == "grid" else scenes


def _check_flags() -> None:
    """Raises `absl.app.UsageError` if a flag is missing, or flags contradict each other."""
    given = [name for name in weights.given() if name != "--channels"]
    if weights.WEIGHTS.value:
        if shared.WORKDIR.value or not image_flags.one_or_several():
            raise app.UsageError(
                "--weights=FILE goes with --image=FILE or --images=..., and without --workdir (main.py --mode=import)"
            )
        if shared.CHECKPOINT.present:
            raise app.UsageError("--checkpoint is for --workdir=DIR, not for --weights; leave one out")
    elif given:
        raise app.UsageError(f"{', '.join(given)}: for --weights=FILE alone")
    elif not shared.WORKDIR.value:
        raise app.UsageError(
            "--workdir=DIR is missing: the directory of a run trained by main.py --workdir=DIR; or --weights=FILE"
        )
    image_flags.check()
    if shared.PROCESSES[0].value and (not shared.IMAGE.value or image_flags.DRY_RUN.value):
        raise app.UsageError("--coordinator is for --image=FILE: several processes write one map")
    if not image_flags.one_or_several():
        shared.check_directory()
        if shared.SCALES.present and shared.PROTOCOL.value != "grid":
            raise app.UsageError("--scales is for --protocol=grid; add that, or leave the flag out")
    for protocol, module in (("scenes", scenes), ("grid", grid)):
        given = ", ".join(shared.given(module.FLAGS))
        if given and image_flags.one_or_several():
            raise app.UsageError(f"{given} is for --protocol={protocol}, not for --image; leave one out")
        if given and shared.PROTOCOL.value != protocol:
            raise app.UsageError(f"{given} is for --protocol={protocol}; add that, or leave the flag out")
    grid.check()


if __name__ == "__main__":
    program.start(main, "--workdir=DIR", lambda: "stopped; the same command goes on with maps that were begun")
