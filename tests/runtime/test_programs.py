"""Compiled programs in memory: so many and no more, those used last; imports without what is not needed."""

import sys

import numpy as np
import pytest

from cnn.runtime import imports
from cnn.runtime.programs import MOST_PROGRAMS, Programs


def test_programs_used_longest_ago_are_let_go():
    made = []

    def jit(function):
        made.append(function)
        return function

    programs = Programs(lambda static, x: (static, x), jit, most=3)
    for size in (1, 2, 3):
        assert programs.of(("net",), ((size,),))("net", size) == ("net", size)
    programs.of(("net",), ((1,),))  # now 2 is the oldest
    programs.of(("net",), ((4,),))
    assert len(programs) == 3 and len(made) == 4 and len(set(map(id, made))) == 4
    programs.of(("net",), ((1,),))
    assert len(made) == 4
    programs.of(("net",), ((2,),))
    assert len(made) == 5
    # Equal static arguments share a program, whether they are the same object or not.
    programs.of((tuple(range(7, 9)),), ((2,),))
    programs.of((tuple(range(7, 9)),), ((2,),))
    assert len(made) == 6
    for size in range(100):
        programs.of((np.float32(size).item(),), ())
    assert len(programs) == 3


def test_one_piece_of_work_finds_its_programs_again():
    made = []

    def jit(function):
        made.append(function)
        return function

    def work(count):
        for size in range(count):
            programs.of((), ((size,),))

    programs = Programs(lambda x: x, jit, most=3)
    programs.room_for(2)  # which there is
    work(4)
    work(4)
    assert len(made) == 8 and len(programs) == 3, "each was gone at its next use"
    programs.room_for(4)
    work(4)
    work(4)
    assert len(programs) == 4 and len(made) == 8 + 1, "three were there, one was made, all were found again"
    programs.room_for(3)
    work(4 + MOST_PROGRAMS)
    assert len(programs) == 4 + MOST_PROGRAMS
    work(8 + MOST_PROGRAMS)
    assert len(programs) == 4 + MOST_PROGRAMS


def test_an_import_goes_without_a_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "loaded_before", sys)
    with imports.without("loaded_before"):
        import loaded_before  # type: ignore[import-not-found]

        assert loaded_before is sys
    with imports.without("colorsys_of_nobody"), pytest.raises(ImportError):
        import colorsys_of_nobody  # type: ignore[import-not-found]  # noqa: F401
    assert "colorsys_of_nobody" not in sys.modules
