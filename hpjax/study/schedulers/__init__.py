"""Schedulers by name: which units of a study go on, stop or wait."""

from hpjax.study.schedulers import asha as asha
from hpjax.study.schedulers import asha_promotion as asha_promotion
from hpjax.study.schedulers import halving as halving
from hpjax.study.schedulers import hyperband as hyperband
from hpjax.study.schedulers import median as median
from hpjax.study.schedulers import none as none
from hpjax.study.schedulers.base import SCHEDULERS as SCHEDULERS
from hpjax.study.schedulers.base import Decision as Decision
from hpjax.study.schedulers.base import Scheduler as Scheduler
from hpjax.study.schedulers.settings import SchedulerSettings as SchedulerSettings


def create(name: str, settings: SchedulerSettings, units: int | None, last: int) -> Scheduler:
    """Returns a scheduler of a study that has not begun.

    Args:
      name: its name in `SCHEDULERS`, or `package.module:name`.
      settings: settings of all schedulers; it takes its own.
      units: units that the study will try; None if that is unknown.
      last: evaluations of a whole run.

    Raises:
      ConfigError: the name is unknown, or the scheduler cannot work with these numbers.
    """
    return SCHEDULERS.get(name)(settings, units, last)
