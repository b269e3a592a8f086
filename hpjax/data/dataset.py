"""What a data set is: the arrays of three explicit splits, one after the other, and how inputs are standardised."""

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np

from hpjax.errors import DataError

Part = tuple[np.ndarray, np.ndarray]
"""Inputs [examples, ...] and labels [examples] of one split."""

SPLITS = ("train", "val", "test")

# Examples that are float64 at a time while the variance is summed; all of MNIST would take 345 MB.
_BLOCK = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory; `create` makes one, `check` says whether one is sound.

    Attributes:
      name: what messages call it.
      x: uint8 or float32 [examples, ...], the splits train, val and test one after the other.
      y: int32 [examples], labels in [0, num_classes).
      splits: (start, size) of 'train', 'val' and 'test'; all but the first may have size 0.
      num_classes: number of classes.
      scale: float, or one for each index of x's last axis (channel). The model sees `scale * x + shift`, which has mean
        0 and standard deviation 1 on the training split.
      shift: like `scale`.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    splits: Mapping[str, tuple[int, int]]
    num_classes: int
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0

    def fingerprint(self) -> str:
        """Returns a hash of the examples, labels and splits: equal for equal data."""
        digest = hashlib.blake2b(repr(sorted(self.splits.items())).encode(), digest_size=16)
        for array in (self.x, self.y):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def part(self, split: str) -> Part:
        """Returns views of one split's inputs and labels."""
        start, size = self.splits[split]
        return self.x[start : start + size], self.y[start : start + size]


def create(
    name: str,
    *,
    train: Part,
    val: Part | None = None,
    test: Part | None = None,
    num_classes: int,
    per_channel: bool = False,
) -> Dataset:
    """Returns a checked data set whose scale and shift are those of its training split.

    Args:
      name: what messages call it.
      train: x, uint8 or float32 [examples, ...], and y, int32 [examples].
      val: the same for validation; None is an empty split.
      test: the same for the test.
      num_classes: number of classes.
      per_channel: standardise each index of x's last axis by itself (images with colours) instead of all values alike.

    Raises:
      DataError: see `check`; or the splits' inputs differ in shape or dtype.
    """
    nothing = (train[0][:0], train[1][:0])
    parts = dict(zip(SPLITS, (train, val or nothing, test or nothing), strict=True))
    for split, (x, y) in parts.items():
        if len(x) != len(y):
            raise DataError(f"dataset '{name}': split '{split}' has {len(x)} inputs and {len(y)} labels; expected as many")
        if (x.shape[1:], x.dtype) != (train[0].shape[1:], train[0].dtype):
            raise DataError(
                f"dataset '{name}': split '{split}' has inputs {x.dtype}{list(x.shape[1:])}; "
                f"expected those of 'train', {train[0].dtype}{list(train[0].shape[1:])}"
            )
    sizes = [len(x) for x, _ in parts.values()]
    dataset = Dataset(
        name,
        x=np.concatenate([x for x, _ in parts.values()]),
        y=np.concatenate([y for _, y in parts.values()]),
        splits={split: (sum(sizes[:i]), sizes[i]) for i, split in enumerate(SPLITS)},
        num_classes=num_classes,
    )
    check(dataset)
    scale, shift = _standardisation(dataset.part("train")[0], per_channel)
    return dataclasses.replace(dataset, scale=scale, shift=shift)


def check(dataset: Dataset) -> None:
    """Refuses a data set that cannot be trained on.

    Args:
      dataset: the data set.

    Raises:
      DataError: wrong dtypes, other than one label for each input, splits that are not train, val and test one after
        the other, an empty training split, a label out of range, or an input that is not finite.
    """
    problem = _wrong_shape(dataset) or _wrong_splits(dataset) or _wrong_value(dataset)
    if problem:
        raise DataError(f"dataset '{dataset.name}': {problem}")


def _wrong_shape(dataset: Dataset) -> str | None:
    x, y = dataset.x, dataset.y
    if x.dtype not in (np.uint8, np.float32) or y.dtype != np.int32:
        return f"x is {x.dtype} and y {y.dtype}; expected uint8 or float32, and int32"
    if y.ndim != 1 or len(x) != len(y):
        return f"x has shape {x.shape} and y {y.shape}; expected one label for each input"
    return None


def _wrong_splits(dataset: Dataset) -> str | None:
    splits, total = dict(dataset.splits), len(dataset.x)
    sizes = [splits[split][1] if split in splits else -1 for split in SPLITS]
    expected = {split: (sum(sizes[:i]), sizes[i]) for i, split in enumerate(SPLITS)}
    if min(sizes) < 0 or sum(sizes) != total or splits != expected:
        return f"splits are {splits}; expected train, val and test one after the other over {total} examples"
    return None if sizes[0] else "the training split is empty; expected at least one example"


def _wrong_value(dataset: Dataset) -> str | None:
    x, y = dataset.x, dataset.y
    wrong = np.flatnonzero((y < 0) | (y >= dataset.num_classes))
    if wrong.size:
        return f"label {y[wrong[0]]} of example {wrong[0]} is out of range; expected 0 to {dataset.num_classes - 1}"
    # uint8 is always finite; asking would cost a mask of the size of the data.
    if x.dtype == np.float32 and not (finite := np.isfinite(x)).all():
        count, example = x.size - np.count_nonzero(finite), np.argwhere(~finite)[0][0]
        return f"{count} input values are not finite, the first in example {example}; expected finite numbers"
    return None


def _standardisation(x: np.ndarray, per_channel: bool) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """Returns (scale, shift) with which x has mean 0 and standard deviation 1; a constant is only moved to 0."""
    axes = tuple(range(x.ndim - 1)) if per_channel and x.ndim > 1 else tuple(range(x.ndim))
    mean = np.asarray(x.mean(axis=axes, dtype=np.float64))
    squares = np.zeros_like(mean)
    for start in range(0, len(x), _BLOCK):
        squares += ((x[start : start + _BLOCK] - mean) ** 2).sum(axis=axes)
    # A rounded mean leaves a constant with a tiny deviation that is not 0: ask the values themselves.
    constant = x.min(axis=axes) == x.max(axis=axes)
    deviation = np.where(constant, 1.0, np.sqrt(squares * mean.size / x.size))
    scale, shift = 1.0 / deviation, -mean / deviation
    if scale.ndim == 0:
        return float(scale), float(shift)
    return tuple(scale.tolist()), tuple(shift.tolist())
