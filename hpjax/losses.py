"""Losses and the metrics that come with them: functions of a batch's outputs and targets, one value an example."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike as Scalar

from hpjax.registry import Registry

Loss = Callable[..., jax.Array]
LOSSES: Registry[Loss] = Registry("loss")
METRICS: Registry[Callable[..., jax.Array]] = Registry("metric")


@LOSSES.register
def cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: Scalar = 0.0) -> jax.Array:
    """Softmax cross-entropy, the target mixed with the uniform distribution.

    Args:
      logits: float32 [batch, classes].
      labels: int [batch], in [0, classes).
      label_smoothing: float32 scalar in [0, 1), the uniform distribution's share; may be traced.

    Returns:
      float32 [batch], in nats.

    Source: Szegedy et al., Rethinking the Inception Architecture (2016), section 7.
    """
    log_p = jax.nn.log_softmax(logits)
    # A product with the one-hot target: the gradient of an indexed pick would be a scatter, slow inside a tick.
    one_hot = jax.nn.one_hot(labels, logits.shape[1])
    target = (1.0 - label_smoothing) * one_hot + label_smoothing / logits.shape[1]
    return -jnp.sum(target * log_p, axis=1)


@METRICS.register
def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the largest logit is the label's: float32 [batch] of 0 and 1, from float32 [batch, classes], int [batch]."""
    return (logits.argmax(axis=1) == labels).astype(jnp.float32)
