"""The order of an array's axes in memory, asked of XLA:CPU where a program is compiled for it.

`jax.experimental.layout.with_layout_constraint` puts its request into every program that it is traced into. A program
that is exported may be kept and run elsewhere, and JAX refuses to export that request, for which no later XLA is bound.
Whether a program is exported, and for which platforms, is known when it is lowered and not when it is traced.
"""

from typing import Any, cast

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_memory_order_p = Primitive("memory_order")


def in_order(array: jax.Array) -> jax.Array:
    """The same array, whose axes lie in memory in their own order, the last inmost.

    Args:
      array: any array.

    Returns:
      The array; the order in memory is asked for on CPU only, in programs that are not exported.
    """
    return _memory_order_p.bind(array, order=tuple(range(array.ndim)))


def _constrained(array: jax.Array, order: tuple[int, ...]) -> jax.Array:
    return with_layout_constraint(array, Layout(order))


_lower_constrained = mlir.lower_fun(_constrained, multiple_results=False)


def _lower(context: Any, array: Any, *, order: tuple[int, ...]) -> Any:
    module = context.module_context
    if module.lowering_parameters.for_export or tuple(module.platforms) != ("cpu",):
        return [array]
    return _lower_constrained(context, array, order=order)


def _batch(arguments: Any, dims: Any, *, order: tuple[int, ...]) -> tuple[jax.Array, int]:
    (array,), (axis,) = arguments, dims
    outmost = (axis, *(i + (i >= axis) for i in order))
    return _memory_order_p.bind(array, order=outmost), axis


_memory_order_p.def_impl(lambda array, order: array)
_memory_order_p.def_abstract_eval(lambda array, order: array)
ad.deflinear2(_memory_order_p, lambda cotangent, _, order: [_memory_order_p.bind(cotangent, order=order)])
cast(Any, batching.primitive_batchers)[_memory_order_p] = _batch
mlir.register_lowering(_memory_order_p, _lower)
