"""Losses of several labels that each apply or do not, for multilabel: the mean over an example's labels."""

import jax
import jax.numpy as jnp

from hpjax.losses.registry import LOSSES, for_tasks
from hpjax.registry import Scalar


@LOSSES.register
@for_tasks("multilabel")
def binary_cross_entropy(logits: jax.Array, targets: jax.Array, *, label_smoothing: Scalar = 0.0) -> jax.Array:
    """Cross-entropy of each label's own probability, a logistic function of its logit.

    Args:
      logits: float32 [..., labels].
      targets: [..., labels], 0 or 1, or a probability in between.
      label_smoothing: float32 scalar in [0, 1), the share of 1/2 in a target; may be traced.

    Returns:
      float32 [...], in nats, the mean over the labels.
    """
    target = _smoothed(logits, targets, label_smoothing)
    return jnp.mean(target * jax.nn.softplus(-logits) + (1.0 - target) * jax.nn.softplus(logits), axis=-1)


@LOSSES.register
@for_tasks("multilabel")
def binary_focal(
    logits: jax.Array, targets: jax.Array, *, focal_gamma: Scalar = 2.0, label_smoothing: Scalar = 0.0
) -> jax.Array:
    """Binary cross-entropy in which an answer of probability p counts (1 - p)^gamma, without the paper's class weight.

    Args:
      logits: float32 [..., labels].
      targets: [..., labels], 0 or 1, or a probability in between.
      focal_gamma: float32 scalar >= 0; 0 is the cross-entropy; may be traced.
      label_smoothing: float32 scalar in [0, 1), the share of 1/2 in a target; may be traced.

    Returns:
      float32 [...], in nats, the mean over the labels.

    Source: Lin et al., Focal Loss for Dense Object Detection (2017), equation 4.
    """
    target = _smoothed(logits, targets, label_smoothing)
    # -log p of 'applies' and of 'does not'; each is also the other's -log(1 - p).
    yes, no = jax.nn.softplus(-logits), jax.nn.softplus(logits)
    each = target * jnp.exp(focal_gamma * -no) * yes + (1.0 - target) * jnp.exp(focal_gamma * -yes) * no
    return jnp.mean(each, axis=-1)


def _smoothed(logits: jax.Array, targets: jax.Array, label_smoothing: Scalar) -> jax.Array:
    return (1.0 - label_smoothing) * targets.astype(logits.dtype) + label_smoothing / 2  # type: ignore[return-value]
