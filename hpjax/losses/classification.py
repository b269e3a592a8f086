"""Losses of one class among several, for classification and language."""

import jax
import jax.numpy as jnp

from hpjax.losses.registry import LOSSES, for_tasks
from hpjax.registry import Scalar


@LOSSES.register
@for_tasks("classification", "language")
def cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: Scalar = 0.0) -> jax.Array:
    """Softmax cross-entropy, the target mixed with the uniform distribution.

    Args:
      logits: float32 [..., classes].
      labels: int [...], in [0, classes), masked where < 0; or float [..., classes], a distribution for each item.
      label_smoothing: float32 scalar in [0, 1), the uniform distribution's share; may be traced.

    Returns:
      float32 [...], in nats; 0 for masked items.

    Source: Szegedy et al., Rethinking the Inception Architecture (2016), section 7.
    """
    target = _distribution(logits, labels, label_smoothing)
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


@LOSSES.register
@for_tasks("classification", "language")
def focal(logits: jax.Array, labels: jax.Array, *, focal_gamma: Scalar = 2.0, label_smoothing: Scalar = 0.0) -> jax.Array:
    """Cross-entropy in which a class of probability p counts (1 - p)^gamma: what is right already counts little.

    Args:
      logits: float32 [..., classes].
      labels: int [...], in [0, classes), masked where < 0; or float [..., classes], a distribution for each item.
      focal_gamma: float32 scalar >= 0; 0 is the cross-entropy; may be traced.
      label_smoothing: float32 scalar in [0, 1), the uniform distribution's share; may be traced.

    Returns:
      float32 [...], in nats; 0 for masked items.

    Source: Lin et al., Focal Loss for Dense Object Detection (2017), equation 4, summed over the target's classes.
    """
    target = _distribution(logits, labels, label_smoothing)
    log_p = jax.nn.log_softmax(logits)
    # A power of e: that of 1 - p has no gradient where p is 1.
    factor = jnp.exp(focal_gamma * _log_of_rest(log_p))
    return -jnp.sum(target * factor * log_p, axis=-1)


def _distribution(logits: jax.Array, labels: jax.Array, label_smoothing: Scalar) -> jax.Array:
    """Returns each item's smoothed target, float [..., classes]; 0 everywhere for a masked item."""
    classes = logits.shape[-1]
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        return (1.0 - label_smoothing) * labels + label_smoothing / classes  # type: ignore[return-value]
    # A product with the one-hot target: the gradient of an indexed pick would be a scatter, slow inside a tick.
    one_hot = jax.nn.one_hot(labels, classes, dtype=logits.dtype)
    uniform = jnp.where(labels < 0, 0.0, label_smoothing / classes)[..., None]
    return (1.0 - label_smoothing) * one_hot + uniform  # type: ignore[return-value]


def _log_of_rest(log_p: jax.Array) -> jax.Array:
    """Returns log(1 - p) of each class, without cancellation where p is near 1."""
    top = jax.nn.one_hot(log_p.argmax(axis=-1), log_p.shape[-1], dtype=bool)
    rest = jax.nn.logsumexp(log_p, axis=-1, where=~top, keepdims=True)
    # At most one class has p > 1/2; the inner select keeps its infinite gradient out.
    return jnp.where(top, rest, jnp.log1p(-jnp.exp(jnp.where(top, -1.0, log_p))))
