"""`--mode=import` and `--mode=export`: nets from the files of other frameworks, and files for other runtimes."""

import shlex
from collections.abc import Mapping
from typing import Any

from absl import app, flags

from cnn.commands import flags as shared
from cnn.commands import weights

TO = shared.define_path("to", None, "With --mode=export: the file to write: .onnx, .stablehlo or .safetensors.")
DENSE = flags.DEFINE_bool("dense", False, "With --mode=export: for images of any size; the scores are a map.")
STRIDE = flags.DEFINE_integer(
    "stride", None, "With --dense: stride of the map, pixels; by default the net's native stride.", lower_bound=1
)


def check(mode: str) -> None:
    """Raises `absl.app.UsageError` if a flag of an import or an export is missing, or given to another mode.

    Args:
      mode: the command's mode.
    """
    wrong = [f"--{holder.name}" for holder in (TO, DENSE, STRIDE) if flags.FLAGS[holder.name].present]
    if mode != "export" and wrong:
        raise app.UsageError(f"{', '.join(wrong)}: for --mode=export alone")
    wrong = (["--weights"] if weights.WEIGHTS.value else []) + weights.given()
    if mode != "import" and wrong:
        raise app.UsageError(f"{', '.join(wrong)}: for --mode=import alone")
    if mode == "import" and not weights.WEIGHTS.value:
        raise app.UsageError("--mode=import needs --weights=FILE: .onnx, .safetensors, .keras, .h5 or .caffemodel")
    if mode == "export" and not TO.value:
        raise app.UsageError("--mode=export needs --to=FILE: .onnx, .stablehlo or .safetensors")


def import_net(overrides: Mapping[str, Any], workdir: str) -> None:
    """Reads --weights, and writes a workdir that every command takes.

    Args:
      overrides: as for `cnn.commands.weights.read`.
      workdir: directory to write to.
    """
    from cnn.exchange import workdirs
    from cnn.runs import config as config_lib

    config_lib.check_workdir(workdir)
    if config_lib.holds_run(workdir):  # before the work
        raise ValueError(f"--workdir={workdir}: holds a run already; choose another --workdir")
    found = weights.read(overrides)
    print(weights.describe(found), flush=True)
    workdirs.write(workdirs.as_run(found.classifier, workdir), workdir, found.origin)
    folder = shlex.quote(workdir)
    print(f"imported to {workdir}; python -m experiments.dense_eval --workdir={folder} --image=FILE runs it densely")


def export_net(run: Any) -> None:
    """Writes a run to --to.

    Args:
      run: the trained net (`cnn.runs.checkpoint.load_run`).
    """
    from cnn import exchange
    from cnn.windows import shape_text

    written = exchange.save(TO.value, run, dense=DENSE.value, stride=STRIDE.value)
    if isinstance(written, str):  # the lines of PyTorch that load safetensors
        print(f"wrote {TO.value}; in PyTorch:\n\n{written}")
        return
    said = written.metadata
    shape = shape_text(said["cnn.window"])
    scores = f"a map of scores, stride {shape_text(said['cnn.stride'])}" if said["cnn.stride"] else "scores"
    print(f"wrote {written.path}: images of {said['cnn.sizes']} -> {scores}; window {shape}")
    print(
        "checked by {} on images {}: differs by at most {:.1e} of the largest score".format(
            written.runtime, ", ".join(shape_text(size) for size in written.sizes), written.difference
        )
        if written.runtime
        else "not checked: onnxruntime is not installed"
    )
