"""What a study knows of its trials: plain values on the host, one record a trial."""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

Status = Literal["waiting", "running", "paused", "done", "stopped", "diverged"]
ENDED: tuple[Status, ...] = ("done", "stopped", "diverged")
"""What a trial may have come to: its end, a scheduler's decision, or a loss that is not finite (infeasible)."""


class Measured(NamedTuple):
    """What one evaluation of a trial gave.

    Attributes:
      tick: ticks done.
      step: optimizer steps done.
      value: the objective's measure there; NaN where the loss was not finite.
      numbers: loss and metrics by name, `val/loss` for example.
    """

    tick: int
    step: int
    value: float
    numbers: dict[str, float]


@dataclasses.dataclass
class TrialRecord:
    """One trial of a study.

    Attributes:
      number: its place in the study, from 0.
      setting: the number of its hyperparameter setting: trials that differ only in seed or fold share it.
      values: the varied settings, by name, seed and fold included, as `Config` takes them.
      point: the place of the hyperparameter setting in the unit cube of the space; empty for one that was enqueued.
      status: where it is.
      curve: its evaluations, first to last.
      objective: the value that counts over the run (best, last or smoothed); NaN before the first evaluation and of a
        diverged trial.
      diverged_at: the step whose loss was not finite, or None.
      began: seconds since the study began at which it took its lane.
      ended: likewise, at which it ended; NaN before.
    """

    number: int
    setting: int
    values: dict[str, Any]
    point: tuple[float, ...] = ()
    status: Status = "waiting"
    curve: list[Measured] = dataclasses.field(default_factory=list)
    objective: float = math.nan
    diverged_at: int | None = None
    began: float = math.nan
    ended: float = math.nan


@dataclasses.dataclass
class SettingSummary:
    """A hyperparameter setting over its seeds and folds.

    Attributes:
      setting: its number.
      values: the varied settings without seed and fold.
      numbers: its trials.
      value: mean or median of the trials' objectives; NaN if one of them is infeasible or has none.
      spread: sample standard deviation over them; NaN of one trial.
      status: `done` if all trials are; else that of the first that is not.
    """

    setting: int
    values: dict[str, Any]
    numbers: list[int]
    value: float
    spread: float
    status: Status
