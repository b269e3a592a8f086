"""Schedules that stay, drop or fall by a constant rate: constant, step, multistep, exponential, inverse_time."""

from typing import Any

import jax
import jax.numpy as jnp

from hpjax.registry import Scalar
from hpjax.schedules.precise import Precise, Wide, divide, power, wide
from hpjax.schedules.registry import SCHEDULES, number, whole


@SCHEDULES.register
def constant(step: jax.Array, total_steps: jax.Array, *, start_factor: Scalar = 1.0) -> jax.Array:
    """Stays at the peak, or at a factor of it.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates the schedule has (unused).
      start_factor: float32 scalar >= 0, the factor.

    Returns:
      float32 scalar, the factor of the peak value.
    """
    del step, total_steps
    return number(start_factor)


@SCHEDULES.register
def step(step: jax.Array, total_steps: jax.Array, *, step_size: Scalar, gamma: Precise = 0.1) -> jax.Array:
    """Multiplies by `gamma` every `step_size` updates (torch's StepLR); knows no end.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates the schedule has (unused).
      step_size: int32 scalar >= 1, updates between two drops.
      gamma: scalar > 0, what each drop multiplies by.

    Returns:
      float32 scalar, the factor of the peak value.
    """
    del total_steps
    return power(gamma, step // jnp.maximum(whole(step_size), 1))


@SCHEDULES.register
def multistep(step: jax.Array, total_steps: jax.Array, *, milestones: Any, gamma: Precise = 0.1) -> jax.Array:
    """Multiplies by `gamma` at each milestone, from that update on (torch's MultiStepLR); a repeated one counts twice.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates the schedule has (unused).
      milestones: int32 [any number], updates at which it drops; negative ones never come.
      gamma: scalar > 0, what each drop multiplies by.

    Returns:
      float32 scalar, the factor of the peak value.
    """
    del total_steps
    milestones = jnp.asarray(milestones, jnp.int32)
    return power(gamma, ((milestones >= 0) & (milestones <= step)).sum(dtype=jnp.int32))


@SCHEDULES.register
def exponential(
    step: jax.Array,
    total_steps: jax.Array,
    *,
    gamma: Precise,
    decay_steps: Precise = 1,
    staircase: Scalar = False,
    start_factor: Scalar = 1.0,
) -> jax.Array:
    """`start_factor * gamma ** (t / decay_steps)`: torch's ExponentialLR, with `decay_steps` Keras' ExponentialDecay.

    With gamma > 1 it rises: `exponential(start_factor=1e-5, gamma=1e5, decay_steps=100%)` ramps up to the peak, the
    learning-rate range test. It knows no end; beyond float32's largest number it stays there.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates the schedule has (unused).
      gamma: scalar > 0, what `decay_steps` updates multiply by.
      decay_steps: scalar > 0, in updates; not rounded where a schedule is stretched to another length.
      staircase: int32 or bool scalar, whether it falls only every `decay_steps` updates.
      start_factor: float32 scalar >= 0, where it starts.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: for the ramp Smith, Cyclical Learning Rates for Training Neural Networks (2017), section 3.3.
    """
    del total_steps
    return jnp.minimum(number(start_factor) * power(gamma, _units(step, decay_steps, staircase)), jnp.finfo(jnp.float32).max)


@SCHEDULES.register
def inverse_time(
    step: jax.Array,
    total_steps: jax.Array,
    *,
    decay_steps: Precise,
    decay_rate: Scalar = 1.0,
    staircase: Scalar = False,
) -> jax.Array:
    """`1 / (1 + decay_rate * t / decay_steps)` (Keras' InverseTimeDecay); knows no end.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates the schedule has (unused).
      decay_steps: scalar > 0, in updates.
      decay_rate: float32 scalar >= 0.
      staircase: int32 or bool scalar, whether it falls only every `decay_steps` updates.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: Robbins and Monro, A Stochastic Approximation Method (1951), in the form of Keras.
    """
    del total_steps
    units = _units(step, decay_steps, staircase)
    return 1.0 / (1.0 + number(decay_rate) * (units.high + units.low))


def _units(step: jax.Array, decay_steps: Precise, staircase: Scalar) -> Wide:
    """Returns step / decay_steps, of which a staircase keeps the whole part."""
    units = divide(wide(step), wide(decay_steps))
    # Only where the high part is whole does the low part decide.
    floor = jnp.floor(units.high)
    floor = jnp.where((floor == units.high) & (units.low < 0), floor - 1, floor)
    rest = jnp.where(floor == units.high, jnp.floor(units.low), jnp.float32(0.0))
    stairs = whole(staircase) != 0
    return Wide(jnp.where(stairs, floor, units.high), jnp.where(stairs, jnp.maximum(rest, 0.0), units.low))
