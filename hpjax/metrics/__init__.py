"""Metrics by name: what is measured of each example on the device, how it is reduced over a split, and the result."""

from hpjax.metrics import classification as classification
from hpjax.metrics import counts as counts
from hpjax.metrics import language as language
from hpjax.metrics import multilabel as multilabel
from hpjax.metrics import ranking as ranking
from hpjax.metrics import regression as regression
from hpjax.metrics.registry import METRICS as METRICS
from hpjax.metrics.registry import check as check
from hpjax.metrics.registry import finish as finish
from hpjax.metrics.registry import for_task as for_task
from hpjax.metrics.registry import is_mean as is_mean
from hpjax.metrics.registry import is_scalar as is_scalar
from hpjax.metrics.registry import reduced as reduced
from hpjax.metrics.registry import reduction as reduction
