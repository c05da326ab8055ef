"""Compiled programs in memory, at most a number of them: those that were used longest ago are let go.

`jax.jit` keeps the programs of all shapes that a function was ever called with, some megabytes each. Here each program
has a `jax.jit` of its own, and its memory is freed with it.
"""

import collections
import functools
import threading
from collections.abc import Callable
from typing import Any

MOST_PROGRAMS = 64  # of each function; for small nets a few megabytes each


class _Key:
    """Static arguments and shapes, hashed once: the hash of a net takes longer than a small map."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, *parts: Any) -> None:
        self._parts, self._hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Key) and self._parts == other._parts)


class Programs:
    """The programs of one function, by its static arguments and the shapes of its arrays."""

    def __init__(self, function: Callable[..., Any], jit: Callable[..., Any], most: int = MOST_PROGRAMS) -> None:
        """Begins without programs.

        Args:
          function: the function.
          jit: makes a compiled function of a function.
          most: the most programs that are kept.
        """
        self._function, self._jit, self._most = function, jit, most
        self._kept: collections.OrderedDict[_Key, Any] = collections.OrderedDict()
        # The key of static arguments by their identity. They are held, so that no other object has it.
        self._known: collections.OrderedDict[Any, tuple[tuple[Any, ...], _Key]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of programs."""
        return len(self._kept)

    def room_for(self, count: int) -> None:
        """Keeps more programs from now on, if one piece of work takes so many that each would be gone at its next use.

        Args:
          count: number of programs of the piece of work; as many are kept, beside those that are kept in any case.
        """
        with self._lock:
            if count >= self._most:
                self._most = count + MOST_PROGRAMS

    def of(self, statics: tuple[Any, ...], shapes: tuple[Any, ...]) -> Callable[..., Any]:
        """The compiled function for static arguments and shapes.

        Args:
          statics: the static arguments, hashable.
          shapes: the shapes of the arrays.

        Returns:
          What `jit` made for them, now or before.
        """
        identity = (*map(id, statics), shapes)
        with self._lock:
            known = self._known.get(identity)
            if known is None:
                known = self._known[identity] = (statics, _Key(statics, shapes))
                if len(self._known) > 4 * self._most:
                    self._known.popitem(last=False)
            key = known[1]
            program = self._kept.get(key)
            if program is None:
                # Another function object each time: JAX keeps what it makes of a function as long as that lives.
                program = self._kept[key] = self._jit(_copy(self._function))
                if len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(key)
        return program


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """Another function that does the same."""

    @functools.wraps(function)
    def copied(*arguments: Any) -> Any:
        return function(*arguments)

    return copied
