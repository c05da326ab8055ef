"""`load` and `save`: one call for each direction, whatever the file."""

import os
from collections.abc import Sequence
from typing import Any

from cnn.exchange import files, preprocessing, reading, workdirs
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.preprocessing import Preprocessing
from cnn.exchange.reading import Path
from cnn.nets import Net
from cnn.runs import checkpoint
from cnn.runs.checkpoint import Run
from cnn.windows import GeometryError

WRITTEN = (".onnx", ".stablehlo", ".safetensors")  # suffixes of files that are written


def load(
    path: Path,
    *,
    net: Net | str | None = None,
    structure: Path | None = None,
    output: str | None = None,
    preprocess: Path | Sequence[Path] = (),
    mean_file: Path | None = None,
    image_size: int | Sequence[int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    channels: str | None = None,
    class_names: Sequence[str] | None = None,
    output_activation: str | None = None,
    check: bool = True,
) -> Run:
    """Loads a trained classifier: from a file of another framework, or from the workdir of a run.

    Args:
      path: .onnx, .safetensors, .keras, .h5 or .caffemodel, or the directory of a run. Pickles (.pth, .pt) are refused,
        with the lines that convert them.
      net, structure, output, preprocess, mean_file, check: see `cnn.exchange.reading.read`.
      image_size: (H, W) of the images that the net was trained on, or one number, pixels, where it is open.
      mean, std: of the images, in units of the full range, for each channel or for all.
      channels: "rgb", "bgr" or "grey": the order in which the net takes channels.
      class_names: one for each class, in the order of the scores.
      output_activation: "softmax" or "sigmoid", where the file does not say.

    Returns:
      The run, with an empty workdir and step 0 if it comes from a file.

    Raises:
      ExchangeError: if the file is not read wholly and rightly; one line with the layer or tensor and the way out.
    """
    given = preprocessing.of(
        "exchange.load",
        image_size=image_size,
        mean=mean,
        std=std,
        channels=channels,
        class_names=class_names,
        output_activation=output_activation,
    )
    options: dict[str, Any] = dict(
        net=net, structure=structure, output=output, preprocess=preprocess, mean_file=mean_file, given=given
    )
    if files.kind_of(path) == "run":
        if any(value not in (None, (), Preprocessing()) for value in options.values()):
            raise ExchangeError(f"{os.fspath(path)}: is a run, which knows its net and images; leave the options out")
        return checkpoint.load_run(os.fspath(path))
    return workdirs.as_run(reading.read(path, **options, check=check).classifier)


def save(path: Path, run: Any, *, dense: bool = False, stride: int | tuple[int, int] | None = None) -> Any:
    """Writes a trained classifier for other runtimes, and checks what was written.

    Args:
      path: the file; its suffix says what it becomes: .onnx, .stablehlo (a program for CPU, CUDA, ROCm and TPU) or
        .safetensors (weights under PyTorch's names).
      run: the classifier: what `load` or `cnn.checkpoint.load_run` returns.
      dense: .onnx and .stablehlo: whether it takes images of any size and gives a map of scores.
      stride: with `dense`: stride of the map, pixels; None: the net's native stride.

    Returns:
      What was written and how far it was checked, a `cnn.exchange.written.Written`; for .safetensors the lines of
      PyTorch that load the file.

    Raises:
      ExchangeError: if the file has another suffix, or a layer cannot be written; nothing is left then.
    """
    missing = [
        name for name in ("net", "variables", "image_shape", "mean", "std", "class_names") if not _has(run, name)
    ]
    if missing:
        raise ExchangeError(
            f"exchange.save: takes a run, as load or checkpoint.load_run gives it; "
            f"a {type(run).__name__} has no {missing[0]}"
        )
    try:
        return _save(path, run, dense, stride)
    except (GeometryError, TypeError) as error:
        raise ExchangeError(f"{os.fspath(path)}: {' '.join(str(error).split())}") from error


def _has(run: Any, name: str) -> bool:
    try:
        return hasattr(run, name)
    except Exception:  # Flax's modules raise errors of their own
        return False


def _save(path: Path, run: Any, dense: bool, stride: int | tuple[int, int] | None) -> Any:
    """Writes the file that a suffix asks for."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in WRITTEN:
        raise ExchangeError(f"{os.fspath(path)}: files that are written end with {', '.join(WRITTEN)}")
    if stride is not None and not dense:
        raise ExchangeError(
            f"{os.fspath(path)}: a stride (={stride}) is that of a dense form; add dense=True (--dense)"
        )
    if suffix == ".safetensors":
        from cnn.exchange.torch_weights import state_dict

        if dense:
            raise ExchangeError(f"{os.fspath(path)}: safetensors hold weights, not a form of the net; leave dense out")
        return state_dict.write(path, run)
    if suffix == ".onnx":
        from cnn.exchange.onnx_out import write as onnx_write

        return onnx_write.write(path, run, dense=dense, stride=stride)
    from cnn.exchange import stablehlo_write

    return stablehlo_write.write(path, run, dense=dense, stride=stride)
