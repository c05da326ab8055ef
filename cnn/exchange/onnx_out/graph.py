"""A graph of ONNX operators while it is written: names, weights, and the oldest operator set that has all of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Operators that operator set 11 does not have; it is the first in which bounds, padding and counts are inputs.
OLDEST = 11
SINCE = {"Celu": 12, "Gelu": 20, "HardSwish": 14, "Mish": 18}


class Graph:
    """Nodes and weights in order.

    Attributes:
      opset: operator set that nodes are written for.
      needed: operator set that the nodes so far need.
      nodes: the nodes (`onnx.NodeProto`).
      weights: name and value of each weight.
    """

    def __init__(self, opset: int = OLDEST) -> None:
        """Begins an empty graph for an operator set."""
        self.opset = opset
        self.needed = OLDEST
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self._taken = {"images", "scores"}

    def needs(self, opset: int) -> None:
        """Says that a node needs an operator set of at least that number."""
        self.needed = max(self.needed, opset)

    def weight(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Adds a weight.

        Args:
          name: what it is called, if no other is.
          value: an array, or numbers.
          dtype: of the weight, float32 or int64.

        Returns:
          Its name.
        """
        name = self._free(name)
        self.weights[name] = np.ascontiguousarray(np.asarray(value), dtype)
        return name

    def integers(self, name: str, values: Sequence[int] | int) -> str:
        """Adds whole numbers, int64, and returns their name."""
        return self.weight(name, values, np.int64)

    def add(self, operator: str, inputs: Sequence[str], name: str, outputs: int = 1, **attributes: Any) -> str:
        """Adds a node.

        Args:
          operator: name of the ONNX operator.
          inputs: names of values and weights; "" for one that is left out.
          name: of the node, and of its output, if nothing else is called so.
          outputs: number of its outputs.
          **attributes: of the node.

        Returns:
          Name of its first output.
        """
        from onnx import helper

        self.needs(SINCE.get(operator, OLDEST))
        name = self._free(name)
        names = [name, *(self._free(f"{name}.{i}") for i in range(1, outputs))]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=name, **attributes))
        return name

    def rename(self, old: str, new: str) -> None:
        """Calls the output of a node by another name, wherever it is used."""
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == old:
                        names[i] = new

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name
