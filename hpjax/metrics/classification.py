"""Metrics of one class among several: how often the right class is the largest, and how sure of it a model may be."""

import jax
import jax.numpy as jnp
import numpy as np

from hpjax.losses.registry import weights
from hpjax.metrics.registry import METRICS, reduced

BINS = 15
"""Bins of equal width over which calibration is measured."""


@METRICS.register
@reduced("mean", "classification", "language")
def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the largest logit is the label's; of equal ones the first counts as the largest.

    Args:
      logits: float32 [..., classes].
      labels: int [...]; or a distribution, float [..., classes], whose largest value is the label.

    Returns:
      float32 [...] of 0 and 1.
    """
    return (logits.argmax(axis=-1) == _hard(labels)).astype(jnp.float32)


@METRICS.register
@reduced("mean", "classification", "language")
def top5(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the label's logit is among the five largest; of equal ones the first are the larger, as in `accuracy`.

    Args and Returns: as those of `accuracy`.
    """
    labels = _hard(labels)[..., None]
    classes = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    own = jnp.sum(jnp.where(classes == labels, logits, 0), axis=-1, keepdims=True)
    # Counted by what is behind, so that NaN is never behind.
    behind = (logits < own) | ((logits == own) & (classes >= labels))
    return (jnp.sum(~behind, axis=-1) < min(5, logits.shape[-1])).astype(jnp.float32)


def _calibration(statistics: np.ndarray) -> float:
    number, gap = statistics
    return float(np.abs(gap).sum() / number.sum())


@METRICS.register
@reduced("sum", "classification", "language", result=_calibration)
def calibration_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Expected calibration error: mean distance between confidence and accuracy, over 15 bins of confidence.

    Args:
      logits: float32 [batch, ..., classes].
      labels: int [batch, ...], masked where < 0.

    Returns:
      float32 [batch, 2, bins]: each bin's number of items, and the sum of (right - confidence) over them.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), equation 3; a bin includes its upper edge.
    """
    confidence = jax.nn.softmax(logits).max(axis=-1)
    upper = jnp.asarray(np.arange(1, BINS) / BINS, confidence.dtype)
    place = jnp.sum(confidence[..., None] > upper.reshape((1,) * confidence.ndim + (-1,)), axis=-1)
    one_hot = jax.nn.one_hot(place, BINS, dtype=jnp.float32) * weights(labels)[..., None]
    gap = accuracy(logits, labels) - confidence
    both = jnp.stack([one_hot, one_hot * gap[..., None]], axis=-2)
    return both.sum(axis=tuple(range(1, both.ndim - 2)))


def _hard(labels: jax.Array) -> jax.Array:
    return labels if jnp.issubdtype(labels.dtype, jnp.integer) else labels.argmax(axis=-1)
