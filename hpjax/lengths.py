"""A config's lengths in optimizer steps, once the size of the training split is known."""

import dataclasses
from fractions import Fraction
from typing import Any, NamedTuple

from hpjax import durations, scheduling
from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.schedules import Clock, Segment

INT32_MAX = 2**31 - 1


class Lengths(NamedTuple):
    """A run's lengths in optimizer steps.

    Attributes:
      train_steps: of the whole run.
      schedules: what is scheduled, by quantity, see `schedules.plan`.
      eval_every: between two evaluations.
      log_every: between two log points.
      checkpoint_every: between two checkpoints.
      early_stopping_min_steps: before which early stopping does not stop.
      inspect_every: between two looks inside; 0 where there are none.
      warmup_share: the warmup as a share of the schedule's whole length.
    """

    train_steps: int
    schedules: dict[str, tuple[Segment, ...]]
    eval_every: int
    log_every: int
    checkpoint_every: int
    early_stopping_min_steps: int
    inspect_every: int = 0
    warmup_share: float = 0.0


class _Steps:
    """Turns the config's lengths into steps, with messages that name them."""

    def __init__(self, config: Config, train_size: int):
        self._config, self._train_size = config, train_size

    def of(self, name: str, whole: int | None = None) -> int:
        given = getattr(self._config, name)
        try:
            steps = durations.to_steps(
                given, batch_size=self._config.batch_size, epoch_examples=self._train_size, whole=whole
            )
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
        if steps > INT32_MAX:
            raise ConfigError(f"{name} is {given}, {steps} steps; expected fewer than 2^31")
        return steps

    def at_least_one(self, name: str, whole: int | None = None) -> int:
        steps = self.of(name, whole)
        if steps < 1:
            raise ConfigError(f"{name} is {getattr(self._config, name)}; expected at least one step")
        return steps


def lengths(config: Config, own: dict[str, Any], train_size: int) -> tuple[Lengths, list[str]]:
    """Returns a resolved config's lengths in steps, and what a person should be told about them.

    Args:
      config: a resolved config.
      own: the chosen parts' own settings.
      train_size: examples in the training split.

    Raises:
      ConfigError: a length is zero or does not fit the others, or the batch is larger than the data.
    """
    if config.batch_size > train_size:
        raise ConfigError(f"batch_size is {config.batch_size}; expected at most the training split's {train_size} examples")
    steps = _Steps(config, train_size)
    train_steps = steps.at_least_one("train_steps")
    examples = train_steps * config.batch_size
    if examples > INT32_MAX:
        raise ConfigError(
            f"train_steps is {config.train_steps}, with batch_size {config.batch_size} {examples} examples; "
            "expected fewer than 2^31"
        )
    horizon = steps.at_least_one("schedule_steps", train_steps)
    warmup = steps.of("warmup", horizon)
    if warmup > horizon:
        raise ConfigError(f"warmup is {config.warmup}, {warmup} steps; expected at most the schedule's {horizon} steps")
    clock = Clock(config.batch_size, train_size, horizon)
    notes = []
    if horizon != train_steps and config.rescale_schedule:
        notes.append(
            f"the schedule was written for {horizon} steps, the run has {train_steps}: warmup and schedule are stretched "
            f"by {train_steps / horizon:.4g} (--norescale_schedule keeps them)"
        )
        clock = dataclasses.replace(clock, stretch=Fraction(train_steps, horizon))
    elif horizon != train_steps:
        notes.append(f"the schedule ends at step {horizon}, the run at step {train_steps}")
    planned = scheduling.plans(config, own, clock, warmup)
    ends = [segment.start + segment.length for segment in planned["learning_rate"][-1:] if config.schedule.count(":")]
    if ends and ends[0] < train_steps:
        notes.append(f"the schedule's parts end at step {ends[0]}, the run at step {train_steps}")
    # The end of a run is always logged, evaluated and saved; what comes later is as good as never.
    looks = ("eval_every", "log_every", "checkpoint_every", *(("inspect_every",) if config.inspect else ()))
    every = {name: min(steps.at_least_one(name, train_steps), train_steps) for name in looks}
    patience_from = steps.of("early_stopping_min_steps", train_steps)
    share = warmup / horizon
    return Lengths(train_steps, planned, **every, early_stopping_min_steps=patience_from, warmup_share=share), notes
