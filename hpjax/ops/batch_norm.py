"""The batch normalisation operator: mean and variance over a batch, or given ones, with a residual and an activation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hpjax.ops import native, native_batch_norm
from hpjax.ops.activations import activate

EPSILON = 1e-5


def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None = None,
    *,
    activation: str = "none",
    epsilon: float = EPSILON,
    axis_name: str | None = None,
    twice: bool = False,
) -> tuple[Any, jax.Array, jax.Array]:
    """Returns `activation(norm(x) * scale + bias + residual)`, the norm over all axes but the last, and its moments.

    Args:
      x: float [..., channels], of two dimensions at least.
      scale: float [channels].
      bias: float [channels].
      residual: float, shaped as x; None adds nothing.
      activation: a name in `ACTIVATIONS`.
      epsilon: added to the variance.
      axis_name: name of the mapped axis over which x is sharded, in equal parts; None if it is not.
      twice: whether the result is given twice, for two that use it: their cotangents then need no pass to be added.

    Returns:
      float, shaped as x, or a pair of it; mean and variance (divided by n) of each channel, over all shards, float32 at
      least [channels], through which no gradient goes.

    Raises:
      ValueError: the shapes do not fit.

    Source: Ioffe and Szegedy, Batch Normalization (2015), algorithm 1.
    """
    _check(x, residual, scale=scale, bias=bias)
    if native.used(x, scale, bias, residual):
        inside = activation in native_batch_norm.ACTIVATIONS
        how = native_batch_norm.How(epsilon, inside and activation == "relu", inside and twice, axis_name)
        ys, mean, variance = native_batch_norm.batch_norm(_rows(x), scale, bias, _rows(residual), how)
        ys = [y.reshape(x.shape) if inside else activate(activation, y.reshape(x.shape)) for y in ys]
        return (ys[0], ys[-1]) if twice else ys[0], lax.stop_gradient(mean), lax.stop_gradient(variance)
    mean, variance = moments(x, tuple(range(x.ndim - 1)), axis_name)
    y = scaled(x, mean, variance, scale, bias, epsilon)
    kept = [lax.stop_gradient(moment).reshape(scale.shape) for moment in (mean, variance)]
    y = _finished(y, residual, activation)
    return (y, y) if twice else y, kept[0], kept[1]


def normalise(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None = None,
    *,
    activation: str = "none",
    epsilon: float = EPSILON,
) -> jax.Array:
    """Returns `activation((x - mean) / sqrt(variance + epsilon) * scale + bias + residual)`: `batch_norm` of given moments.

    Args:
      x: float [..., channels], of two dimensions at least.
      mean: float [channels].
      variance: float [channels].
      scale: float [channels].
      bias: float [channels].
      residual: float, shaped as x; None adds nothing.
      activation: a name in `ACTIVATIONS`.
      epsilon: added to the variance.

    Returns:
      float, shaped as x.

    Raises:
      ValueError: the shapes do not fit.
    """
    _check(x, residual, mean=mean, variance=variance, scale=scale, bias=bias)
    if native.used(x, mean, variance, scale, bias, residual):
        inside = activation in native_batch_norm.ACTIVATIONS
        factor = lax.rsqrt(variance + epsilon) * scale
        operands = (_rows(x), mean, factor, bias, _rows(residual))
        y = native_batch_norm.normalise(*operands, inside and activation == "relu").reshape(x.shape)
        return y if inside else activate(activation, y)
    y = scaled(x, last(mean, x), last(variance, x), scale, bias, epsilon)
    return _finished(y, residual, activation)


def moments(x: jax.Array, axes: tuple[int, ...], axis_name: str | None = None) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance over some axes, which are kept with size 1, in two passes.

    Args:
      x: float [...].
      axes: what is averaged over.
      axis_name: name of a mapped axis that is averaged over as well, or None.

    Returns:
      Two arrays of float32 at least. A large mean costs no digits of the variance.
    """
    x = x.astype(wide(x))

    def mean(values: jax.Array) -> jax.Array:
        result = values.mean(axes, keepdims=True)
        return result if axis_name is None else lax.pmean(result, axis_name)

    centre = mean(x)
    return centre, mean(jnp.square(x - centre))


def scaled(
    x: jax.Array, mean: jax.Array, variance: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> jax.Array:
    """Returns x normed, in its own dtype; mean and variance have its rank, scale and bias are [channels]."""
    factor = lax.rsqrt(variance + epsilon) * last(scale, x)
    return (x - mean).astype(x.dtype) * factor.astype(x.dtype) + last(bias, x).astype(x.dtype)


def last(values: jax.Array, x: jax.Array) -> jax.Array:
    """Returns a number for each channel [channels] with the rank of x, in the dtype of its statistics."""
    return values.reshape((1,) * (x.ndim - 1) + (-1,)).astype(wide(x))


def wide(x: jax.Array) -> jnp.dtype:
    """Returns the dtype of statistics: float32 at least."""
    return jnp.dtype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)


def _finished(y: jax.Array, residual: jax.Array | None, activation: str) -> jax.Array:
    return activate(activation, y if residual is None else y + residual)


def _rows(x: jax.Array | None) -> Any:
    return np.zeros(0, np.float32) if x is None else x.reshape(-1, x.shape[-1])


def _check(x: jax.Array, residual: jax.Array | None, **vectors: jax.Array) -> None:
    fit = x.ndim > 1 and (residual is None or residual.shape == x.shape)
    if not fit or any(vector.shape != x.shape[-1:] for vector in vectors.values()):
        said = ", ".join(f"{name} {vector.shape}" for name, vector in vectors.items())
        beside = "" if residual is None else f", residual {residual.shape}"
        raise ValueError(f"batch_norm: x {x.shape}{beside}, {said} do not fit")
