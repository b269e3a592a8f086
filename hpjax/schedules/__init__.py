"""Schedules of learning rate, weight decay, momentum and batch size: pure functions of the step, traced in every argument.

A schedule returns a *factor* of the peak value. `hpjax.schedules.text` says how schedules and lists of them are written,
`plan` puts them into steps, `pack` into a table of one shape whatever they are, and `factors` reads it inside a trial.
Warmup covers the learning rate's first updates, then the schedule starts at its own step 0; a run's length includes it.
"""

from hpjax.schedules import cosines as cosines
from hpjax.schedules import cycles as cycles
from hpjax.schedules import decays as decays
from hpjax.schedules import steps as steps
from hpjax.schedules.create import create as create
from hpjax.schedules.plan import Clock as Clock
from hpjax.schedules.plan import Segment as Segment
from hpjax.schedules.plan import momentum_plan as momentum_plan
from hpjax.schedules.plan import plan as plan
from hpjax.schedules.plan import warmup_segment as warmup_segment
from hpjax.schedules.plateau import Plateau as Plateau
from hpjax.schedules.plateau import init as init
from hpjax.schedules.registry import SCHEDULES as SCHEDULES
from hpjax.schedules.table import QUANTITIES as QUANTITIES
from hpjax.schedules.table import check_plugin as check_plugin
from hpjax.schedules.table import factors as factors
from hpjax.schedules.table import observe as observe
from hpjax.schedules.table import pack as pack
from hpjax.schedules.table import plugins as plugins
