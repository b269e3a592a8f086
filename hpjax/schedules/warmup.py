"""The learning rate's first updates, before its schedule begins."""

from typing import Any

import jax
import jax.numpy as jnp

from hpjax.registry import Scalar
from hpjax.schedules.precise import divide, power, wide
from hpjax.schedules.registry import after, blend, fraction, half_cosine, number, word

_LINEAR: Any = "linear"


def warmup(
    step: jax.Array, total_steps: jax.Array, *, warmup_shape: Scalar = _LINEAR, warmup_start_factor: Scalar = 0.0
) -> jax.Array:
    """Rises from `warmup_start_factor` to the peak, which the last update of the warmup has.

    The first update is not wasted: a linear warmup over w updates from 0 gives (t + 1) / w.

    Args:
      step: int32 scalar, 0-based optimizer update.
      total_steps: int32 scalar, updates of the warmup.
      warmup_shape: int32 scalar, 0 linear, 1 cosine, 2 exponential.
      warmup_start_factor: float32 scalar >= 0, > 0 for the exponential: the value one update before the first.

    Returns:
      float32 scalar, the factor of the peak value.
    """
    total = jnp.maximum(total_steps, 1)
    now = jnp.minimum(after(step), total)
    done, left = fraction(now, total), fraction(total - now, total)
    start, shape = number(warmup_start_factor), word("warmup_shape", warmup_shape)
    done = jnp.where(shape == 1, half_cosine(done), done)
    line = blend(start, jnp.float32(1.0), done, jnp.where(shape == 1, half_cosine(left), left))
    return jnp.where(shape == 2, power(start, divide(wide(total - now), wide(total))), line)
