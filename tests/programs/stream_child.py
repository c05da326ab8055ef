"""Runs one function of test_stream in a process of its own: FUNCTION SINK."""

import sys

from tests.dense.streaming import test_stream

getattr(test_stream, sys.argv[1])(sys.argv[2])
