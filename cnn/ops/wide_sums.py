"""Sums in float32 in a program that computes in half precision: of a gradient, over examples and over devices.

The gradient of a parameter is a sum over all examples. In half precision JAX asks for it as a product, a convolution or
a sum whose result is rounded to the dtype of its terms, 8 bits of a bfloat16, on each device before the devices' parts
are added, and again at every addition. Here such operations are asked for float32 results, from the same terms: the
units of accelerators that multiply half precision add in float32 anyway.

A program is rewritten after it was differentiated, operation by operation. So this holds for all layers, also those of
users, and whatever rules their gradients have.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from cnn.ops.linear import is_linear

# Operations that move values or add them: a float32 result is passed on through them, unrounded.
_PASSED_ON = (
    *("add", "add_any", "neg", "sub", "convert_element_type", "copy", "copy_p", "sharding_constraint", "memory_order"),
    *("broadcast_in_dim", "concatenate", "pad", "reshape", "rev", "slice", "squeeze", "transpose"),
)
_INLINE = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
_RECOMPUTED = ("checkpoint", "remat2")


def with_wide_sums(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose products and sums of half precision have float32 results.

    Args:
      function: takes arrays and returns a tree of arrays, such as the function that `jax.vjp` gives.

    Returns:
      The function. In it matrix products and sums are added up in float32, and convolutions whose result is one of the
      function's results but for its shape and dtype: the gradients of kernels. Dtypes of results stay as they are.
    """

    def call(*arguments: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        leaves = jax.tree.leaves(arguments)
        found = _evaluate(closed.jaxpr, closed.consts, leaves, [True] * len(closed.out_avals))
        found = [_as(value, aval.dtype) for value, aval in zip(found, closed.out_avals, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    return call


def _is_half(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) and np.dtype(dtype).itemsize == 2


def _as(value: Any, dtype: Any) -> Any:
    """A value in the dtype that its program gives it."""
    return value if not hasattr(value, "dtype") or value.dtype == dtype else lax.convert_element_type(value, dtype)


def _evaluate(jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
    """Computes a program; a variable of half precision may be held in float32.

    Args:
      jaxpr: the program.
      constants, arguments: values of its variables.
      wanted: for each result, whether it is to be as exact as it can be.

    Returns:
      The results; in float32 where the program has half precision and a wider value was there.
    """
    exact = _exact_variables(jaxpr, wanted)
    values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        with equation.ctx.manager:
            outputs = _apply(equation, inputs, [variable in exact for variable in equation.outvars])
        values |= zip(equation.outvars, outputs, strict=True)
    return [read(variable) for variable in jaxpr.outvars]


def _exact_variables(jaxpr: Jaxpr, wanted: Sequence[bool]) -> set[Any]:
    """Variables that become wanted results by being moved, added and converted only."""
    exact = {v for v, is_wanted in zip(jaxpr.outvars, wanted, strict=True) if is_wanted and not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if equation.primitive.name in _PASSED_ON and exact.intersection(equation.outvars):
            exact.update(v for v in equation.invars if not isinstance(v, Literal))
    return exact


def _apply(equation: Any, inputs: Sequence[Any], exact: Sequence[bool]) -> Sequence[Any]:
    """The results of one operation, of which some are wanted as exact as can be."""
    name, parameters = equation.primitive.name, dict(equation.params)
    result = equation.outvars[0].aval.dtype if equation.outvars else None
    if name in _INLINE:
        inner = parameters[_INLINE[name]]
        closed = isinstance(inner, ClosedJaxpr)
        return _evaluate(inner.jaxpr if closed else inner, inner.consts if closed else (), inputs, exact)
    if name in _PASSED_ON and _is_half(result) and any(x.dtype == jnp.float32 for x in inputs if hasattr(x, "dtype")):
        if name != "convert_element_type":
            return _bound(equation, [_wide(x) for x in inputs], parameters)
    elif name == "convert_element_type" and not _is_half(result):
        return _bound(equation, inputs, parameters)
    inputs = [_as(x, variable.aval.dtype) for x, variable in zip(inputs, equation.invars, strict=True)]
    if is_linear(equation.primitive):
        inner = jax.make_jaxpr(parameters["function"])(*inputs)
        return _evaluate(inner.jaxpr, inner.consts, inputs, exact)
    if name == "cond":
        branches = tuple(_rewritten(one, exact, widened=True) for one in parameters["branches"])
        return _bound(equation, inputs, parameters | {"branches": branches})
    if name == "scan":
        return _bound(equation, inputs, parameters | {"jaxpr": _rewritten(parameters["jaxpr"], exact, widened=False)})
    if name in _RECOMPUTED:
        part = _rewritten(ClosedJaxpr(parameters["jaxpr"], ()), exact, widened=False)
        count, inputs = len(part.consts), [*part.consts, *inputs]

        def without_constants(*values: Any) -> list[Any]:  # which the program of this operation must not have
            return _evaluate(part.jaxpr, values[:count], values[count:], exact)

        return _bound(equation, inputs, parameters | {"jaxpr": jax.make_jaxpr(without_constants)(*inputs).jaxpr})
    if not _is_half(result):
        return _bound(equation, inputs, parameters)
    if name == "dot_general" or (name == "conv_general_dilated" and exact[0]):
        return _product(equation, inputs, parameters | {"preferred_element_type": np.dtype(np.float32)})
    if name == "reduce_sum":
        return _bound(equation, [_wide(x) for x in inputs], parameters)
    return _bound(equation, inputs, parameters)


def _bound(equation: Any, inputs: Sequence[Any], parameters: dict[str, Any]) -> Sequence[Any]:
    """The operation itself."""
    found = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(parameters))
    return found if equation.primitive.multiple_results else [found]


def _product(equation: Any, inputs: Sequence[Any], parameters: dict[str, Any]) -> Sequence[Any]:
    """A product or convolution with a float32 result. XLA:CPU multiplies in float32, so terms are converted first."""

    def of_wide(*terms: Any) -> Any:
        return _bound(equation, [_wide(x) for x in terms], parameters)

    def of_half(*terms: Any) -> Any:
        return _bound(equation, terms, parameters)

    return lax.platform_dependent(*inputs, cpu=of_wide, default=of_half)


def _wide(value: Any) -> Any:
    """A value of half precision in float32."""
    return lax.convert_element_type(value, jnp.float32) if _is_half(getattr(value, "dtype", np.int32)) else value


def _rewritten(inner: ClosedJaxpr, exact: Sequence[bool], *, widened: bool) -> ClosedJaxpr:
    """A part of a program, rewritten; results have their own dtypes, or float32 where they are wanted exact."""
    kinds = [
        np.dtype(np.float32) if widened and is_exact and _is_half(aval.dtype) else aval.dtype
        for aval, is_exact in zip(inner.out_avals, exact, strict=True)
    ]

    def part(*arguments: Any) -> list[Any]:
        found = _evaluate(inner.jaxpr, inner.consts, arguments, exact)
        return [_as(value, kind) for value, kind in zip(found, kinds, strict=True)]

    return jax.make_jaxpr(part)(*inner.in_avals)
