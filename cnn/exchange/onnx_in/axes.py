"""Which axis of a value in an ONNX graph holds what: batch, channels, height, width, alone or laid together."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from cnn.exchange.onnx_in.node import Node

Dims = tuple[tuple[str, ...], ...]
_ORDERS = {("h", "w", "c"): "hwc", ("c", "h", "w"): "chw"}


class Axes:
    """The layout of a value: for each of its axes the names that it holds, outermost first.

    [N, C, H, W] is (n)(c)(h)(w), its flattened form (n)(c h w). Sizes of 1 are left out, except the batch, because any
    order of them is the same.

    Attributes:
      dims: the names of each axis.
      sizes: the size of each name; "c", "h" and "w" are those of the net's own value.
    """

    def __init__(self, dims: Sequence[str], sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)
        self.dims: Dims = tuple(self._without_ones(one) for one in dims)

    def _without_ones(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name == "n" or self.sizes[name] != 1)

    def become(self, dims: Sequence[str], **sizes: int) -> None:
        """Takes a new layout, where a layer has changed sizes."""
        self.sizes |= sizes
        self.dims = tuple(self._without_ones(one) for one in dims)

    def are(self, dims: Sequence[str]) -> bool:
        """Whether this is the layout."""
        return self.dims == tuple(self._without_ones(one) for one in dims)

    @property
    def flat(self) -> tuple[str, ...]:
        """All names in order, the axes laid together."""
        return tuple(itertools.chain.from_iterable(self.dims))

    def flatten_order(self, node: Node) -> str:
        """In which order of `cnn.layers.Flatten` all but the batch is laid together in one axis.

        Raises:
          ExchangeError: if it is another one, or images are mixed.
        """
        rest = self.flat[1:]
        for names, order in _ORDERS.items():
            if self.dims[:1] == (("n",),) and rest == self._without_ones(names):
                return order
        raise node.error(
            f"takes values in the order ({' '.join(self.flat)}), and images are flattened as (n c h w) or (n h w c); "
            "export the net without the transposition before it"
        )

    def transpose(self, order: Sequence[int]) -> None:
        """Changes the order of axes."""
        self.dims = tuple(self.dims[i] for i in order)

    def drop(self, node: Node, axes: Sequence[int]) -> None:
        """Takes axes of size 1 away.

        Raises:
          ExchangeError: if one is the batch.
        """
        if any(self.dims[i] for i in axes):
            raise node.error("takes the batch axis away; export the net with it")
        self.dims = tuple(one for i, one in enumerate(self.dims) if i not in axes)

    def regroup(self, node: Node, shape: Sequence[int]) -> None:
        """Lays axes together or apart, as Reshape does.

        Args:
          node: the Reshape or Flatten, for the error.
          shape: what it gives.

        Raises:
          ExchangeError: if that cuts an axis into pieces, or mixes images.
        """
        left, dims = list(self.flat), []
        for size in shape:
            taken: list[str] = []
            if left and left[0] == "n" and size == self.sizes["n"]:
                taken.append(left.pop(0))
            elif not (left and left[0] == "n" and size == 1):
                product = 1
                while product < size and left and left[0] != "n":
                    product *= self.sizes[left[0]]
                    taken.append(left.pop(0))
                if product != size:
                    raise self._cuts(node, shape)
            dims.append(tuple(taken))
        if left:
            raise self._cuts(node, shape)
        self.dims = tuple(dims)

    def _cuts(self, node: Node, shape: Sequence[int]) -> Exception:
        held = " ".join("n" if name == "n" else f"{name}={self.sizes[name]}" for name in self.flat)
        return node.error(
            f"lays ({held}) out as {tuple(shape)[1:]}, which cuts an axis in pieces or mixes images; no layer does"
        )

    def channel_axis(self, node: Node, axis: int) -> bool:
        """Whether an axis holds the channels, alone; False where it holds all of a flattened image.

        Raises:
          ExchangeError: if it holds something else.
        """
        if self.dims[axis] == self._without_ones("c"):
            return True
        if len(self.dims) == 2 and axis == 1 and len(self.dims[1]) > 1:
            return False
        raise node.error(f"works along ({' '.join(self.dims[axis]) or 'nothing'}), and must work along channels")

    def scores(self, output: np.ndarray) -> np.ndarray:
        """An output of this layout as the net gives it.

        Args:
          output: of another program; of another size than the declared one where no axes are laid together.

        Returns:
          [N, h, w, K].
        """
        if output.ndim == 4 == len(self.dims) and all(len(one) < 2 for one in self.dims):
            # An axis of one pixel at the declared size, whose name was left out, may have more in a larger image.
            free = [name for name in "nchw" if (name,) not in self.dims]
            order = [one[0] if one else free.pop(0) for one in self.dims]
        else:
            count = output.size // max(1, int(np.prod([self.sizes[name] for name in self.flat if name != "n"])))
            output = output.reshape([count if name == "n" else self.sizes[name] for name in self.flat])
            order = [*self.flat, *(name for name in "nchw" if name not in self.flat)]
            output = output.reshape(output.shape + (1,) * (4 - output.ndim))
        return output.transpose([order.index(name) for name in "nhwc"])
