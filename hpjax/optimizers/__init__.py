"""Optimizers: Optax gradient transformations whose every number may be traced.

An entry is `(learning_rate, *, settings) -> GradientTransformation`, registered under its name. It is built anew inside each
update with that update's values, so its state does not depend on them. What is common to all goes around the entry:
clipping, L1 and L2, decoupled weight decay, rules by parameter path (`transformation`).
"""

from hpjax.optimizers import adafactor as adafactor
from hpjax.optimizers import adam as adam
from hpjax.optimizers import adaptive as adaptive
from hpjax.optimizers import clipping as clipping
from hpjax.optimizers import descent as descent
from hpjax.optimizers import ema as ema
from hpjax.optimizers import fused as fused
from hpjax.optimizers import large_batch as large_batch
from hpjax.optimizers import lion as lion
from hpjax.optimizers import muon as muon
from hpjax.optimizers import sam as sam
from hpjax.optimizers import schedule_free as schedule_free
from hpjax.optimizers.create import create as create
from hpjax.optimizers.registry import OPTIMIZERS as OPTIMIZERS
from hpjax.optimizers.registry import momentum_setting as momentum_setting
from hpjax.optimizers.rules import Rules as Rules
from hpjax.optimizers.rules import frozen as frozen
from hpjax.optimizers.transformation import evaluated as evaluated
from hpjax.optimizers.transformation import transformation as transformation
