"""Metrics made of counts of right and wrong predictions, for each class or label.

Where a quotient is 0 / 0 it is 0, as scikit-learn has it by default. A macro mean of classes leaves out those that are
neither among the targets nor predicted, as scikit-learn does; a macro mean of labels is over all of them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from hpjax.losses.registry import weights
from hpjax.metrics.registry import METRICS, reduced


def class_counts(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Counts an example's true positives, false positives and false negatives of each class or label.

    Args:
      outputs: float32 [batch, classes], logits.
      targets: int [batch], classes, masked where < 0; or float [batch, labels] of 0 and 1.

    Returns:
      int32 [batch, 4, classes]; the last row counts what a macro mean includes, see above.
    """
    if jnp.issubdtype(targets.dtype, jnp.integer):
        counted = weights(targets)[:, None] > 0
        truth = jax.nn.one_hot(targets, outputs.shape[-1], dtype=bool)
        said = jax.nn.one_hot(outputs.argmax(axis=-1), outputs.shape[-1], dtype=bool) & counted
        included = truth | said
    else:
        truth, said = targets > 0.5, outputs > 0
        included = jnp.ones_like(truth)
    return jnp.stack([truth & said, ~truth & said, truth & ~said, included], axis=1).astype(jnp.int32)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)


def _precision(counts: np.ndarray) -> np.ndarray:
    return _ratio(counts[0], counts[0] + counts[1])


def _recall(counts: np.ndarray) -> np.ndarray:
    return _ratio(counts[0], counts[0] + counts[2])


def _f1(counts: np.ndarray) -> np.ndarray:
    return _ratio(2 * counts[0], 2 * counts[0] + counts[1] + counts[2])


def _macro(each: np.ndarray, counts: np.ndarray) -> float:
    included = counts[3] > 0
    return float(each[included].mean()) if included.any() else float("nan")


@METRICS.register
@reduced("sum", "classification", "multilabel", result=lambda counts: _macro(_precision(counts), counts))
def precision_macro(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Precision, the share of what is predicted that is right, meaned over classes or labels; see `class_counts`."""
    return class_counts(outputs, targets)


@METRICS.register
@reduced("sum", "classification", "multilabel", result=lambda counts: _macro(_recall(counts), counts))
def recall_macro(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Recall, the share of what is there that is predicted, meaned over classes or labels; see `class_counts`."""
    return class_counts(outputs, targets)


@METRICS.register
@reduced("sum", "classification", "multilabel", result=lambda counts: _macro(_f1(counts), counts))
def f1_macro(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """F1, the harmonic mean of precision and recall, meaned over classes or labels; see `class_counts`."""
    return class_counts(outputs, targets)


@METRICS.register
@reduced("sum", "classification", "multilabel", result=_precision, scalar=False)
def precision_per_class(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Precision of each class or label, float64 [classes]; see `class_counts`."""
    return class_counts(outputs, targets)


@METRICS.register
@reduced("sum", "classification", "multilabel", result=_recall, scalar=False)
def recall_per_class(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Recall of each class or label, float64 [classes]; see `class_counts`."""
    return class_counts(outputs, targets)


@METRICS.register
@reduced("sum", "classification", "multilabel", result=_f1, scalar=False)
def f1_per_class(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """F1 of each class or label, float64 [classes]; see `class_counts`."""
    return class_counts(outputs, targets)


def _confusion(rows: np.ndarray) -> np.ndarray:
    target, said, classes = rows.astype(np.int64).T
    number = int(classes.max(initial=0))
    kept = target >= 0
    pairs = np.bincount(number * target[kept] + said[kept], minlength=number * number)
    return pairs.reshape(number, number).astype(np.float64)


@METRICS.register
@reduced("keep", "classification", result=_confusion, scalar=False)
def confusion_matrix(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Number of examples of each class (row) that were taken for each class (column), float64 [classes, classes].

    Args:
      outputs: float32 [batch, classes], logits.
      targets: int [batch], masked where < 0.

    Returns:
      int32 [batch, 3]: label, predicted class and number of classes. Rows, because a matrix an example would be a
      million numbers for a thousand classes.
    """
    said = outputs.argmax(axis=-1).astype(jnp.int32)
    return jnp.stack([targets.astype(jnp.int32), said, jnp.full_like(said, outputs.shape[-1])], axis=1)
