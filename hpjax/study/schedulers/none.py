"""No scheduler: every unit runs to its end."""

from hpjax.study.schedulers.base import SCHEDULERS, Decision, Scheduler
from hpjax.study.schedulers.settings import SchedulerSettings


class Everything(Scheduler):
    """Runs every unit to its end."""

    name = "none"

    def _decide(self, unit: int, evaluation: int, score: float) -> Decision:
        return Decision.CONTINUE


@SCHEDULERS.register
def none(settings: SchedulerSettings, units: int | None, last: int) -> Scheduler:
    """Returns a scheduler that stops nothing."""
    return Everything(settings, units, last)
