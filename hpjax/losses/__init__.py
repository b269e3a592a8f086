"""Losses by name: functions of a batch's outputs and targets, one value an item."""

from hpjax.losses import binary as binary
from hpjax.losses import classification as classification
from hpjax.losses import regression as regression
from hpjax.losses.binary import binary_cross_entropy as binary_cross_entropy
from hpjax.losses.binary import binary_focal as binary_focal
from hpjax.losses.classification import cross_entropy as cross_entropy
from hpjax.losses.classification import focal as focal
from hpjax.losses.registry import LOSSES as LOSSES
from hpjax.losses.registry import check as check
from hpjax.losses.registry import default_for as default_for
from hpjax.losses.registry import for_tasks as for_tasks
from hpjax.losses.registry import weights as weights
from hpjax.losses.regression import huber as huber
from hpjax.losses.regression import mse as mse

# Last: metrics are made of losses.
from hpjax.metrics.registry import METRICS as METRICS  # isort: skip
