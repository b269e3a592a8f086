"""Which examples are for training, validation and test: the stratified split."""

from typing import NamedTuple

import numpy as np

from hpjax.errors import ConfigError, DataError


class Split(NamedTuple):
    """Indices of the examples of each split, ascending: int64 arrays, together every example once."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def stratified(labels: np.ndarray, *, validation_fraction: float, test_fraction: float = 0.0, split_seed: int = 0) -> Split:
    """Returns a random split that keeps the proportions of the classes.

    Validation and test get exactly `round(fraction * n)` of the n examples, training the rest. Of a class with m
    examples a split of s examples gets `m * s / n`, give or take at most one.

    Args:
      labels: integers [n].
      validation_fraction: share of the n examples, in [0, 1).
      test_fraction: share of the n examples, in [0, 1).
      split_seed: in [0, 2^32); the split depends on it and the labels only.

    Raises:
      ConfigError: a fraction or the seed is out of its range, or the fractions' sum is not below 1.
      DataError: no example is left for training.
    """
    split_sizes = sizes(
        len(labels), validation_fraction=validation_fraction, test_fraction=test_fraction, split_seed=split_seed
    )
    _, classes, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    table = _table(class_sizes, np.array(split_sizes))
    # RandomState, because NEP 19 freezes its stream; a Generator's may change with numpy, and the split with it.
    random = np.random.RandomState(split_seed)
    members = np.split(np.argsort(classes, kind="stable"), np.cumsum(class_sizes)[:-1])
    cuts = np.cumsum(table, axis=1)[:, :-1]
    pieces = [np.split(random.permutation(one), cut) for one, cut in zip(members, cuts, strict=True)]
    return Split(*(np.sort(np.concatenate(piece)) for piece in zip(*pieces, strict=True)))


def sizes(
    total: int, *, validation_fraction: float, test_fraction: float = 0.0, split_seed: int = 0
) -> tuple[int, int, int]:
    """Returns how many examples training, validation and test get; arguments and errors as in `stratified`."""
    check_fractions(validation_fraction, test_fraction)
    if not 0 <= split_seed < 2**32:
        raise ConfigError(f"split_seed is {split_seed!r}; expected a whole number in [0, 2^32)")
    val, test = round(validation_fraction * total), round(test_fraction * total)
    if val + test >= total:
        raise DataError(
            f"no training example is left: of {total} examples validation_fraction {validation_fraction!r} takes "
            f"{val} and test_fraction {test_fraction!r} takes {test}"
        )
    return total - val - test, val, test


def check_fractions(validation_fraction: float, test_fraction: float) -> None:
    """Raises ConfigError for a fraction outside [0, 1), or for fractions whose sum is not below 1."""
    fractions = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    for name, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise ConfigError(f"{name} is {fraction!r}; expected a number in [0, 1)")
    if sum(fractions.values()) >= 1:
        raise ConfigError(f"validation_fraction + test_fraction is {sum(fractions.values())!r}; expected less than 1")


def strata(y: np.ndarray, task: str) -> np.ndarray:
    """Returns the labels to stratify by: int [n].

    Args:
      y: targets [n, ...].
      task: the data set's task.

    Returns:
      The classes of a classification with a label an example; the tenth of the ranking that a single number to predict
      falls into, so that each split has small and large ones; elsewhere one stratum, a plain random split.
    """
    if task == "classification" and y.ndim == 1:
        return y
    if task == "regression" and y.ndim == 1:
        rank = np.empty(len(y), np.int64)
        rank[np.argsort(y, kind="stable")] = np.arange(len(y))
        return rank * 10 // max(len(y), 1)
    return np.zeros(len(y), np.int64)


def _table(class_sizes: np.ndarray, split_sizes: np.ndarray) -> np.ndarray:
    """Returns how many of each class go to each split: int [classes, splits] with the given sums of rows and columns.

    Shares are rounded down; then each class in turn gives its remaining examples, fewer than there are splits, to the
    splits that still need most, one to each. That never gets stuck (Ryser 1957): the fractional parts that were rounded
    away are one solution of the problem in fractions, so there is one in whole numbers.
    """
    table = np.outer(class_sizes, split_sizes) // split_sizes.sum()
    need = split_sizes - table.sum(axis=0)
    for row, left in zip(table, class_sizes - table.sum(axis=1), strict=True):
        neediest = np.argsort(-need, kind="stable")[:left]
        row[neediest] += 1
        need[neediest] -= 1
    return table
