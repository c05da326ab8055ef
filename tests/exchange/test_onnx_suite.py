"""ONNX's own conformance suite: all that a chain of layers can express agrees, the rest is refused with a reason."""

import collections

import pytest

from tests.exchange import onnx_suite


def run(cases, tmp_path):
    """The verdicts of some cases, counted and printed."""
    verdicts = [onnx_suite.judge(case, tmp_path) for case in cases]
    counts = collections.Counter(one.verdict for one in verdicts)
    print(dict(counts))
    assert [one for one in verdicts if one.verdict == "disagrees"] == []
    assert [one for one in verdicts if one.verdict == "refused" and (not one.reason or "\n" in one.reason)] == []
    return verdicts, counts


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # NumPy's, while the suite makes its cases
def test_single_operators(tmp_path):
    """Written-out forms ("_expanded") count beside the operators themselves."""
    verdicts, counts = run(onnx_suite.node_cases(), tmp_path)
    own = [one.name for one in verdicts if one.verdict == "agrees" and "_expanded" not in one.name]
    print(len(own), "of single operators, the others written out")
    assert len(own) >= 78 and counts["agrees"] >= 138


@pytest.mark.slow
def test_converted_from_pytorch(tmp_path):
    cases = [
        case for kind in ("pytorch-converted", "pytorch-operator", "simple") for case in onnx_suite.file_cases(kind)
    ]
    _, counts = run(cases, tmp_path)
    assert counts["agrees"] >= 48


@pytest.mark.slow
def test_some_of_pytorchs(tmp_path):
    """A pool, a depthwise convolution, a slope for each channel, and what has no layer."""
    names = ("test_AvgPool2d_stride", "test_Conv2d_depthwise_strided", "test_PReLU_2d", "test_Conv3d", "test_GLU")
    verdicts, _ = run([case for case in onnx_suite.file_cases("pytorch-converted") if case.name in names], tmp_path)
    found = {one.name: one.verdict for one in verdicts}
    assert found == {**dict.fromkeys(names[:3], "agrees"), **dict.fromkeys(names[3:], "refused")}
