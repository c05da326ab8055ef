"""Linear functions with a hand-written transpose that still have all of JAX's derivatives.

A `jax.custom_vjp` function has no forward-mode derivative, hence no `jax.jvp`, `jax.hessian` or `jax.linearize`.
Therefore the operations of this package have `jax.custom_jvp` rules, which give the tangent as a linear function of the
inputs' tangents. Reverse mode transposes that function, and `linear` lets the fast gradient be the transpose. JAX's own
`jax.custom_derivatives.linear_call` can neither be mapped by `jax.vmap` nor differentiated again.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
from jax.dtypes import float0
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Function = Callable[..., jax.Array]  # (*fixed, value) -> array, linear in value

_linear_p = Primitive("linear")


def linear(function: Function, transpose: Function, fixed: Sequence[jax.Array], value: jax.Array) -> jax.Array:
    """Applies a linear function whose transpose, as reverse mode needs it, is computed by another function.

    Args:
      function: (*fixed, value) -> array, linear in value; made of JAX's own operations, so that the derivative in the
        fixed arrays follows from it.
      transpose: (*fixed, cotangent of the output) -> array of the value's shape and dtype.
      fixed: arrays in which the function need not be linear.
      value: the array in which the function is linear.

    Returns:
      function(*fixed, value).
    """
    return _linear_p.bind(*_varying_alike([*fixed, value]), function=function, transpose=transpose)


def is_linear(primitive: Primitive) -> bool:
    """Whether a primitive of a program is that of `linear`; its parameter "function" computes it."""
    return primitive is _linear_p


def transposed(function: Callable[[jax.Array], jax.Array], shape: Sequence[int], cotangent: jax.Array) -> jax.Array:
    """Applies the transpose of a linear function, as JAX derives it from the function.

    Args:
      function: array of the given shape -> array of the cotangent's shape, same dtype; linear.
      shape: shape of the function's argument.
      cotangent: of the function's output.

    Returns:
      An array of the given shape, in the cotangent's dtype; within `jax.shard_map` it varies as the cotangent does.
    """
    # A type that is made from the cotangent's says on which mesh an array lies and over which axes it varies.
    argument = jax.eval_shape(lambda c: jax.numpy.broadcast_to(c.sum(), shape), cotangent)
    return jax.linear_transpose(function, argument)(cotangent)[0]


def _varying_alike(arrays: Sequence[Any]) -> list[Any]:
    """Within `jax.shard_map`, marks arrays that are equal on all devices as varying where another of them varies.

    JAX does this for its own operations; the marks' transpose is the sum over the devices. Elsewhere nothing changes.
    """
    axes = [jax.typeof(array).manual_axis_type.varying for array in arrays]
    every = frozenset().union(*axes)
    return [jax.lax.pcast(a, tuple(sorted(every - own)), to="varying") for a, own in zip(arrays, axes, strict=True)]


def _apply(*arguments: jax.Array, function: Function, transpose: Function) -> jax.Array:
    del transpose
    return function(*arguments)


def _abstract(*arguments: Any, function: Function, transpose: Function) -> Any:
    del transpose
    return jax.make_jaxpr(function)(*arguments).out_avals[0]


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], function: Function, transpose: Function
) -> tuple[jax.Array, Any]:
    """The same function of the value's tangent, and JAX's own derivative in the fixed arrays."""
    (*fixed, value), (*of_fixed, of_value) = primals, tangents
    out = linear(function, transpose, fixed, value)
    terms = [] if isinstance(of_value, ad.Zero) else [linear(function, transpose, fixed, of_value)]
    moving = [i for i, tangent in enumerate(of_fixed) if not (isinstance(tangent, ad.Zero) or tangent.dtype == float0)]

    def of_moving(*arrays: jax.Array) -> jax.Array:
        every = list(fixed)
        for i, array in zip(moving, arrays, strict=True):
            every[i] = array
        return function(*every, value)

    if moving:
        terms.append(jax.jvp(of_moving, [fixed[i] for i in moving], [of_fixed[i] for i in moving])[1])
    return out, functools.reduce(jax.numpy.add, terms) if terms else jax.numpy.zeros_like(out)


def _transpose(cotangent: Any, *arguments: Any, function: Function, transpose: Function) -> list[Any]:
    (*fixed, value) = arguments
    nothing: list[Any] = [None] * len(fixed)
    if isinstance(cotangent, ad.Zero):
        return [*nothing, ad.Zero(value.aval)]
    return [*nothing, linear(transpose, function, fixed, cotangent)]


def _batch(
    arguments: Sequence[Any], dims: Sequence[int | None], *, function: Function, transpose: Function
) -> tuple[jax.Array, int]:
    """Both functions mapped over the new axis, which is the first axis of every mapped array and of the cotangent."""
    in_front = [a if d is None else jax.numpy.moveaxis(a, d, 0) for a, d in zip(arguments, dims, strict=True)]
    axes = [None if d is None else 0 for d in dims]
    if axes[-1] is None:  # only fixed arrays are mapped; the value's cotangent must have its shape
        size = next(a.shape[0] for a, d in zip(in_front, dims, strict=True) if d is not None)
        in_front[-1] = jax.numpy.broadcast_to(in_front[-1], (size, *in_front[-1].shape))
        axes[-1] = 0
    map_all = functools.partial(jax.vmap, in_axes=tuple(axes))
    return linear(map_all(function), map_all(transpose), in_front[:-1], in_front[-1]), 0


_linear_p.def_impl(_apply)
_linear_p.def_abstract_eval(_abstract)
ad.primitive_jvps[_linear_p] = _jvp
ad.primitive_transposes[_linear_p] = _transpose
cast(Any, batching.primitive_batchers)[_linear_p] = _batch
mlir.register_lowering(_linear_p, mlir.lower_fun(_apply, multiple_results=False))
