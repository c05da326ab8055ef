"""The switch between the CPU algorithms of this package and XLA's own forms."""

import contextlib
from collections.abc import Iterable, Iterator

import jax
from jax.export import is_symbolic_dim

CHOICES = ("fast", "plain")
# A context variable of JAX: `jax.jit` compiles anew for each of its values, and each thread has its own value.
_ops = jax.make_user_context("fast")


@contextlib.contextmanager
def use(choice: str) -> Iterator[None]:
    """Uses one choice of algorithms within a `with` block.

    Args:
      choice: "fast" (the algorithms of `cnn.ops`, where they are faster) or "plain" (XLA's own forms everywhere).

    Yields:
      Nothing.

    Raises:
      ValueError: if the choice is unknown.
    """
    if choice not in CHOICES:
        raise ValueError(f"ops (={choice!r}) must be one of {', '.join(CHOICES)}")
    with _ops(choice):
        yield


def plain() -> contextlib.AbstractContextManager[None]:
    """XLA's own forms of every convolution, pool and product, within a `with` block: `with ops.plain(): ...`.

    Use it to compare with the fast algorithms, or to rule them out where a result is in doubt. A function under
    `jax.jit` that was called before the block is traced again inside it, and the other way round.

    Returns:
      A context manager.
    """
    return use("plain")


def takes_plain(sizes: Iterable[int]) -> bool:
    """Whether XLA's own forms are to be used for arrays of some sizes.

    Args:
      sizes: the arrays' sizes.

    Returns:
      Whether they were asked for, or a size is symbolic: which algorithm is fastest is then not known while the program
      is made.
    """
    return is_plain() or any(map(is_symbolic_dim, sizes))


def is_plain() -> bool:
    """Whether XLA's own forms are to be used here."""
    return _ops.value == "plain"
