"""ASHA's stopping rule: a unit that is not among the best of its rung so far stops there; nothing ever waits."""

import bisect
from typing import Any

from hpjax.study.schedulers import rungs
from hpjax.study.schedulers.base import OVER, SCHEDULERS, Decision, Scheduler
from hpjax.study.schedulers.scores import INFEASIBLE, from_json, to_json
from hpjax.study.schedulers.settings import SchedulerSettings


class Asha(Scheduler):
    """Asynchronous successive halving by stopping.

    Rungs are min_evaluations * eta^k < last. A unit that comes to a rung goes on if its score is at least the m-th best of
    the n scores recorded there so far, its own included, with m = max(1, floor(n / eta)). So while n < eta only the best so
    far goes on, the first unit always does, and of equal scores all do. An infeasible score is recorded and stops. A unit
    that ends by itself is recorded at its next rung as infeasible: it took part and lost.

    With eta = 3, scores in order of arrival at one rung:

    | score | 0.5 | 0.4 | 0.6 | 0.5 | 0.7 | 0.6 |
    | n, m  | 1,1 | 2,1 | 3,1 | 4,1 | 5,1 | 6,2 |
    | m-th  | 0.5 | 0.5 | 0.6 | 0.6 | 0.7 | 0.6 |
    |       | on  | stop| on  | stop| on  | on  |

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020), in the variant that stops
    instead of pausing; m and ties as in Optuna's SuccessiveHalvingPruner.
    """

    name = "asha"

    def __init__(self, settings: SchedulerSettings, units: int | None, last: int):
        super().__init__(settings, units, last)
        self.rungs = rungs.geometric(settings.min_evaluations, settings.eta, last)
        self._needs_rungs()
        # Ascending, one list a rung.
        self._scores: list[list[float]] = [[] for _ in self.rungs]

    def _decide(self, unit: int, evaluation: int, score: float) -> Decision:
        # The stage is the number of rungs passed.
        while (rung := self._stage[unit]) < len(self.rungs) and evaluation >= self.rungs[rung]:
            scores = self._scores[rung]
            bisect.insort(scores, score)
            if score == INFEASIBLE or score < scores[-max(len(scores) // self.settings.eta, 1)]:
                self._stage[unit] = OVER
                return Decision.STOP
            self._stage[unit] += 1
        return Decision.CONTINUE

    def _lose(self, unit: int, waited: bool = False) -> None:
        if self._stage[unit] < len(self.rungs):
            bisect.insort(self._scores[self._stage[unit]], INFEASIBLE)

    def state(self) -> dict[str, Any]:
        """Returns all that it knows, as values that JSON can hold."""
        return super().state() | {"scores": [to_json(scores) for scores in self._scores]}

    def load(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave; raises ConfigError where the rungs are others."""
        super().load(state)
        self._scores = [from_json(scores) for scores in state["scores"]]


@SCHEDULERS.register
def asha(settings: SchedulerSettings, units: int | None, last: int) -> Scheduler:
    """Returns asynchronous successive halving by stopping; uses eta and min_evaluations."""
    return Asha(settings, units, last)
