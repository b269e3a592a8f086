"""The median stopping rule: a unit whose best score lies below what the others had on average stops."""

import bisect
from fractions import Fraction
from typing import Any

from hpjax.errors import ConfigError
from hpjax.study.schedulers.base import OVER, SCHEDULERS, Decision, Scheduler
from hpjax.study.schedulers.scores import INFEASIBLE, from_json, to_json
from hpjax.study.schedulers.settings import SchedulerSettings


class _Curve:
    """A running unit's sum of scores, how many they are, and the best of them."""

    def __init__(self, total: Fraction | None = Fraction(0), count: int = 0, best: float = INFEASIBLE):
        self.total, self.count, self.best = total, count, best

    def add(self, score: float) -> float:
        """Adds a score and returns the mean of all; infeasible from the first infeasible one on."""
        # Exact, so that a curve's mean never differs by rounding from that of an equal curve, or from a constant.
        infeasible = self.total is None or score == INFEASIBLE
        self.total = None if infeasible else self.total + Fraction(score)  # type: ignore[operator]
        self.count += 1
        self.best = max(self.best, score)
        return INFEASIBLE if self.total is None else float(self.total / self.count)


class Median(Scheduler):
    """The median stopping rule.

    After evaluation e, grace < e < last, a unit stops if the best of its scores is strictly less than the median, over the
    other units that have come to e, of their mean score over the evaluations 1 to e; and at once if its score is
    infeasible. The others are all that have come so far, running, stopped or done, and at least min_units of them. The
    median of an even number is the mean of the two in the middle.

    Source: Golovin et al., Google Vizier (KDD 2017), section 3.2.2, where only completed trials are the others: lanes that
    run side by side would learn nothing of each other.
    """

    name = "median"

    def __init__(self, settings: SchedulerSettings, units: int | None, last: int):
        super().__init__(settings, units, last)
        self.rungs = tuple(range(settings.grace + 1, last))
        if not self.rungs:
            raise ConfigError(
                f"scheduler 'median' has nothing to decide: grace is {settings.grace} and a run has {last} "
                f"evaluation{'s' if last > 1 else ''}; expected more"
            )
        self._curves: dict[int, _Curve] = {}
        # Ascending, one list a rung.
        self._means: list[list[float]] = [[] for _ in self.rungs]

    def _decide(self, unit: int, evaluation: int, score: float) -> Decision:
        curve = self._curves.setdefault(unit, _Curve())
        mean = curve.add(score)
        if evaluation < self.rungs[0]:
            return Decision.CONTINUE
        others = self._means[evaluation - self.rungs[0]]
        enough = len(others) >= self.settings.min_units
        stops = score == INFEASIBLE or (enough and curve.best < _middle(others))
        bisect.insort(others, mean)
        if not stops:
            return Decision.CONTINUE
        self._stage[unit] = OVER
        del self._curves[unit]
        return Decision.STOP

    def _finish(self, unit: int) -> None:
        self._curves.pop(unit, None)

    def _lose(self, unit: int, waited: bool = False) -> None:
        self._curves.pop(unit, None)

    def close(self) -> list[int]:
        """Ends the study: nothing waits here."""
        self._curves.clear()
        return super().close()

    def state(self) -> dict[str, Any]:
        """Returns all that it knows, as values that JSON can hold."""
        curves = [
            [unit, None if curve.total is None else str(curve.total), curve.count, *to_json([curve.best])]
            for unit, curve in self._curves.items()
        ]
        return super().state() | {"curves": curves, "means": [to_json(means) for means in self._means]}

    def load(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave; raises ConfigError where the rungs are others."""
        super().load(state)
        self._curves = {
            unit: _Curve(None if total is None else Fraction(total), count, *from_json([best]))
            for unit, total, count, best in state["curves"]
        }
        self._means = [from_json(means) for means in state["means"]]


def _middle(ascending: list[float]) -> float:
    low, high = ascending[(len(ascending) - 1) // 2], ascending[len(ascending) // 2]
    # Halved first: the sum of two large scores may overflow.
    return low if low == high else low / 2 + high / 2


@SCHEDULERS.register
def median(settings: SchedulerSettings, units: int | None, last: int) -> Scheduler:
    """Returns the median stopping rule; uses grace and min_units."""
    return Median(settings, units, last)
