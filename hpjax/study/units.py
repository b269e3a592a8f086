"""Units: what schedulers judge, a hyperparameter setting over all its seeds and folds."""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence

from hpjax.objective import Evaluation, Objective
from hpjax.study.records import TrialRecord
from hpjax.study.samplers import Seen
from hpjax.study.schedulers import Decision, Scheduler


class Unit:
    """The trials of one setting, as far as they have come.

    Attributes:
      numbers: their numbers.
      reported: evaluations that the scheduler has been told.
    """

    def __init__(self, numbers: Sequence[int]):
        self.numbers = tuple(numbers)
        self.reported = 0


class Units:
    """Tells a scheduler how settings do: after an evaluation of the last of its trials, by their mean or median.

    Attributes:
      seen: the newest settings that have ended, for samplers that learn.
      best: the best setting that has ended, and its value; None before there is one.
    """

    def __init__(self, scheduler: Scheduler, objective: Objective, aggregate: str, records: list[TrialRecord]):
        self._scheduler, self._objective, self._records = scheduler, objective, records
        self._aggregate = statistics.fmean if aggregate == "mean" else statistics.median
        self._units: dict[int, Unit] = {}
        self.seen: deque[Seen] = deque(maxlen=1000)
        self.best: tuple[int, float] | None = None

    def add(self, setting: int, numbers: Iterable[int], reported: int = 0) -> None:
        """Adds a setting with its trials' numbers."""
        self._units[setting] = Unit(tuple(numbers))
        self._units[setting].reported = reported

    def reported(self) -> dict[int, int]:
        """Returns how many evaluations of each setting that goes on have been told."""
        return {setting: unit.reported for setting, unit in self._units.items()}

    def evaluated(self, number: int) -> Decision:
        """Returns what becomes of a trial's setting after an evaluation of the trial."""
        setting = self._records[number].setting
        unit = self._units[setting]
        decision = Decision.CONTINUE
        while decision is Decision.CONTINUE and self._reached(unit) > unit.reported:
            unit.reported += 1
            decision = self._scheduler.report(setting, unit.reported, self._score(unit, unit.reported))
        return decision

    def ended(self, number: int) -> Decision:
        """Notes that a trial has come to its end; returns what becomes of its setting."""
        setting = self._records[number].setting
        unit = self._units.get(setting)
        if unit is None:
            return Decision.CONTINUE
        decision = self.evaluated(number)
        if all(self._records[n].status in ("done", "diverged", "stopped") for n in unit.numbers):
            self._scheduler.ended(setting)
            self._remember(setting, unit)
            del self._units[setting]
        return decision

    def numbers(self, setting: int) -> tuple[int, ...]:
        """Returns the numbers of a setting's trials; empty once all have ended."""
        return self._units[setting].numbers if setting in self._units else ()

    def _reached(self, unit: Unit) -> int:
        """Returns the evaluation that every trial has come to; those that ended early hold up nobody."""
        running = [len(r.curve) for r in self._of(unit) if r.status in ("waiting", "running", "paused")]
        return min(running) if running else max((len(r.curve) for r in self._of(unit)), default=0)

    def _score(self, unit: Unit, evaluation: int) -> float:
        """Returns the setting's score at an evaluation, more is better; -inf where a trial is infeasible there."""
        values = []
        for record in self._of(unit):
            if record.status == "diverged":
                return -math.inf
            seen = [Evaluation(m.tick, m.value) for m in record.curve[:evaluation]]
            values.append(self._objective.of_run(seen))
        # The median of numbers and a NaN would depend on their order.
        if not values or any(map(math.isnan, values)):
            return -math.inf
        value = self._aggregate(values)
        return self._objective.score(value)

    def _remember(self, setting: int, unit: Unit) -> None:
        records = self._of(unit)
        score = self._score(unit, max(len(record.curve) for record in records))
        self.seen.append(Seen(records[0].point, score))
        value = score if self._objective.maximise else -score
        if math.isfinite(score) and (self.best is None or score > self._objective.score(self.best[1])):
            self.best = setting, value

    def _of(self, unit: Unit) -> list[TrialRecord]:
        return [self._records[number] for number in unit.numbers]
