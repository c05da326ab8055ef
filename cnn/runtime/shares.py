"""A process's share of things that are numbered: of a data set's examples, of a map's tiles, of a study's cells."""

from typing import NamedTuple


class Share(NamedTuple):
    """Some neighbouring ones of equal parts.

    Attributes:
      first: number of the first part, from 0.
      stop: number of the first part that is not of the share any more.
      parts: number of all parts.
    """

    first: int
    stop: int
    parts: int

    @property
    def is_whole(self) -> bool:
        """Whether it is all of them."""
        return (self.first, self.stop) == (0, self.parts)

    def rows(self, count: int) -> slice:
        """Which of `count` things are in the share.

        Args:
          count: number of things; each part but the last ones has as many, rounded up.

        Returns:
          Their numbers; empty where there are too few things for all parts.
        """
        each = -(-count // self.parts)
        return slice(min(count, self.first * each), min(count, self.stop * each))


WHOLE = Share(0, 1, 1)
