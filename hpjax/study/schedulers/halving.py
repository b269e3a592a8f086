"""Synchronous successive halving of all units of a study."""

from hpjax.errors import ConfigError
from hpjax.study.schedulers import rungs
from hpjax.study.schedulers.base import SCHEDULERS, Scheduler
from hpjax.study.schedulers.brackets import Synchronous
from hpjax.study.schedulers.settings import SchedulerSettings


class Halving(Synchronous):
    """Synchronous successive halving: one bracket of all units.

    Rungs are min_evaluations * eta^k < last, and floor(n / eta) of the n units of a rung go on, at least one. Units that a
    study is extended by are a bracket of their own.

    Source: Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization (AISTATS 2016).
    """

    name = "halving"

    def __init__(self, settings: SchedulerSettings, units: int | None, last: int):
        super().__init__(settings, units, last)
        if units is None:
            raise ConfigError(
                "scheduler 'halving' is given no number of settings to halve; expected one, or asha or hyperband"
            )
        self.rungs = rungs.geometric(settings.min_evaluations, settings.eta, last)
        self._needs_rungs()

    def _plan(self, index: int) -> tuple[int, tuple[int, ...]]:
        return max((self.units or 0) - len(self._stage), 1), self.rungs


@SCHEDULERS.register
def halving(settings: SchedulerSettings, units: int | None, last: int) -> Scheduler:
    """Returns synchronous successive halving; uses eta and min_evaluations."""
    return Halving(settings, units, last)
