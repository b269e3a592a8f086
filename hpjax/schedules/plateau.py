"""The schedule that is no function of the step: it drops, or grows, when the validation metric has stopped to improve."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hpjax.registry import Scalar
from hpjax.schedules.registry import SCHEDULES, number, whole, word

_RELATIVE: Any = "relative"


class Plateau(NamedTuple):
    """What the metric has been so far, scalars.

    Attributes:
      best: float32, the best metric; NaN before the first.
      bad: int32, evaluations since, or since the last drop.
      cooldown: int32, evaluations left that are not counted.
      reduction: float32, product of the drops, or of what it grew by: the schedule's factor.
    """

    best: jax.Array
    bad: jax.Array
    cooldown: jax.Array
    reduction: jax.Array


@SCHEDULES.register
def plateau(
    step: jax.Array,
    total_steps: jax.Array,
    reduction: Scalar = 1.0,
    *,
    gamma: Scalar = 0.1,
    plateau_patience: Scalar = 10,
    plateau_threshold: Scalar = 1e-4,
    plateau_threshold_mode: Scalar = _RELATIVE,
    plateau_cooldown: Scalar = 0,
    min_factor: Scalar = 0.0,
    max_factor: Scalar = 64.0,
    plateau_epsilon: Scalar = 1e-8,
) -> jax.Array:
    """Drops when the validation metric has not improved for more than `plateau_patience` evaluations.

    With a `gamma` above 1 it grows instead: what a batch size does where a learning rate would drop.

    Args:
      step: int32 scalar, 0-based optimizer update since the schedule's start (unused).
      total_steps: int32 scalar, updates the schedule has (unused).
      reduction: float32 scalar, `Plateau.reduction` of the trial's state.
      gamma: float32 scalar > 0, what a drop, or growth, multiplies by.
      plateau_patience: int32 scalar >= 0; it drops when the count of bad evaluations exceeds this.
      plateau_threshold: float32 scalar >= 0, by how much a better metric must be better.
      plateau_threshold_mode: int32 scalar, 0 relative (a share of |best|), 1 absolute.
      plateau_cooldown: int32 scalar >= 0, evaluations after a drop that are not counted.
      min_factor: float32 scalar >= 0, the lowest it goes.
      max_factor: float32 scalar > 0, the highest it goes.
      plateau_epsilon: float32 scalar >= 0, a smaller drop is not made.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: torch's ReduceLROnPlateau, whose relative threshold on a negative metric has the wrong sign; not so here.
    Growth instead of drops: Smith et al., Don't Decay the Learning Rate, Increase the Batch Size (2018).
    """
    del step, total_steps, gamma, plateau_patience, plateau_threshold, plateau_threshold_mode
    del plateau_cooldown, min_factor, max_factor, plateau_epsilon
    return number(reduction)


def init() -> Plateau:
    """Returns the state before the first evaluation."""
    return Plateau(jnp.float32(jnp.nan), jnp.int32(0), jnp.int32(0), jnp.float32(1.0))


def observed(
    state: Plateau,
    metric: jax.Array,
    maximise: bool,
    *,
    gamma: Scalar,
    plateau_patience: Scalar,
    plateau_threshold: Scalar,
    plateau_threshold_mode: Scalar,
    plateau_cooldown: Scalar,
    min_factor: Scalar,
    max_factor: Scalar,
    plateau_epsilon: Scalar,
) -> Plateau:
    """Returns the state after an evaluation; `schedules.observe` gives it the settings of a trial.

    Args:
      state: the state before.
      metric: float32 scalar, the validation metric; NaN is no improvement.
      maximise: whether a higher metric is better.
      gamma, plateau_patience, plateau_threshold, plateau_threshold_mode, plateau_cooldown, min_factor, max_factor,
        plateau_epsilon: see `plateau`.
    """
    metric = number(metric)
    margin = number(plateau_threshold)
    relative = word("plateau_threshold_mode", plateau_threshold_mode) == 0
    margin = jnp.where(jnp.isfinite(state.best) & relative, margin * jnp.abs(state.best), margin)
    gain = metric - state.best if maximise else state.best - metric
    better = jnp.where(jnp.isnan(state.best), ~jnp.isnan(metric), gain > margin)
    cooling = state.cooldown > 0
    bad = jnp.where(better | cooling, 0, state.bad + 1)
    drop = bad > whole(plateau_patience)
    grows, next_one = number(gamma) > 1, state.reduction * number(gamma)
    next_one = jnp.where(grows, jnp.minimum(next_one, number(max_factor)), jnp.maximum(next_one, number(min_factor)))
    change = jnp.where(grows, next_one - state.reduction, state.reduction - next_one)
    made = drop & (change > number(plateau_epsilon))
    return Plateau(
        best=jnp.where(better, metric, state.best),
        bad=jnp.where(drop, 0, bad),
        cooldown=jnp.where(drop, whole(plateau_cooldown), state.cooldown - cooling),
        reduction=jnp.where(made, next_one, state.reduction),
    )
