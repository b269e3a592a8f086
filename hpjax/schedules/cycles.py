"""Schedules that rise and fall, and can cycle the momentum against the learning rate: cyclic and onecycle."""

from typing import Any

import jax
import jax.numpy as jnp

from hpjax.registry import Scalar
from hpjax.schedules.precise import Precise, Wide, complement, fast_sum, multiply, power, subtract, wide
from hpjax.schedules.registry import SCHEDULES, blend, fraction, half_cosine, number, whole, word

_TRIANGULAR: Any = "triangular"
_COSINE: Any = "cosine"


@SCHEDULES.register
def cyclic(
    step: jax.Array,
    total_steps: jax.Array,
    momentum: Scalar = False,
    *,
    step_size_up: Scalar,
    step_size_down: Scalar | None = None,
    cycle_mode: Scalar = _TRIANGULAR,
    gamma: Precise = 1.0,
    start_factor: Scalar = 0.1,
    momentum_low: Scalar | None = None,
) -> jax.Array:
    """Rises from `start_factor` to the peak and falls back, again and again (torch's CyclicLR); knows no end.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates the schedule has (unused).
      momentum: bool scalar, whether to give the momentum's factor: lowest where the learning rate is highest.
      step_size_up: int32 scalar >= 1, updates of a rise.
      step_size_down: int32 scalar >= 1, updates of a fall; None or -1: as many.
      cycle_mode: int32 scalar, 0 triangular, 1 triangular2 (each cycle half as high as the one before), 2 exp_range
        (height times gamma ** t).
      gamma: scalar > 0, for exp_range.
      start_factor: float32 scalar >= 0, the lowest value as a factor of the peak.
      momentum_low: float32 scalar in [0, 1], the lowest momentum as a factor of the highest; None: momentum stays.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: Smith, Cyclical Learning Rates for Training Neural Networks (2017), section 3.
    """
    del total_steps
    up, down = jnp.maximum(whole(step_size_up), 1), whole(step_size_down)
    down = jnp.where(down < 1, up, down)
    # Two lengths may add up to more than int32 holds; half of uint32's range is enough.
    both = up.astype(jnp.uint32) + down.astype(jnp.uint32)
    cycle, place = step.astype(jnp.uint32) // both, step.astype(jnp.uint32) % both
    rising = place <= up.astype(jnp.uint32)
    height = jnp.where(rising, fraction(place, up), fraction(both - place, down))
    depth = jnp.where(rising, fraction(up.astype(jnp.uint32) - place, up), fraction(place - up.astype(jnp.uint32), down))
    mode = word("cycle_mode", cycle_mode)
    exponent = jnp.where(mode == 1, cycle.astype(jnp.int32), step)
    base = _choose(mode == 1, wide(0.5), wide(gamma))
    scale = jnp.where(mode == 0, jnp.float32(1.0), power(base, exponent))
    # Not 1 - scale, which keeps few digits where gamma ** t is close to 1.
    lost = jnp.where(mode == 0, jnp.float32(0.0), complement(base, exponent))
    return _cycled(momentum, momentum_low, number(start_factor), jnp.float32(1.0), height * scale, depth + height * lost)


@SCHEDULES.register
def onecycle(
    step: jax.Array,
    total_steps: jax.Array,
    momentum: Scalar = False,
    *,
    pct_start: Precise = 0.3,
    div_factor: Scalar = 25.0,
    final_div_factor: Scalar = 1e4,
    three_phase: Scalar = False,
    anneal: Scalar = _COSINE,
    momentum_low: Scalar | None = None,
) -> jax.Array:
    """Rises to the peak and falls far below where it began, once (torch's OneCycleLR), and stays there.

    It starts at 1 / div_factor and ends at 1 / (div_factor * final_div_factor), at its last update, total_steps - 1; the
    peak is at update pct_start * total_steps - 1. In three phases it first falls to where it began, as fast as it rose.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start.
      total_steps: int32 scalar, updates of the cycle.
      momentum: bool scalar, whether to give the momentum's factor: lowest where the learning rate is highest.
      pct_start: scalar in [0, 1], the rise's share of the updates.
      div_factor: float32 scalar > 0.
      final_div_factor: float32 scalar > 0.
      three_phase: int32 or bool scalar.
      anneal: int32 scalar, 0 cosine, 1 linear.
      momentum_low: float32 scalar in [0, 1], the lowest momentum as a factor of the highest; None: momentum stays.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: Smith and Topin, Super-Convergence (2018), in the form of torch.
    """
    total = jnp.maximum(total_steps, 1)
    three = whole(three_phase) != 0
    t, last = wide(jnp.minimum(step, total - 1)), wide(total - 1)
    rise = multiply(wide(pct_start), wide(total))
    top = _minus(rise, 1.0)
    foot = _choose(three, _minus(Wide(2 * rise.high, 2 * rise.low), 2.0), last)
    zero, one = jnp.float32(0.0), jnp.float32(1.0)
    initial = one / number(div_factor)
    final = initial / number(final_div_factor)

    first = subtract(t, top) <= 0
    second = ~first & (~three | (subtract(t, foot) <= 0))
    start = _choose(first, wide(0), _choose(second, top, foot))
    end = _choose(first, top, _choose(second, foot, last))
    length = subtract(end, start)
    # torch divides by zero where a phase has no length; here it is over.
    done = jnp.where(length > 0, subtract(t, start) / jnp.where(length > 0, length, one), one)
    left = jnp.where(length > 0, subtract(end, t) / jnp.where(length > 0, length, one), zero)
    cosine = word("anneal", anneal) == 0
    done, left = jnp.where(cosine, half_cosine(done), done), jnp.where(cosine, half_cosine(left), left)
    height = jnp.where(first, done, jnp.where(second, left, zero))
    depth = jnp.where(first, left, jnp.where(second, done, one))
    below = jnp.where(first | (second & three), initial, final)
    above = jnp.where(first | second, one, initial)
    # In the third phase the learning rate still falls, and the momentum is back.
    of_rate = blend(below, above, jnp.where(first | second, height, left), jnp.where(first | second, depth, done))
    return jnp.where(whole(momentum) != 0, _cycled(True, momentum_low, below, one, height, depth), of_rate)


def _cycled(
    momentum: Scalar, low: Scalar | None, below: jax.Array, above: jax.Array, height: jax.Array, depth: jax.Array
) -> jax.Array:
    """Returns the value between `below` and `above`, or the momentum's between 1 and `low`."""
    of_momentum = blend(jnp.float32(1.0), number(1.0 if low is None else low), height, depth)
    return jnp.where(whole(momentum) != 0, of_momentum, blend(below, above, height, depth))


def _choose(condition: jax.Array, a: Wide, b: Wide) -> Wide:
    return Wide(jnp.where(condition, a.high, b.high), jnp.where(condition, a.low, b.low))


def _minus(a: Wide, small: float) -> Wide:
    """Returns a - small for a whole number small."""
    high = a.high - small
    # What the difference rounds off, whichever of the two is larger.
    back = a.high - high
    return fast_sum(high, ((back - small) + (a.high - (high + back))) + a.low)
