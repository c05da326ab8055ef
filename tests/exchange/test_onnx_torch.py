"""Nets of PyTorch through both of its exporters, against PyTorch's own scores."""

import pathlib

import numpy as np
import pytest

from cnn.exchange import prove
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_in import read as onnx_read
from tests.helpers import run_python

pytest.importorskip("torch", reason="needs PyTorch: python -m pip install -r requirements-peers.txt")
HERE = pathlib.Path(__file__).parent
REFUSED = {"uneven_pool": "GatherND"}  # what has no layer, and what the refusal names
# The default exporter takes seconds for each net; these are those of which it writes other operators.
FEW = ("normalised", "response", "padded_mean_pool", "reflect", "residual")


@pytest.mark.long
@pytest.mark.parametrize(("exporter", "names"), [("legacy", ()), ("dynamo", FEW)])
def test_exports_agree_with_pytorch(exporter, names, tmp_path):
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="the default exporter needs onnxscript")
    done = run_python(HERE / "torch_nets.py", tmp_path, exporter, *names)
    assert done.returncode == 0, done.stderr
    files = sorted(tmp_path.glob("*.onnx"))
    assert len(files) >= (len(names) or 28)
    for path in files:
        case = np.load(path.with_suffix(".npz"))
        if path.stem in REFUSED:
            with pytest.raises(ExchangeError, match=REFUSED[path.stem]):
                onnx_read.read(path)
            continue
        read, reading = onnx_read.read(path), onnx_read.decode(path)
        images, scores = prove.as_images(reading, case["images"]), prove.as_scores(reading, case["scores"])
        assert prove.compare(read, images, scores, path.stem, reading.chain.head) < 2e-6, path.stem
