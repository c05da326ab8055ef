"""Damaged and hostile ONNX files: one line each, no other file read, no memory asked for."""

import resource

import pytest

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_in import read as onnx_read
from tests.exchange import onnx_hostile


def refusal(path, data):
    """What the refusal of a file says; empty if it is read."""
    path.write_bytes(data)
    try:
        onnx_read.read(path)
    except ExchangeError as error:
        assert "\n" not in str(error) and str(error).startswith(str(path)), str(error)
        return str(error)
    return ""


def test_files_that_ask_for_others_or_for_memory(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "short.bin").write_bytes(b"abc")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, data, says in onnx_hostile.hostile(folder):
        assert says in refusal(folder / "model.onnx", data), name
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB


@pytest.mark.parametrize("count", [40, pytest.param(120, marks=pytest.mark.slow)])
def test_mutations_are_read_or_refused_in_one_line(count, tmp_path):
    good = onnx_hostile.small_net()
    assert refusal(tmp_path / "good.onnx", good) == ""
    said = [refusal(tmp_path / "bad.onnx", data) for data in onnx_hostile.mutations(good, count, seed=count)]
    assert sum(map(bool, said)) > count / 2
