"""Which gates of a net slide exactly over an image that is larger than the window."""

from collections.abc import Sequence

from cnn.geometry.tables import Table, leaves
from cnn.layers import AvgPool, Dropout, Gate, Layer, StochasticDepth
from cnn.windows import Window, shape_text


def first_centred(layers: Sequence[Layer], table: Table) -> str | None:
    """The first `Gate` of a net that does not slide exactly.

    The mean of a gate is that of its whole map, and another one for each window. It slides where nothing before the
    score mixes what the gate gives at several places but a mean over the whole window, directly behind it (dropout
    between them changes nothing), and where its map at the window is a single value.

    Args:
      layers: the net's layers.
      table: the net's geometry for the images that it is trained on.

    Returns:
      Its label and the reason, for an error; None: there is no such gate.
    """
    exact = exact_gates(layers, table)
    for layer, shape in leaves(layers, table.input_shape):
        if isinstance(layer, Gate) and layer.name not in exact and tuple(shape[:2]) != (1, 1):
            return (
                f"{layer.label}: weighs the {shape_text(shape[:2])} values of each window by that window's mean, and "
                f"layers behind it mix them, so that no two windows share what it gives"
            )
    return None


def exact_gates(layers: Sequence[Layer], table: Table) -> frozenset[str]:
    """The gates with a mean over the whole window directly behind them, which may as well come before them.

    The mean of x * g is g times the mean of x, and the mean of that one value is itself.

    Args:
      layers: the net's layers.
      table: the net's geometry for the images that it is trained on.

    Returns:
      Their names.
    """
    found: list[str] = []
    gates: list[str] = []  # those that only gates and dropout have followed so far
    shape = table.input_shape
    for row, layer in zip(table, layers, strict=True):
        if isinstance(layer, Gate):
            gates.append(row.name)
        elif not isinstance(layer, Dropout | StochasticDepth):
            if isinstance(layer, AvgPool) and layer.window(shape)._replace(stride=(1, 1)) == Window(
                (shape[0], shape[1])
            ):
                found += gates
            gates = []
        shape = row.output_shape
    return frozenset(found)
