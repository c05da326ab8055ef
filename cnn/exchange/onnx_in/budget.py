"""The memory that reading an ONNX graph may ask for: its constants are computed within a bound."""

from cnn.exchange.onnx_in.node import Node

BASE_BYTES, TIMES_FILE = 64 * 2**20, 8  # what folding may allocate: so much, and a multiple of the file's size


class Budget:
    """Bytes that folding may still allocate: a few of a file must not ask for terabytes."""

    def __init__(self, file_size: int) -> None:
        self.limit = self.left = BASE_BYTES + TIMES_FILE * file_size

    def take(self, node: Node, count: int, itemsize: int = 4) -> None:
        """Accounts for an array that is about to be made.

        Raises:
          ExchangeError: if it does not fit.
        """
        self.left -= count * itemsize
        if self.left < 0:
            raise node.error(
                f"asks for {count * itemsize:,} bytes of constants; a file of its size may have "
                f"{self.limit:,} that are computed: store them as initialisers"
            )
