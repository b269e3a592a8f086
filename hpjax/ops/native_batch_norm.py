"""Batch normalisation by the native kernels, with a residual and relu, and its gradient.

Forwards x is read for its moments, then once more for the result; backwards the cotangent is read for its sums over the
batch, then once more for that of x. Of a batch that is sharded the moments and the sums are averaged in between.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hpjax.ops import native

_NONE = np.zeros(0, np.float32)
ACTIVATIONS = ("none", "relu")
"""What the kernels apply themselves."""


class How(NamedTuple):
    """What is static of a batch norm.

    Attributes:
      epsilon: added to the variance.
      relu: whether what comes out goes through relu.
      twice: whether the result is given twice, for two that use it.
      axis_name: of the mapped axis over which the rows are sharded, or None.
    """

    epsilon: float
    relu: bool
    twice: bool
    axis_name: str | None


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def batch_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, residual: Any, how: How) -> tuple[Any, jax.Array, jax.Array]:
    """Returns `ops.batch_norm` of float32 arrays that `native.used` accepts.

    Args:
      x: float32 [rows, channels].
      scale: float32 [channels].
      bias: float32 [channels].
      residual: float32 [rows, channels], or [0] for none.
      how: the rest.

    Returns:
      One or two float32 [rows, channels], in a tuple; mean and variance, float32 [channels], through which no gradient goes.
    """
    y, mean, variance, _ = _run(x, scale, bias, residual, how)
    return (y,) * (1 + how.twice), mean, variance


def _run(x: jax.Array, scale: jax.Array, bias: jax.Array, residual: Any, how: How) -> tuple[jax.Array, ...]:
    channels = native.floats(x.shape[1])
    mean, variance = native.call("hpjax_batch_moments", (channels, channels), x)
    if how.axis_name is not None:
        own = mean
        mean = lax.pmean(own, how.axis_name)
        variance = lax.pmean(variance + jnp.square(own - mean), how.axis_name)
    inverse = lax.rsqrt(variance + how.epsilon)
    return _apply(x, mean, inverse * scale, bias, residual, how.relu), mean, variance, inverse


def _apply(x: jax.Array, mean: jax.Array, factor: jax.Array, bias: jax.Array, residual: Any, relu: bool) -> jax.Array:
    (y,) = native.call("hpjax_batch_norm", (native.floats(*x.shape),), x, mean, factor, bias, residual, relu=relu)
    return y  # type: ignore[no-any-return]


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, residual: Any, how: How) -> tuple[Any, Any]:
    y, mean, variance, inverse = _run(x, scale, bias, residual, how)
    # Without a residual x says where relu let something through, and has to be read anyway.
    decides = y if how.relu and residual.size else _NONE
    return ((y,) * (1 + how.twice), mean, variance), (x, mean, inverse, scale, bias, decides, residual.size > 0)


def _backward(how: How, kept: Any, cotangents: Any) -> tuple[Any, ...]:
    x, mean, inverse, scale, bias, decides, added = kept
    vectors = (mean, inverse * scale, bias)
    total, product, inner, masked = _sums(x, *vectors, decides, cotangents[0], how.relu, added)
    shift, slope = total / x.shape[0], jnp.square(inverse) * product / x.shape[0]
    if how.axis_name is not None:
        shift, slope = lax.pmean((shift, slope), how.axis_name)
    to_x = _to_x(x, *vectors, shift, slope, inner, masked)
    return to_x, inverse * product, total, inner if added else _NONE


batch_norm.defvjp(_forward, _backward)


def _sums(
    x: jax.Array,
    mean: jax.Array,
    factor: jax.Array,
    bias: jax.Array,
    y: Any,
    cotangents: tuple[jax.Array, ...],
    relu: bool,
    added: bool,
) -> tuple[jax.Array, jax.Array, jax.Array, bool]:
    """Returns the sums over the rows, and a cotangent with whether relu is still to be taken into account in it.

    It is written where it is needed more than once: as a residual's, and where it is the sum of two.
    """
    first, *other = cotangents
    kept = bool(other) or (relu and added)
    channels, inner = native.floats(x.shape[1]), native.floats(*(x.shape if kept else (0,)))
    operands: Any = (x, mean, factor, bias, y, first, other[0] if other else _NONE)
    total, product, before = native.call("hpjax_batch_norm_sums", (channels, channels, inner), *operands, relu=relu)
    return total, product, before if kept else first, relu and not kept


def _to_x(*operands: Any) -> jax.Array:
    *arrays, cotangent, masked = operands
    results = (native.floats(*cotangent.shape),)
    # Not in place: XLA copies the operand then, though nothing else needs it.
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
    total, product, inner, masked = _sums(x, mean, factor, bias, decides, (cotangent,), relu, added)
    to_x = _to_x(x, mean, factor, bias, _NONE, _NONE, inner, masked)
    return to_x, -factor * total, product, total, inner if added else _NONE


normalise.defvjp(_normalise_forward, _normalise_backward)
