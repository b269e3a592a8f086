"""Metrics of several labels that each apply or do not: predicted where the logit is above 0."""

import jax
import jax.numpy as jnp

from hpjax.metrics.registry import METRICS, reduced


@METRICS.register
@reduced("mean", "multilabel")
def binary_accuracy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Share of an example's labels that are right: float32 [batch] from logits and targets [batch, labels]."""
    return jnp.mean(_right(logits, targets).astype(jnp.float32), axis=-1)


@METRICS.register
@reduced("mean", "multilabel")
def exact_match(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Whether all of an example's labels are right: float32 [batch] of 0 and 1 from logits, targets [batch, labels]."""
    return _right(logits, targets).all(axis=-1).astype(jnp.float32)


def _right(logits: jax.Array, targets: jax.Array) -> jax.Array:
    return (logits > 0) == (targets > 0.5)
