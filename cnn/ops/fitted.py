"""Sizes that are not known while a program is made: taken to fit, and checked where the program is called.

`jax.export` traces programs for images whose height and width have names instead of numbers. Whether a window fits such
an image, and whether a size divides, may then be unknown. The exported program asks this of the sizes that it is called
with, by the same operation by which JAX checks the constraints of `jax.export.symbolic_shape`.
"""

from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import ad, batching, mlir

from cnn.windows import Condition, Pair

_fitted_p = Primitive("fitted")


def fitted(images: jax.Array, size: Pair, conditions: Sequence[Condition]) -> jax.Array:
    """Images of which it is said that they have a size, in a program that refuses to run where they have not.

    JAX gives the size of what a window slides over as a formula that also covers images smaller than the window. Such
    formulas grow with each layer, until no question about them can be answered in a reasonable time.

    Args:
      images: [N, H, W, C].
      size: the formulas of height and width under the conditions.
      conditions: what must hold of the sizes that the program is called with, from `cnn.windows.conditions`.

    Returns:
      The images, [N, *size, C]; those that were given if no size is symbolic.
    """
    if not conditions and not any(map(is_symbolic_dim, size)):
        return images
    hold = [jnp.asarray(condition.slack) >= 0 for condition in conditions]
    shape = (images.shape[0], *size, images.shape[3])
    return _fitted_p.bind(images, *hold, shape=shape, messages=tuple(one.message for one in conditions))


def _abstract(images: Any, *hold: Any, shape: tuple[int, ...], messages: tuple[str, ...]) -> Any:
    del hold, messages
    return images.update(shape=shape)


def _lower(context: Any, images: Any, *hold: Any, shape: tuple[int, ...], messages: tuple[str, ...]) -> Any:
    del context, shape  # in the program both formulas are one unknown number
    for one, message in zip(hold, messages, strict=True):
        call = stablehlo.CustomCallOp([], [one], "shape_assertion", has_side_effect=True)
        call.operation.attributes["error_message"] = ir.StringAttr.get(message)
    return [images]


def _jvp(primals: Any, tangents: Any, shape: tuple[int, ...], messages: tuple[str, ...]) -> tuple[Any, Any]:
    out = _fitted_p.bind(*primals, shape=shape, messages=messages)
    tangent = tangents[0]
    if isinstance(tangent, ad.Zero):
        return out, jnp.zeros_like(out)
    return out, _fitted_p.bind(tangent, shape=shape, messages=())


def _transpose(cotangent: Any, images: Any, shape: tuple[int, ...], messages: tuple[str, ...]) -> list[Any]:
    del shape, messages
    if isinstance(cotangent, ad.Zero):
        return [ad.Zero(images.aval)]
    return [_fitted_p.bind(cotangent, shape=images.aval.shape, messages=())]


def _batch(arguments: Any, dims: Any, *, shape: tuple[int, ...], messages: tuple[str, ...]) -> tuple[jax.Array, int]:
    (images, *hold), axis = arguments, dims[0]
    made = (*shape[:axis], images.shape[axis], *shape[axis:])
    return _fitted_p.bind(images, *hold, shape=made, messages=messages), axis


_fitted_p.def_abstract_eval(_abstract)
ad.primitive_jvps[_fitted_p] = _jvp
ad.primitive_transposes[_fitted_p] = _transpose
cast(Any, batching.primitive_batchers)[_fitted_p] = _batch
mlir.register_lowering(_fitted_p, _lower)
