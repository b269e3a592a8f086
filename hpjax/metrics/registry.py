"""Where metrics are registered, and how a split's examples become one result.

An entry is a function `(outputs, targets) -> array` that runs on the device, batch by batch; `reduced` says what becomes
of its values:

- `mean`: one value an item, [batch] or [batch, time]; reduced is their mean, weighted by `losses.weights`.
- `sum`: statistics of each example, [batch, ...]; reduced is their sum over the split. Counts are int32, exact to 2^31.
- `keep`: rows, [batch, ...]; reduced is all of the split's, in any order.

The entry itself leaves masked items out of statistics and marks them in rows. `finish` makes the result on the host.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import jax
import numpy as np

from hpjax.errors import ConfigError
from hpjax.losses.registry import TASKS
from hpjax.registry import Registry

Metric = Callable[..., jax.Array]
Result = Callable[..., float | np.ndarray]
Reduction = Literal["mean", "sum", "keep"]
F = TypeVar("F", bound=Callable[..., jax.Array])

METRICS: Registry[Metric] = Registry("metric")
_DEFAULTS = {
    "classification": ("accuracy",),
    "regression": ("r2", "mae"),
    "multilabel": ("binary_accuracy", "f1_macro"),
    "language": ("accuracy", "perplexity", "bits_per_character"),
}


def reduced(
    by: Reduction, *tasks: str, result: Result | None = None, scalar: bool = True, in_units: bool = False
) -> Callable[[F], F]:
    """Decorator: says how a metric's values are reduced; one without it is a mean, for all tasks.

    Args:
      by: mean, sum or keep, see above.
      *tasks: of `losses.registry.TASKS`, those it is for.
      result: what makes the metric of the reduced values, float64, on the host; None: they are the metric.
      scalar: whether the metric is one number.
      in_units: whether `result` also takes `target_scale`, as `finish` does.
    """

    def decorate(metric: F) -> F:
        vars(metric).update(reduce=by, tasks=tasks, result=result, scalar=scalar, in_units=in_units)
        return metric

    return decorate


def reduction(name: str) -> Reduction:
    """Returns how a metric is reduced over a split."""
    return getattr(METRICS.get(name), "reduce", "mean")


def is_mean(name: str) -> bool:
    """Returns whether a metric is a mean over items, cheap enough to be logged while training."""
    return reduction(name) == "mean"


def is_scalar(name: str) -> bool:
    """Returns whether a metric is one number, which can be an objective."""
    return getattr(METRICS.get(name), "scalar", True)


def tasks(name: str) -> tuple[str, ...]:
    """Returns the tasks that a metric is for."""
    return getattr(METRICS.get(name), "tasks", TASKS)


def for_task(task: str) -> tuple[str, ...]:
    """Returns the names of the metrics that are measured for a task where none are chosen."""
    return _DEFAULTS[task]


def check(names: Sequence[str], task: str) -> None:
    """Refuses metrics that a task's targets cannot be given to.

    Raises:
      ConfigError: a name is unknown or given twice, or the metric is for other tasks.
    """
    for place, name in enumerate(names):
        if task not in tasks(name):
            fitting = ", ".join(other for other in METRICS.names() if task in tasks(other))
            raise ConfigError(f"metric '{name}' is not for {task}, the data set's task; expected some of {fitting}")
        if name in names[:place]:
            raise ConfigError(f"metrics is '{','.join(names)}'; expected '{name}' once")


def finish(name: str, values: np.ndarray, target_scale: float | Sequence[float] = 1.0) -> float | np.ndarray:
    """Returns a metric from its reduced values.

    Args:
      name: the metric.
      values: what its reduction gave: a mean, statistics summed, or the kept rows without those that fill a batch.
      target_scale: what standardised targets, all or each of them, are multiplied by to have their own unit again.

    Returns:
      float, or float64 array if the metric is not scalar; NaN where it is not defined, as for an empty split.
    """
    metric = METRICS.get(name)
    result = getattr(metric, "result", None)
    # A copy in float64; no warning: what overflows is inf and what is not defined is NaN.
    values = np.asarray(values, np.float64)
    units = {"target_scale": np.asarray(target_scale, np.float64)} if getattr(metric, "in_units", False) else {}
    with np.errstate(all="ignore"):
        value = values if result is None else result(values, **units)
    return float(value) if is_scalar(name) else np.asarray(value)
