"""Batch normalisation by the native kernels, with a residual and relu, and its gradient.

Forwards x is read for its moments, then once more for the result; backwards the cotangent is read for its sums over the
batch, then once more for that of x. Of a batch that is sharded the moments and the sums are averaged in between.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hpjax.ops import native

_NONE = np.zeros(0, np.float32)
ACTIVATIONS = ("none", "relu")
"""What the kernels apply themselves."""


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, residual: Any, epsilon: float, relu: bool, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns `ops.batch_norm` of float32 arrays that `native.used` accepts.

    Args:
      x: float32 [rows, channels].
      scale: float32 [channels].
      bias: float32 [channels].
      residual: float32 [rows, channels], or [0] for none.
      epsilon: added to the variance.
      relu: whether what comes out goes through relu.
      axis_name: of the mapped axis over which the rows are sharded, or None.

    Returns:
      float32 [rows, channels], and mean and variance, float32 [channels], through which no gradient goes.
    """
    y, mean, variance, _ = _run(x, scale, bias, residual, epsilon, relu, axis_name)
    return y, mean, variance


def _run(
    x: jax.Array, scale: jax.Array, bias: jax.Array, residual: Any, epsilon: float, relu: bool, axis_name: str | None
) -> tuple[jax.Array, ...]:
    channels = native.floats(x.shape[1])
    mean, variance = native.call("hpjax_batch_moments", (channels, channels), x)
    if axis_name is not None:
        own = mean
        mean = lax.pmean(own, axis_name)
        variance = lax.pmean(variance + jnp.square(own - mean), axis_name)
    inverse = lax.rsqrt(variance + epsilon)
    return _apply(x, mean, inverse * scale, bias, residual, relu), mean, variance, inverse


def _apply(x: jax.Array, mean: jax.Array, factor: jax.Array, bias: jax.Array, residual: Any, relu: bool) -> jax.Array:
    (y,) = native.call("hpjax_batch_norm", (native.floats(*x.shape),), x, mean, factor, bias, residual, relu=relu)
    return y  # type: ignore[no-any-return]


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, residual: Any, *static: Any) -> tuple[Any, Any]:
    y, mean, variance, inverse = _run(x, scale, bias, residual, *static)
    _, relu, _ = static
    # Without a residual x says where relu let something through, and has to be read anyway.
    decides = y if relu and residual.size else _NONE
    return (y, mean, variance), (x, mean, inverse, scale, bias, decides, residual.size > 0)


def _backward(epsilon: float, relu: bool, axis_name: str | None, kept: Any, cotangents: Any) -> tuple[Any, ...]:
    del epsilon
    x, mean, inverse, scale, bias, decides, added = kept
    factor = inverse * scale
    total, product, inner, masked = _sums(x, mean, factor, bias, decides, cotangents[0], relu, added)
    shift, slope = total / x.shape[0], jnp.square(inverse) * product / x.shape[0]
    if axis_name is not None:
        shift, slope = lax.pmean((shift, slope), axis_name)
    to_x = _to_x(x, mean, factor, bias, shift, slope, inner, masked)
    return to_x, inverse * product, total, inner if added else _NONE


batch_norm.defvjp(_forward, _backward)


def _sums(
    x: jax.Array, mean: jax.Array, factor: jax.Array, bias: jax.Array, y: Any, cotangent: jax.Array, relu: bool, added: bool
) -> tuple[jax.Array, jax.Array, jax.Array, bool]:
    """Returns the sums over the rows, and a cotangent with whether relu is still to be taken into account in it."""
    kept = relu and added
    channels, inner = native.floats(x.shape[1]), native.floats(*(x.shape if kept else (0,)))
    operands: Any = (x, mean, factor, bias, y, cotangent, _NONE)
    total, product, before = native.call("hpjax_batch_norm_sums", (channels, channels, inner), *operands, relu=relu)
    return total, product, before if kept else cotangent, relu and not kept


def _to_x(*operands: Any) -> jax.Array:
    *arrays, cotangent, masked = operands
    results = (native.floats(*cotangent.shape),)
    (to_x,) = native.call("hpjax_batch_norm_gradient", results, *arrays, cotangent, relu=masked)
    return to_x  # type: ignore[no-any-return]


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def normalise(x: jax.Array, mean: jax.Array, factor: jax.Array, bias: jax.Array, residual: Any, relu: bool) -> jax.Array:
    """Returns `(x - mean) * factor + bias + residual`, through relu where asked for; arrays as for `batch_norm`."""
    return _apply(x, mean, factor, bias, residual, relu)


def _normalise_forward(
    x: jax.Array, mean: jax.Array, factor: jax.Array, bias: jax.Array, residual: Any, relu: bool
) -> tuple[Any, Any]:
    y = _apply(x, mean, factor, bias, residual, relu)
    return y, (x, mean, factor, bias, y if relu and residual.size else _NONE, residual.size > 0)


def _normalise_backward(relu: bool, kept: Any, cotangent: jax.Array) -> tuple[Any, ...]:
    x, mean, factor, bias, decides, added = kept
    total, product, inner, masked = _sums(x, mean, factor, bias, decides, cotangent, relu, added)
    to_x = _to_x(x, mean, factor, bias, _NONE, _NONE, inner, masked)
    return to_x, -factor * total, product, total, inner if added else _NONE


normalise.defvjp(_normalise_forward, _normalise_backward)
