"""How many programs the protocol grid compiles for pictures of many sizes, what it counts of them, and its report."""

import json
import re

import numpy as np
import pytest

from cnn.protocols import crops as crops_lib
from cnn.protocols import vgg
from cnn.protocols.vgg_options import Options
from cnn.reports import vgg_report
from tests.compilations import Compilations
from tests.protocols.noise import OPTIONS, SIZES, make_pictures, make_run

# Sizes and compilations


@pytest.mark.slow
def test_sizes_do_not_make_compilations_without_padding():
    run = make_run("valid")
    options = Options((8, 11), timing_images=1, batch_size=4)
    # One canvas: aspect ratios from 1.0 to 1.25, excluding the square, all pictures wide.
    few = [(40, 50), (40, 44)] * 4
    many = [(40, 50), *((40, width) for width in range(42, 49))]
    with Compilations() as first:
        assert vgg.evaluate_grid(run, make_pictures(few), options).sizes == 2
    assert first.count > 0
    with Compilations() as second:
        found = vgg.evaluate_grid(run, make_pictures(many, seed=1), options)
    assert found.sizes == 8 and found.canvases == 2 and second.count == 0


@pytest.mark.slow
def test_a_padded_net_is_compiled_for_each_size_up_to_a_limit():
    run, tested = make_run("same"), make_pictures()
    sizes = {crops_lib.scaled_size(size, scale) for size in SIZES for scale in (8, 11)}
    options = Options((8, 11), timing_images=1, max_sizes=len(sizes) - 1)
    message = f"--max_sizes={len(sizes) - 1}: the net is padded.*have {len(sizes)} sizes at --scales=8,11; "
    with pytest.raises(ValueError, match=message + f"--max_sizes={len(sizes)} would do"):
        vgg.evaluate_grid(run, tested, options)
    assert vgg.evaluate_grid(run, tested, options._replace(max_sizes=len(sizes))).canvases == len(sizes)


@pytest.mark.slow
def test_what_is_enlarged_and_what_no_window_sees_is_counted(padded, unpadded):
    for found in (padded, unpadded):
        assert found.enlarged == (0, 0) and found.sizes == 5
        widths = [crops_lib.scaled_size(size, scale) for size in SIZES for scale in (11,)]
        assert found.unseen[1] == tuple(max((size[axis] - 8) % 2 for size in widths) for axis in (0, 1))
    found = vgg.evaluate_grid(make_run("valid"), make_pictures([(9, 9), (30, 30)]), Options((8, 10), timing_images=1))
    assert found.enlarged == (0, 1) and found.unseen == ((0, 0), (0, 0))


# The report


@pytest.mark.slow
def test_report_holds_every_row_and_its_pairs(padded, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(vgg, "evaluate_grid", lambda run, tested, options, progress: padded)
    result = vgg_report.run_grid(make_run("same"), make_pictures(), str(tmp_path), OPTIONS)
    table = (tmp_path / "table.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    rows = [line for line in lines if line[0] in ("8", "11", "all")]
    assert len(rows) == len(padded.rows) == len(result["rows"])
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 80
    shown = [re.split(r"\s{2,}", line)[:5] for line in printed.splitlines()]
    for cells, row in zip(rows, padded.rows, strict=True):
        scale, flip = "all" if len(row.scales) > 1 else str(row.scales[0]), "yes" if row.flip else "no"
        assert cells[:5] == [scale, row.method, f"{row.top1:.2%}", flip, row.averaging]
        assert cells[6] == f"{row.top5:.2%}" and cells[-1] == row.context
        assert cells[:5] in shown
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved["scales"] == [8, 11] and saved["multicrop"] == 3 and {"commit", "device", "command"} <= set(saved)
    assert len(saved["pairs"]) == 3 + 1 + 2 + 2 + 1
    assert "two different measurements" in table and "Q all: averaged over 8, 11" in table


@pytest.mark.slow
def test_pairs_count_the_pictures_that_one_alone_has_right(padded):
    for found in vgg_report.pairs(padded):
        assert 0 <= found.p <= 1 and found.first != found.second
    right = [np.array(list(map(bool, map(int, bits)))) for bits in ("1110001111", "1001100000")]
    got = vgg_report.pair("a", "b", *right)
    assert got[:4] == ("a", "b", 6, 2)
    # Of 8 fair coins at least 6 heads, or at most 2: 2 * (28 + 8 + 1) / 256.
    assert got.p == pytest.approx(74 / 256)
    assert vgg_report.pair("a", "b", right[0], right[0]).p == 1
