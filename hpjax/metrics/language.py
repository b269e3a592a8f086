"""Metrics of a language model: its cross-entropy in other words."""

import jax
import numpy as np

from hpjax.losses.classification import cross_entropy
from hpjax.metrics.registry import METRICS, reduced


@METRICS.register
@reduced("mean", "language", "classification", result=np.exp)
def perplexity(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """e to the mean cross-entropy: the number of equally likely classes that would be as hard to tell apart.

    Args:
      logits: float32 [..., classes].
      labels: int [...], masked where < 0.

    Returns:
      float32 [...], the cross-entropies.
    """
    return cross_entropy(logits, labels)


@METRICS.register
@reduced("mean", "language", result=lambda mean: mean / np.log(2.0))
def bits_per_character(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy in bits a token, which is a character (or byte) where tokens are.

    Args and Returns: as those of `perplexity`.
    """
    return cross_entropy(logits, labels)
