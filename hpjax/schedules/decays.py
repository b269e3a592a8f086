"""Schedules that end after their updates: linear, polynomial, rex, wsd; and inverse_sqrt and noam, which go on."""

from typing import Any

import jax
import jax.numpy as jnp

from hpjax.registry import Scalar
from hpjax.schedules import precise
from hpjax.schedules.precise import Precise, divide, wide
from hpjax.schedules.registry import SCHEDULES, after, blend, fraction, half_cosine, number, whole, word

_LINEAR: Any = "linear"


@SCHEDULES.register
def linear(step: jax.Array, total_steps: jax.Array, *, start_factor: Scalar = 1.0, end_factor: Scalar = 0.0) -> jax.Array:
    """A line from `start_factor` to `end_factor`, where it stays (torch's LinearLR).

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates over which the value changes.
      start_factor: float32 scalar >= 0, value at the start as a factor of the peak.
      end_factor: float32 scalar >= 0, value at the end.

    Returns:
      float32 scalar, the factor of the peak value.
    """
    total = jnp.maximum(total_steps, 1)
    done = jnp.minimum(step, total)
    return blend(number(start_factor), number(end_factor), fraction(done, total), fraction(total - done, total))


@SCHEDULES.register
def polynomial(step: jax.Array, total_steps: jax.Array, *, power: Precise = 1.0, end_factor: Scalar = 0.0) -> jax.Array:
    """`(1 - end_factor) * (1 - t / total_steps) ** power + end_factor`, then stays (torch's PolynomialLR with an end).

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates over which the value falls.
      power: scalar > 0.
      end_factor: float32 scalar >= 0, value at the end as a factor of the peak.

    Returns:
      float32 scalar, the factor of the peak value.
    """
    total = jnp.maximum(total_steps, 1)
    left = precise.power(divide(wide(total - jnp.minimum(step, total)), wide(total)), power)
    return blend(jnp.float32(1.0), number(end_factor), 1.0 - left, left)


@SCHEDULES.register
def rex(step: jax.Array, total_steps: jax.Array, *, rex_beta: Scalar = 0.5) -> jax.Array:
    """`(1 - x) / (1 - x (1 - rex_beta))` with x = t / total_steps: late and steep for a small beta, linear for 1.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates over which the value falls to 0.
      rex_beta: float32 scalar > 0.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: Chen, Wolfe and Kyrillidis, REX: Revisiting Budgeted Training with an Improved Schedule (2022), whose form
    has beta = 1/2.
    """
    total = jnp.maximum(total_steps, 1)
    done = jnp.minimum(step, total)
    left = fraction(total - done, total)
    # 1 - x (1 - beta) = (1 - x) + x beta, in which nothing cancels.
    return left / (left + fraction(done, total) * number(rex_beta))


@SCHEDULES.register
def wsd(
    step: jax.Array,
    total_steps: jax.Array,
    *,
    decay_length: Scalar | None = None,
    decay_shape: Scalar = _LINEAR,
    end_factor: Scalar = 0.0,
) -> jax.Array:
    """Stays at the peak, then falls to `end_factor` over its last part: warmup, stable, decay.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates the schedule has.
      decay_length: int32 scalar >= 1, updates of the last part, cut to `total_steps`; None or -1: a fifth of them.
      decay_shape: int32 scalar, 0 linear, 1 sqrt (1 - sqrt(x) of the part x), 2 cosine.
      end_factor: float32 scalar >= 0, value at the end as a factor of the peak.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: Hu et al., MiniCPM (2024); the square root from Haegele et al., Scaling Laws and Compute-Optimal Training
    Beyond Fixed Training Durations (2024).
    """
    total = jnp.maximum(total_steps, 1)
    length = whole(decay_length)
    length = jnp.clip(jnp.where(length < 0, (total + 4) // 5, length), 1, total)
    left = jnp.minimum(total - jnp.minimum(step, total), length)
    x, rest = fraction(length - left, length), fraction(left, length)
    root = jnp.sqrt(x)
    # 1 - sqrt(x) = (1 - x) / (1 + sqrt(x)), in which nothing cancels.
    shapes = [(x, rest), (root, rest / (1.0 + root)), (half_cosine(x), half_cosine(rest))]
    shape = word("decay_shape", decay_shape)
    done, rest = (jnp.select([shape == 0, shape == 1], list(values[:2]), values[2]) for values in zip(*shapes, strict=True))
    return blend(jnp.float32(1.0), number(end_factor), done, rest)


@SCHEDULES.register
def inverse_sqrt(step: jax.Array, total_steps: jax.Array, *, ramp_steps: Scalar) -> jax.Array:
    """Rises as (t + 1) / ramp_steps, then falls as sqrt(ramp_steps / (t + 1)); knows no end.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates the schedule has (unused).
      ramp_steps: int32 scalar >= 1, updates of the rise; 1: none.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: Vaswani et al., Attention Is All You Need (2017), scaled to a peak of 1.
    """
    del total_steps
    count, ramp = after(step), jnp.maximum(whole(ramp_steps), 1)
    return jnp.where(count < ramp, fraction(count, ramp), jnp.sqrt(fraction(ramp, count)))


@SCHEDULES.register
def noam(step: jax.Array, total_steps: jax.Array, *, ramp_steps: Scalar, noam_width: Scalar = 512) -> jax.Array:
    """`noam_width ** -0.5 * min((t + 1) ** -0.5, (t + 1) * ramp_steps ** -1.5)`; knows no end.

    The peak value multiplies it, so that the paper's learning rate has peak 1.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates the schedule has (unused).
      ramp_steps: int32 scalar >= 1, updates of the rise.
      noam_width: int32 scalar >= 1, the model's width d_model.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: Vaswani et al., Attention Is All You Need (2017), equation 3.
    """
    width, ramp = whole(noam_width).astype(jnp.float32), jnp.maximum(whole(ramp_steps), 1).astype(jnp.float32)
    return inverse_sqrt(step, total_steps, ramp_steps=ramp_steps) / jnp.sqrt(width) / jnp.sqrt(ramp)
