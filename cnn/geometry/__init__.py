"""Sizes, receptive fields, parameters and multiply-adds of a net, before any array exists."""

from cnn.geometry.declared import UndeclaredError
from cnn.geometry.tables import Row, Table, flat, leaves, table, working_sizes
from cnn.geometry.variables import VariablesError, layer_names, parameters
from cnn.windows import GeometryError

__all__ = [
    "GeometryError",
    "Row",
    "Table",
    "UndeclaredError",
    "VariablesError",
    "flat",
    "layer_names",
    "leaves",
    "parameters",
    "table",
    "working_sizes",
]
