"""Hyperband: successive halving in brackets that trade the number of units for a later first rung."""

from hpjax.study.schedulers import rungs
from hpjax.study.schedulers.base import SCHEDULERS, Scheduler
from hpjax.study.schedulers.brackets import Synchronous
from hpjax.study.schedulers.settings import SchedulerSettings


class Hyperband(Synchronous):
    """Hyperband.

    Brackets s = s_max, ..., 1, 0, again and again while units begin, s_max the largest with min_evaluations * eta^s_max <=
    last. Bracket s takes n = ceil((s_max + 1) / (s + 1) * eta^s) units and decides at floor(last / eta^s), ...,
    floor(last / eta); floor(n / eta) of the n units of a rung go on, at least one. Bracket 0 decides nothing.

    With last = 81 and eta = 3, units at each evaluation:

    | s | 1  | 3  | 9  | 27 | 81 |
    | 4 | 81 | 27 | 9  | 3  | 1  |
    | 3 |    | 34 | 11 | 3  | 1  |
    | 2 |    |    | 15 | 5  | 1  |
    | 1 |    |    |    | 8  | 2  |
    | 0 |    |    |    |    | 5  |

    Source: Li et al., Hyperband (JMLR 2018), Algorithm 1; with R = last, and min_evaluations for its least resource 1.
    """

    name = "hyperband"

    def __init__(self, settings: SchedulerSettings, units: int | None, last: int):
        super().__init__(settings, units, last)
        least = min(settings.min_evaluations, last)
        self.s_max = rungs.most_halvings(least, settings.eta, last)
        self.rungs = rungs.downwards(settings.eta, self.s_max, last)
        self._needs_rungs()

    def _plan(self, index: int) -> tuple[int, tuple[int, ...]]:
        s = self.s_max - index % (self.s_max + 1)
        return rungs.bracket_size(self.settings.eta, s, self.s_max), rungs.downwards(self.settings.eta, s, self.last)


@SCHEDULERS.register
def hyperband(settings: SchedulerSettings, units: int | None, last: int) -> Scheduler:
    """Returns Hyperband; uses eta and min_evaluations."""
    return Hyperband(settings, units, last)
