"""What became of the lanes' trials in a round: what was asked of the device, read."""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from hpjax import evaluation, metrics
from hpjax.data import Dataset
from hpjax.state import NO_METRICS, RUNNING
from hpjax.study.group import Group, Issued, Seen
from hpjax.study.kept import Results


class Outcome(NamedTuple):
    """What became of a lane's trial in a round, plain values.

    Attributes:
      number: the trial's.
      evaluation: the number of its evaluation.
      tick: where it was to come to.
      ticks: ticks of the round.
      made: those of them that it made before it diverged.
      diverged_at: the tick whose loss was not finite, or None.
      numbers: loss and metrics by name.
      lane: the lane.
    """

    number: int
    evaluation: int
    tick: int
    ticks: int
    made: int
    diverged_at: int | None
    numbers: dict[str, float]
    lane: int


@dataclasses.dataclass
class Counts:
    """Lane-ticks of a study so far.

    Attributes:
      busy: ticks that trials made.
      late: of those, ticks after a decision that they should have stopped.
      all: ticks that the lanes had time for.
      steps: optimizer steps that trials made.
      rounds: rounds that were looked at.
    """

    busy: int = 0
    late: int = 0
    all: int = 0
    steps: int = 0
    rounds: int = 0

    @property
    def occupancy(self) -> float:
        """The share of the lanes' time in which they made ticks of trials."""
        return self.busy / self.all if self.all else math.nan


class Pending(NamedTuple):
    """What was issued and not looked at yet.

    Attributes:
      group: whose lanes.
      issued: what the device was asked for; None where it was read for a checkpoint.
      outcomes: what it came to, where it was read.
      results: what is kept of the lanes' trials, where they came to an evaluation.
    """

    group: Group
    issued: Issued | None
    outcomes: tuple[Outcome, ...] = ()
    results: Results | None = None


def read(group: Group, issued: Issued, dataset: Dataset) -> tuple[Outcome, ...]:
    """Returns what became of the trials that come to an evaluation, none in the middle of a round; waits for the device."""
    report = {name: np.asarray(value) for name, value in jax.device_get(issued.report).items()}
    if not issued.seen:
        return ()
    measured = None if issued.measured is None else jax.device_get(issued.measured)
    return tuple(_outcome(group, seen, report, measured, dataset) for seen in issued.seen)


def _outcome(
    group: Group,
    seen: Seen,
    report: Mapping[str, np.ndarray],
    measured: Mapping[str, np.ndarray] | None,
    dataset: Dataset,
) -> Outcome:
    scale = dataset.unit(seen.fold)
    of_lane = {name: value[seen.lane] for name, value in report.items()}
    numbers = {
        f"train/{name}": float(of_lane[name] if name in NO_METRICS else metrics.finish(name, of_lane[name], scale))
        for name in group.program.trial.reported
    }
    if measured is not None:
        val = {name: value[seen.lane] for name, value in measured.items()}
        finished, _ = evaluation.finish(val, dataset.held_out(seen.fold)[1], scale)
        numbers |= {f"val/{name}": value for name, value in finished.items()}
    diverged = int(of_lane["tick"]) if of_lane["diverged_at"] != RUNNING else None
    made = max(int(of_lane["tick"]) - (seen.tick - seen.ticks), 0)
    return Outcome(seen.number, seen.evaluation, seen.tick, seen.ticks, made, diverged, numbers, seen.lane)
