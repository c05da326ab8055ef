"""ONNX's own conformance cases, run through the reader: each agrees, disagrees, or is refused with a reason."""

import pathlib
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test import loader

from cnn.exchange import prove
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_in import read as onnx_read

RTOL, ATOL = 1e-3, 1e-7  # the suite's own
HEADS = {"": lambda x: x, "Softmax": jax.nn.softmax, "LogSoftmax": jax.nn.log_softmax, "Sigmoid": jax.nn.sigmoid}


class Case(NamedTuple):
    """A model with what goes in and what must come out."""

    name: str
    model: Any
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


class Verdict(NamedTuple):
    """What became of a case: "agrees", "disagrees" or "refused", and why."""

    name: str
    verdict: str
    reason: str


def node_cases() -> Iterator[Case]:
    """Every case of a single operator whose values are plain arrays of numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of values that the cases choose to overflow
        cases = loader.load_model_tests(kind="node")
    for case in cases:
        inputs, outputs = case.data_sets[0]
        if case.model is not None and all(isinstance(one, np.ndarray | np.generic) for one in [*inputs, *outputs]):
            yield Case(case.name, case.model, [np.asarray(x) for x in inputs], [np.asarray(x) for x in outputs])


def file_cases(kind: str) -> Iterator[Case]:
    """Every case of a folder of the suite: "pytorch-converted", "pytorch-operator", "simple"."""
    for case in loader.load_model_tests(kind=kind):
        folder = pathlib.Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        vectors = folder / "test_data_set_0"
        found = [_arrays(vectors, f"{what}_*.pb") for what in ("input", "output")]
        if None not in found:
            yield Case(case.name, model, *found)


def _arrays(folder: pathlib.Path, pattern: str) -> list[np.ndarray] | None:
    try:
        tensors = [onnx.load_tensor(path) for path in sorted(folder.glob(pattern))]
        return [numpy_helper.to_array(one) for one in tensors]
    except Exception:
        return None  # sequences and optional values


def judge(case: Case, folder: pathlib.Path) -> Verdict:
    """Reads a case and compares it with its expected output.

    What a case gives as further inputs (kernels, scales) is what a file of a trained net holds as tensors, so it is
    made one; tensors that a case gives as inputs stay.
    """
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    held = {one.name for one in model.graph.initializer}
    names = [one.name for one in model.graph.input if one.name not in held]
    for name, array in list(zip(names, case.inputs, strict=False))[1:]:
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    if not case.inputs:
        return Verdict(case.name, "refused", "takes no input")
    try:
        read, reading = onnx_read.read(path), onnx_read.decode(path)
    except ExchangeError as error:
        return Verdict(case.name, "refused", str(error).removeprefix(f"{path}: "))
    images, wanted = prove.as_images(reading, case.inputs[0]), prove.as_scores(reading, case.outputs[0])
    scores = np.asarray(HEADS[reading.chain.head](read.net.apply(read.variables, images, train=False)))
    if scores.shape != wanted.shape:
        return Verdict(case.name, "disagrees", f"{scores.shape} for {wanted.shape}")
    largest = float(np.abs(scores - wanted)[np.isfinite(wanted)].max(initial=0))
    close = np.allclose(scores, wanted, RTOL, ATOL, equal_nan=True)
    return Verdict(case.name, "agrees" if close else "disagrees", f"{largest:.1e} of {np.abs(wanted).max():.3g}")
