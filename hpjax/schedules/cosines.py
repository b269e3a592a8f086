"""Half a cosine, once or with restarts."""

import jax
import jax.numpy as jnp
from jax import lax

from hpjax.registry import Scalar
from hpjax.schedules.precise import Precise, power
from hpjax.schedules.registry import SCHEDULES, blend, fraction, half_cosine, number, whole


@SCHEDULES.register
def cosine(step: jax.Array, total_steps: jax.Array, *, end_factor: Scalar = 0.0) -> jax.Array:
    """Half a cosine from the peak to `end_factor`, where it stays (torch's CosineAnnealingLR rises again).

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates over which the value falls.
      end_factor: float32 scalar >= 0, value at the end as a factor of the peak.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: Loshchilov and Hutter, SGDR (2017), equation 5 without restarts.
    """
    total = jnp.maximum(total_steps, 1)
    return _half(jnp.minimum(step, total), total, jnp.float32(1.0), number(end_factor))


@SCHEDULES.register
def cosine_restarts(
    step: jax.Array,
    total_steps: jax.Array,
    *,
    cycle_length: Scalar,
    cycle_mult: Scalar = 1,
    cycle_decay: Precise = 1.0,
    end_factor: Scalar = 0.0,
) -> jax.Array:
    """Half a cosine again and again, cycle i of `cycle_length * cycle_mult ** i` updates; knows no end.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates the schedule has (unused).
      cycle_length: int32 scalar >= 1, updates of the first cycle.
      cycle_mult: int32 scalar >= 1, how much longer each cycle is than the one before.
      cycle_decay: scalar > 0, how much lower each cycle starts than the one before.
      end_factor: float32 scalar >= 0, value at the end of every cycle as a factor of the peak.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: Loshchilov and Hutter, SGDR (2017), equation 5 (torch's CosineAnnealingWarmRestarts).
    """
    del total_steps
    cycle, place, length = _cycle(step, jnp.maximum(whole(cycle_length), 1), jnp.maximum(whole(cycle_mult), 1))
    return _half(place, length, power(cycle_decay, cycle), number(end_factor))


def _half(step: jax.Array, total: jax.Array, start: jax.Array, end: jax.Array) -> jax.Array:
    return blend(start, end, half_cosine(fraction(step, total)), half_cosine(fraction(total - step, total)))


def _cycle(step: jax.Array, first: jax.Array, mult: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the number of a step's cycle, the step within it, and the cycle's length: int32, found with integers."""
    # Cycles of equal length are counted by a division, others one by one: there are at most 31.
    cycle = jnp.where(mult == 1, step // first, 0)

    def passed(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return carry[1] >= carry[2]

    def following(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        cycle, place, length = carry
        longest = jnp.int32(2**31 - 1)
        return cycle + 1, place - length, jnp.where(length > longest // mult, longest, length * mult)

    return lax.while_loop(passed, following, (cycle, step - cycle * first, first))
