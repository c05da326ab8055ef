"""What a long evaluation says while it runs."""

import sys

from cnn.protocols import progress as progress_lib
from cnn.protocols.progress import Progress


def test_each_stage_is_announced_at_once_and_long_ones_say_how_far_they_are(monkeypatch, capsys):
    monkeypatch.setattr(progress_lib, "SECONDS_BETWEEN_LINES", 0)
    with Progress() as progress:
        progress.stage("making scenes")
        assert capsys.readouterr().err.endswith("s] making scenes\n")
        progress.stage("classifying", 3)
        for _ in range(3):
            progress.advance()
    lines = [line.split("] ")[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["classifying", "classifying: 1 of 3", "classifying: 2 of 3"]


def test_lines_are_rare_and_a_quiet_one_says_nothing(capsys):
    for shown in (True, False):
        progress = Progress(shown)
        progress.stage("classifying", 1000)
        for _ in range(1000):
            progress.advance()
        assert len(capsys.readouterr().err.splitlines()) == shown


def test_a_terminal_has_a_bar_for_stages_of_several_parts(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress() as progress:
        progress.stage("classifying", 2)
        progress.advance()
        progress.stage("drawing")
    text = capsys.readouterr().err
    assert "0/2" in text and text.splitlines()[-1].endswith("drawing")
