"""ASHA's promotion rule: every unit waits at its rung, and goes on when it is among the best there."""

import bisect
from collections.abc import Sequence
from typing import Any

from hpjax.study.schedulers import rungs
from hpjax.study.schedulers.base import OVER, SCHEDULERS, Decision, Scheduler
from hpjax.study.schedulers.scores import INFEASIBLE
from hpjax.study.schedulers.settings import SchedulerSettings

Key = tuple[float, int]


class _Rung:
    """Who has come to a rung.

    Attributes:
      count: how many.
      lost: how many of them will never go on.
      ranked: (-score, unit) of all that are feasible, the best first.
      waiting: those of them that wait.
    """

    def __init__(self, count: int = 0, lost: int = 0, ranked: Sequence[Key] = (), waiting: Sequence[Key] = ()):
        self.count, self.lost = count, lost
        self.ranked: list[Key] = [(score, unit) for score, unit in ranked]
        self.waiting: list[Key] = [(score, unit) for score, unit in waiting]


class Promotion(Scheduler):
    """Asynchronous successive halving by promotion.

    Rungs are min_evaluations * eta^k < last. A unit runs to its next rung and waits there. `resume` looks at the rungs from
    the highest down and hands out the best that waits among the floor(n / eta) best of the n that have come to a rung,
    those that went on included; of equal scores the lower number is the better. Infeasible ones count among the n and never
    go on; a unit that ends by itself counts so at its next rung.

    Where no unit is to come, none runs, none has reached the end and the rule lets none go on, the best that waits at the
    highest rung goes on, so that a small study, too, trains one to the end.

    A unit is dropped once so many are better that it cannot go on even if all units that are still to come do come to its
    rung: that is known where `units` is, or after `no_more`. Until then it waits, up to one in eta of the first rung.

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020), Algorithm 2.
    """

    name = "asha_promotion"

    def __init__(self, settings: SchedulerSettings, units: int | None, last: int):
        super().__init__(settings, units, last)
        self.rungs = rungs.geometric(settings.min_evaluations, settings.eta, last)
        self._needs_rungs()
        self._at = [_Rung() for _ in self.rungs]
        self._over = 0
        self._one_finished = False

    def pauses_at(self, unit: int, evaluation: int) -> bool:
        """Returns whether a running unit waits after an evaluation, unless it stops there."""
        # The stage is the number of rungs passed.
        stage = self._stage.get(unit, OVER)
        return stage not in (OVER, len(self.rungs)) and self.rungs[stage] <= evaluation < self.last

    def no_more(self) -> None:
        """Tells that no new unit will begin."""
        super().no_more()
        self._trim()

    def close(self) -> list[int]:
        """Ends the study: returns all units that still wait or were dropped since the last call."""
        left = super().close()
        for rung in self._at:
            rung.waiting.clear()
        self._over = len(self._stage)
        return left

    def _decide(self, unit: int, evaluation: int, score: float) -> Decision:
        if not self.pauses_at(unit, evaluation):
            return Decision.CONTINUE
        rung = self._at[self._stage[unit]]
        if score == INFEASIBLE:
            self._lose(unit)
            self._stage[unit] = OVER
            return Decision.STOP
        rung.count += 1
        bisect.insort(rung.ranked, (-score, unit))
        bisect.insort(rung.waiting, (-score, unit))
        self._paused.add(unit)
        self._trim()
        if unit in self._paused:
            return Decision.PAUSE
        self._dropped.remove(unit)
        return Decision.STOP

    def _finish(self, unit: int) -> None:
        self._over += 1
        self._one_finished = True

    def _lose(self, unit: int, waited: bool = False) -> None:
        self._over += 1
        if waited:
            rung = self._at[self._stage[unit]]
            rung.waiting = [key for key in rung.waiting if key[1] != unit]
            rung.lost += 1
        elif self._stage[unit] < len(self.rungs):
            self._at[self._stage[unit]].count += 1
            self._at[self._stage[unit]].lost += 1
            self._trim()

    def _next(self) -> int | None:
        for rung in reversed(self._at):
            if rung.waiting and bisect.bisect_left(rung.ranked, rung.waiting[0]) < rung.count // self.settings.eta:
                return self._promote(rung)
        running = len(self._stage) - len(self._paused) - self._over
        if running or self._one_finished or self.may_begin():
            return None
        return next((self._promote(rung) for rung in reversed(self._at) if rung.waiting), None)

    def _promote(self, rung: _Rung) -> int:
        unit = rung.waiting.pop(0)[1]
        self._stage[unit] += 1
        return unit

    def _trim(self) -> None:
        """Drops who will never go on."""
        if self.units is None and self._more:
            return
        # As many as may ever come to the rung.
        most = self.units if self.units and self.may_begin() else len(self._stage)
        for rung in self._at:
            limit = max(most // self.settings.eta, 1)
            while rung.waiting and bisect.bisect_left(rung.ranked, rung.waiting[-1]) >= limit:
                self._drop(rung.waiting.pop()[1])
                self._over += 1
                rung.lost += 1
            most -= rung.lost

    def state(self) -> dict[str, Any]:
        """Returns all that it knows, as values that JSON can hold."""
        at = [[rung.count, rung.lost, list(rung.ranked), list(rung.waiting)] for rung in self._at]
        return super().state() | {"at": at, "one_finished": self._one_finished}

    def load(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave; raises ConfigError where the rungs are others."""
        super().load(state)
        self._at = [_Rung(*rung) for rung in state["at"]]
        self._one_finished = state["one_finished"]
        self._over = sum(stage == OVER for stage in self._stage.values())


@SCHEDULERS.register
def asha_promotion(settings: SchedulerSettings, units: int | None, last: int) -> Scheduler:
    """Returns asynchronous successive halving by promotion; uses eta and min_evaluations."""
    return Promotion(settings, units, last)
