"""Metrics of regression. `mae` and `rmse` are in the units of the data set's own targets, R2 has none.

Of several targets each has its own value and the metric is their mean, as scikit-learn has it by default.
"""

import jax
import jax.numpy as jnp
import numpy as np

from hpjax.metrics.registry import METRICS, reduced

_CONSTANT = 1e-6
"""Share of a target's sum of squares below which its variance is rounding: float32 sums of a constant."""


def _r2(statistics: np.ndarray) -> float:
    number, squares, targets, squared_targets = statistics
    total = squared_targets - targets**2 / number
    constant = total <= _CONSTANT * squared_targets
    # Of a constant target scikit-learn says 1 if it is met exactly, else 0; of fewer than two examples nothing.
    each = np.where(constant, squares == 0, 1.0 - squares / np.where(constant, 1.0, total))
    return float(each.mean()) if number[0] >= 2 else float("nan")


@METRICS.register
@reduced("sum", "regression", result=_r2)
def r2(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """R2, the share of the targets' variance over the split that is explained.

    Args:
      outputs: float32 [batch, targets].
      targets: float32, as many, standardised: the variance comes from sums of squares, for which they must not lie
        many deviations from 0.

    Returns:
      float32 [batch, 4, targets]: 1, squared error, target and its square.
    """
    targets = targets.reshape(outputs.shape)
    return jnp.stack([jnp.ones_like(targets), jnp.square(outputs - targets), targets, jnp.square(targets)], axis=1)


def _mae(statistics: np.ndarray, target_scale: np.ndarray) -> float:
    number, errors = statistics
    return float(np.mean(errors / number * np.abs(target_scale)))


def _rmse(statistics: np.ndarray, target_scale: np.ndarray) -> float:
    number, squares = statistics
    return float(np.mean(np.sqrt(squares / number) * np.abs(target_scale)))


@METRICS.register
@reduced("sum", "regression", result=_mae, in_units=True)
def mae(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean absolute error, in the data set's own units.

    Args:
      outputs: float32 [batch, targets].
      targets: float32, as many, standardised.

    Returns:
      float32 [batch, 2, targets]: 1 and absolute error.
    """
    error = outputs - targets.reshape(outputs.shape)
    return jnp.stack([jnp.ones_like(error), jnp.abs(error)], axis=1)


@METRICS.register
@reduced("sum", "regression", result=_rmse, in_units=True)
def rmse(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Root of the mean squared error, in the data set's own units.

    Args: as those of `mae`.

    Returns:
      float32 [batch, 2, targets]: 1 and squared error.
    """
    error = outputs - targets.reshape(outputs.shape)
    return jnp.stack([jnp.ones_like(error), jnp.square(error)], axis=1)
