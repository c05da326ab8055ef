"""Sizes, receptive fields, parameters and multiply-adds of a net, before any array exists."""

from cnn.geometry.declared import UndeclaredError
from cnn.geometry.gates import exact_gates, first_centred
from cnn.geometry.tables import Row, Table, flat, leaves, table, working_sizes
from cnn.geometry.variables import VariablesError, layer_names, parameters
from cnn.windows import GeometryError

__all__ = [
    "GeometryError",
    "Row",
    "Table",
    "UndeclaredError",
    "VariablesError",
    "exact_gates",
    "first_centred",
    "flat",
    "layer_names",
    "leaves",
    "parameters",
    "table",
    "working_sizes",
]
