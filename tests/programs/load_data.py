"""Loads two data sets; ends with an error if anything heavy was imported for it."""

import sys

from cnn import data  # must stay light

assert "tensorflow_datasets" not in sys.modules and "sklearn" not in sys.modules
data.load("digits")
data.load("mnist")
assert "tensorflow" not in sys.modules
