"""Where the paths of an ONNX graph part that an operator joins: regions with one value in and one value out.

Every way from the images to a value leads through its dominators (Lengauer, Tarjan, "A fast algorithm for finding
dominators in a flowgraph", 1979); the nearest of those of a join is where its paths part. The values of a graph have
numbers in the order of computation, so that the latest of a set is replaced by what it is made of until one is left.
"""

import heapq
from collections.abc import Sequence

from cnn.exchange.onnx_in.file import one_line
from cnn.exchange.onnx_in.fold import axis_of
from cnn.exchange.onnx_in.node import Node, Value

# Operators, and what they do.
JOINS = {"Add": "sum", "Sum": "sum", "Concat": "concat", "Mean": "mean", "Max": "max", "Mul": "product"}
DEEPEST = 16  # blocks, one within the other
MOST_STEPS = 2_000_000  # values that are looked at in all to find where paths part


class Regions:
    """What has been found of a graph's regions.

    Attributes:
      left: values that may still be looked at.
      claimed: by its id each value within a path, and the join whose path it is on.
    """

    def __init__(self) -> None:
        self.left = MOST_STEPS
        self.claimed: dict[int, Node] = {}

    def claim(self, value: Value, join: Node | None) -> None:
        """Says that a value is on a path of a join.

        Raises:
          ExchangeError: naming both joins, if it is on another path already: paths that cross are no blocks.
        """
        if value.node is None:
            return
        other = self.claimed.get(id(value))
        if other is not None and join is not None:
            users = ", ".join(dict.fromkeys(one.label for one in value.used_by[:3]))
            raise join.error(
                f"its paths cross others: {one_line(value.name)!r} goes to {users}, and reaches it on two ways that do "
                "not part and join as blocks do; choose an output before it (output=NAME)"
            )
        if join is not None:
            self.claimed[id(value)] = join

    def fork(self, node: Node, inputs: Sequence[Value]) -> Value:
        """The nearest value that all paths of a join come from.

        Args:
          node: the join.
          inputs: what it joins.

        Returns:
          The value; one of the inputs, if a path is the identity.

        Raises:
          ExchangeError: if the graph is too tangled to be searched.
        """
        frontier = {id(one): one for one in inputs}
        latest = [(-one.order, index, one) for index, one in enumerate(frontier.values())]
        heapq.heapify(latest)
        count = len(latest)
        while len(frontier) > 1:
            _, _, last = heapq.heappop(latest)
            del frontier[id(last)]
            self.left -= 1
            if last.node is None or self.left < 0:
                raise node.error("its paths are too many to be followed; choose an output before it (output=NAME)")
            for one in last.node.inputs:
                if one is not None and one.constant is None and id(one) not in frontier:
                    frontier[id(one)] = one
                    heapq.heappush(latest, (-one.order, count, one))
                    count += 1
        return next(iter(frontier.values()))

    def joined_values(self, node: Node) -> list[Value]:
        """What a join takes.

        A Concat that begins with all that an earlier Concat joins takes that one's value in their place: a dense block
        is written as concatenations of growing lists.

        Args:
          node: the operator, one of `JOINS`.

        Returns:
          The values in order.

        Raises:
          ExchangeError: if there are constants among them.
        """
        values = [one for one in node.inputs if one is not None]
        if any(one.constant is not None for one in values):
            raise node.error("joins values that depend on the images with constants; no layer does both at once")
        if node.op != "Concat":
            return values
        earlier = {id(user): user for user in values[0].used_by if user.op == "Concat" and user.result is not None}
        shorter = [user for user in earlier.values() if 1 < len(user.inputs) < len(values)]
        for user in sorted(shorter, key=lambda one: -len(one.inputs)):
            count = len(user.inputs)
            self.left -= count
            if self.left < 0:
                raise node.error("its paths are too many to be followed; choose an output before it (output=NAME)")
            begins = all(a is b for a, b in zip(user.inputs, values[:count], strict=True))
            if begins and user.result is not None and concat_axis(user) == concat_axis(node):
                return [user.result, *values[count:]]
        return values


def concat_axis(node: Node) -> int:
    """The axis along which a Concat joins, counted from the front."""
    return axis_of(node, node.attribute("axis", 1), len(node.needed(0).shape))
