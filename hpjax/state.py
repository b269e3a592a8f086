"""What a trial carries from tick to tick."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from hpjax.schedules import Plateau

Values = Mapping[str, jax.Array]
"""A trial's traced values by name: its hyperparameters, seeds, lengths and schedules (`resolve.traced` makes them)."""

RUNNING = -1
"""`TrialState.diverged_at` of a trial whose loss has been finite so far."""

CLIPPED = "clipped"
"""Name of the share of steps whose gradient was clipped, among the means of a log window; only where clipping is on."""

NO_METRICS = ("loss", CLIPPED)
"""Means of a log window that no metric gives."""

FOREVER = 2**31 - 1
"""A tick that no trial comes to."""


class Last(NamedTuple):
    """What the logs tell of the last step, float32 scalars.

    Attributes:
      learning_rate: as scheduled.
      weight_decay: as scheduled.
      momentum: as scheduled; 0 of an optimizer without.
      batch_size: examples, as scheduled.
      gradient: global L2 norm before clipping, at the last step of the log window.
      parameters: likewise, after the step.
      update: likewise.
    """

    learning_rate: jax.Array
    weight_decay: jax.Array
    momentum: jax.Array
    batch_size: jax.Array
    gradient: jax.Array
    parameters: jax.Array
    update: jax.Array


class TrialState(NamedTuple):
    """All that a trial carries from tick to tick; a pytree of arrays.

    Attributes:
      tick: int32, ticks done.
      micro: int32, ticks of the step under way.
      accumulation: int32, ticks that the step under way takes.
      params: the model's parameters.
      collections: the model's other variables (batch statistics), empty for most.
      optimizer: the optimizer's state.
      average: exponential moving average of the parameters; None without.
      gradients: sum of this step's micro-batch gradients so far.
      plateau: what a plateau schedule remembers.
      window: float32 sums of loss and metrics over the ticks since the last log boundary, by name, their `count`, and where
        clipping is on the ticks of steps that were clipped.
      last: see `Last`.
      diverged_at: int32, the step whose loss was not finite, or `RUNNING`.
    """

    tick: jax.Array
    micro: jax.Array
    accumulation: jax.Array
    params: Any
    collections: Any
    optimizer: Any
    average: Any
    gradients: Any
    plateau: Plateau
    window: dict[str, jax.Array]
    last: Last
    diverged_at: jax.Array
