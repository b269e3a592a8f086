"""Metrics of how a split's examples are ranked against each other."""

import jax
import jax.numpy as jnp
import numpy as np

from hpjax.losses.registry import weights
from hpjax.metrics.registry import METRICS, reduced


def _roc_auc(rows: np.ndarray) -> float:
    rows = rows[rows[:, 1, -1] > 0]
    outputs, truth = rows[:, 0, :-1], rows[:, 1, :-1] > 0
    scores = _log_odds(outputs) if rows[:, 0, -1].any() else outputs
    return float(np.mean([_area(score, positive) for score, positive in zip(scores.T, truth.T, strict=True)]))


def _log_odds(logits: np.ndarray) -> np.ndarray:
    """Returns log(p / (1 - p)) of each class: in the order of p, but told apart where p rounds to 1."""
    # Sums over sorted rows, differences first: rows that differ by a shift or the classes' order stay a tie.
    ordered = np.sort(logits, axis=1)
    most, second = ordered[:, -1:], ordered[:, -2:-1]
    log_p = logits - most - np.log(np.exp(ordered - most).sum(axis=1, keepdims=True))
    ahead = most - second - np.log(np.exp(ordered[:, :-1] - second).sum(axis=1, keepdims=True))
    return np.where(logits == most, ahead, log_p - np.log1p(-np.exp(log_p)))


def _area(score: np.ndarray, positive: np.ndarray) -> float:
    """Returns the share of pairs of a positive and a negative that are in order, a tie counting half."""
    number, rest = np.count_nonzero(positive), np.count_nonzero(~positive)
    if number == 0 or rest == 0 or np.isnan(score).any():
        return float("nan")
    _, place, same = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(same) - (same - 1) / 2
    return float((rank[place[positive]].sum() - number * (number + 1) / 2) / (number * rest))


@METRICS.register
@reduced("keep", "classification", "multilabel", result=_roc_auc)
def roc_auc(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Area under the ROC curve of each class against the rest, or of each label; the metric is the mean of all.

    NaN if the split has no example, or nothing but examples, of one of them, as scikit-learn has it. Of two classes both
    areas are the binary one.

    Args:
      outputs: float32 [batch, classes], logits.
      targets: int [batch], classes, masked where < 0; or float [batch, labels] of 0 and 1.

    Returns:
      float32 [batch, 2, classes + 1]: logits and whether the class is the target's; behind them 1 if classes exclude each
      other, and whether the example counts.

    Source: Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve (1982).
    """
    exclusive = jnp.issubdtype(targets.dtype, jnp.integer)
    truth = jax.nn.one_hot(targets, outputs.shape[-1]) if exclusive else targets > 0.5
    ends = jnp.stack([jnp.full(len(outputs), float(exclusive), jnp.float32), weights(targets)], axis=1)
    both = jnp.stack([outputs.astype(jnp.float32), truth.astype(jnp.float32)], axis=1)
    return jnp.concatenate([both, ends[..., None]], axis=2)
