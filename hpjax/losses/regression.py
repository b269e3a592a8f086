"""Losses of numbers, for regression: the mean over an example's targets, in the units of the standardised targets."""

import jax
import jax.numpy as jnp

from hpjax.losses.registry import LOSSES, for_tasks
from hpjax.registry import Scalar


@LOSSES.register
@for_tasks("regression")
def mse(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Squared error, not halved.

    Args:
      outputs: float32 [..., targets].
      targets: float32, as many.

    Returns:
      float32 [...], the mean over an example's targets.
    """
    return jnp.mean(jnp.square(outputs - targets.reshape(outputs.shape)), axis=-1)


@LOSSES.register
@for_tasks("regression")
def huber(outputs: jax.Array, targets: jax.Array, *, huber_delta: Scalar = 1.0) -> jax.Array:
    """Half the squared error up to an error of `huber_delta`, from there on a straight line: outliers pull less.

    Args:
      outputs: float32 [..., targets].
      targets: float32, as many.
      huber_delta: float32 scalar > 0, where the line begins; may be traced.

    Returns:
      float32 [...], the mean over an example's targets.

    Source: Huber, Robust Estimation of a Location Parameter (1964).
    """
    error = jnp.abs(outputs - targets.reshape(outputs.shape))
    near = jnp.minimum(error, huber_delta)
    return jnp.mean(near * (error - 0.5 * near), axis=-1)
