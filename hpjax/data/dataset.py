"""What a data set is: the arrays of three explicit splits, one after the other, and how inputs are standardised."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hpjax.data import checks
from hpjax.data.folds import Folds
from hpjax.data.pictures import Streamed
from hpjax.data.scaling import Scale, scale_and_shift
from hpjax.errors import ConfigError, DataError

Part = tuple[np.ndarray, np.ndarray]
"""Inputs [examples, ...] and targets [examples, ...] of one split."""

SPLITS = checks.SPLITS
TASKS = checks.TASKS


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory; `create` or `create_language` makes one, `check` says whether one is sound.

    Attributes:
      name: what messages call it.
      x: uint8 or float32 [examples, ...], the splits train, val and test one after the other. Tokens are uint8, uint16 or
        int32: [examples, time] with a target for each, or, for 'language', the whole stream, [tokens].
      y: the targets. 'classification': int32 [examples], labels in [0, num_classes), or [examples, time], where a negative
        label masks an item. 'regression': float32 [examples] or [examples, targets], standardised. 'multilabel': uint8 or
        float32 [examples, num_classes] of 0 and 1. 'language': int32 [examples], where in the stream an example begins:
        its input is x[y : y + window], its target x[y + 1 : y + window + 1].
      splits: (start, size) in examples of 'train', 'val' and 'test'; all but the first may have size 0.
      num_classes: number of classes, of a language's tokens the vocabulary; 0 for 'regression'.
      scale: float, or one for each index of x's last axis (channel, feature). The model sees `scale * x + shift`, which has
        mean 0 and standard deviation 1 on the training split. 1 for tokens.
      shift: like `scale`, 0 for tokens.
      task: one of `TASKS`.
      window: tokens of an example, 'language' only.
      target_scale: float, or one for each target. A regression's targets in their own unit are
        `target_scale * y + target_shift`.
      target_shift: like `target_scale`.
      class_names: a name for each output, or none at all.
      own_folds: folds of the data's own, which `--folds` then means; None cuts the examples into equal parts.
      stream: where the inputs are read from while a run goes on; None where they are in memory. `x` is then zeros that take
        no memory, in the inputs' shape.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    splits: Mapping[str, tuple[int, int]]
    num_classes: int
    scale: Scale = 1.0
    shift: Scale = 0.0
    task: str = "classification"
    window: int | None = None
    target_scale: Scale = 1.0
    target_shift: Scale = 0.0
    class_names: tuple[str, ...] = ()
    own_folds: Folds | None = None
    stream: Streamed | None = None

    def folded(self, folds: int, fold: int) -> "Dataset":
        """Returns the data set with one of `folds` equal parts of training and validation examples as validation split.

        The split 'train' then has the size of the rest, and stands for the examples around the fold (`Reader.order`). Of
        folds of its own the splits are ranges of their entries.

        Raises:
          ConfigError: there are fewer examples than folds, or no such fold.
        """
        if fold >= folds:
            raise ConfigError(f"fold is {fold}; expected one of the {folds} folds, 0 to {folds - 1}")
        if self.own_folds is not None:
            if folds != len(self.own_folds):
                raise ConfigError(f"folds is {folds}; expected {len(self.own_folds)}, the folds that '{self.name}' has")
            train, held_out = self.own_folds.ranges(fold)
            splits = {"train": train, "val": held_out, "test": (len(self.own_folds.rows), 0)}
            return dataclasses.replace(self, splits=splits, target_scale=self.unit(fold))
        examples = self.splits["train"][1] + self.splits["val"][1]
        size = examples // folds
        if size == 0:
            raise ConfigError(f"folds is {folds}; expected at most the {examples} examples for training and validation")
        splits = {**self.splits, "train": (0, examples - size), "val": (fold * size, size)}
        return dataclasses.replace(self, splits=splits)

    def held_out(self, fold: int) -> tuple[int, int]:
        """Returns (start, size) of a fold's validation examples, of a data set that `folded` made for fold 0, or none."""
        if self.own_folds is not None:
            return self.own_folds.ranges(fold)[1]
        start, size = self.splits["val"]
        return start + fold * size, size

    def train_sizes(self, folds: int) -> list[int]:
        """Returns the number of training examples of each fold of a data set that `folded` made, or of the only one."""
        if self.own_folds is not None:
            return [len(train) for train, _ in self.own_folds.cuts]
        return [self.splits["train"][1]] * folds

    def unit(self, fold: int) -> Scale:
        """Returns what a fold's targets, those of a regression, are multiplied by to have their own unit."""
        return self.target_scale if self.own_folds is None else tuple(self.own_folds.unit[fold].tolist())

    @property
    def outputs(self) -> int:
        """Numbers that a model gives for each item: the classes, or the targets of a regression."""
        if self.task != "regression":
            return self.num_classes
        return self.y.shape[1] if self.y.ndim == 2 else 1

    @property
    def tokens(self) -> bool:
        """Whether the inputs are tokens, which are not standardised: a language's, or integers with a target for each."""
        return self.task == "language" or (self.x.dtype.kind in "iu" and self.x.shape == self.y.shape and self.x.ndim == 2)

    def fingerprint(self) -> str:
        """Returns a hash of the examples, targets, splits and task: equal for equal data."""
        return self.stream.digest if self.stream is not None else self.hash_of([np.ascontiguousarray(self.x)])

    def hash_of(self, inputs: Iterable[np.ndarray]) -> str:
        """Returns `fingerprint` of a data set with these inputs, contiguous arrays that follow one another."""
        fields: list[Any] = [sorted(self.splits.items()), self.task, self.num_classes, self.window, self.class_names]
        # As float32: the last bits of a mean may differ between machines.
        fields += [np.asarray(value, np.float32).tolist() for value in (self.target_scale, self.target_shift)]
        digest = hashlib.blake2b(repr(fields).encode(), digest_size=16)
        digest.update(f"{self.x.dtype}{self.x.shape}".encode())
        for part in inputs:
            digest.update(part.data)
        for array in (self.y, *(self.own_folds.arrays() if self.own_folds else ())):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def part(self, split: str) -> Part:
        """Returns one split's inputs and targets; for 'language' the whole stream and the split's starts."""
        start, size = self.splits[split]
        if self.own_folds is not None:
            rows = self.own_folds.rows[start : start + size]
            return self.x[rows], self.y[rows]
        x = self.x if self.task == "language" else self.x[start : start + size]
        return x, self.y[start : start + size]


def create(
    name: str,
    *,
    train: Part,
    val: Part | None = None,
    test: Part | None = None,
    num_classes: int | None = None,
    per_channel: bool = False,
    task: str = "classification",
    class_names: Sequence[str] = (),
) -> Dataset:
    """Returns a checked data set whose inputs, and targets of a regression, are standardised by its training split.

    Args:
      name: what messages call it.
      train: x and y as in `Dataset`, but y of a regression float32 or float64 in its own unit.
      val: the same for validation; None is an empty split.
      test: the same for the test.
      num_classes: number of classes; not for a regression, and known for 'multilabel'.
      per_channel: standardise each index of x's last axis by itself (colours, a table's features) instead of all alike.
      task: 'classification', 'regression' or 'multilabel'; `create_language` makes the fourth.
      class_names: a name for each output, or none at all.

    Raises:
      DataError: see `check`; or the splits' inputs or targets differ in shape or dtype.
    """
    nothing = (train[0][:0], train[1][:0])
    parts = dict(zip(SPLITS, (train, val or nothing, test or nothing), strict=True))
    for split, (x, y) in parts.items():
        if len(x) != len(y):
            raise DataError(f"dataset '{name}': split '{split}' has {len(x)} inputs and {len(y)} labels; expected as many")
        for what, array, first in (("inputs", x, train[0]), ("targets", y, train[1])):
            if (array.shape[1:], array.dtype) != (first.shape[1:], first.dtype):
                raise DataError(
                    f"dataset '{name}': split '{split}' has {what} {array.dtype}{list(array.shape[1:])}; "
                    f"expected those of 'train', {first.dtype}{list(first.shape[1:])}"
                )
    y = np.concatenate([y for _, y in parts.values()])
    if num_classes is None:
        num_classes = y.shape[1] if task == "multilabel" and y.ndim == 2 else 0
    dataset = Dataset(
        name,
        x=np.concatenate([x for x, _ in parts.values()]),
        y=y,
        splits=in_order([len(x) for x, _ in parts.values()]),
        num_classes=num_classes,
        task=task,
        class_names=tuple(class_names),
    )
    return standardised(dataset, per_channel)


def create_language(
    name: str,
    *,
    train: np.ndarray,
    val: np.ndarray | None = None,
    test: np.ndarray | None = None,
    window: int,
    num_classes: int,
    class_names: Sequence[str] = (),
) -> Dataset:
    """Returns a checked data set of the task 'language', its examples windows that never cross from a split to another.

    A training example begins at every token of its stream that has `window` more behind it. Validation and test examples
    follow one another without overlap, so that each target counts once; of a stream of m tokens the last
    `(m - 1) % window` targets, fewer than a window, are left out.

    Args:
      name: what messages call it.
      train: uint8, uint16 or int32 [tokens].
      val: the same for validation; None is an empty split.
      test: the same for the test.
      window: tokens of an example.
      num_classes: size of the vocabulary.
      class_names: a text for each token of the vocabulary, or none at all.

    Raises:
      DataError: see `check`; or a split has too few tokens for one example.
    """
    streams = [train, train[:0] if val is None else val, train[:0] if test is None else test]
    starts, begin = [], 0
    for split, stream in zip(SPLITS, streams, strict=True):
        if 0 < len(stream) <= window or (split == "train" and not len(stream)):
            raise DataError(
                f"dataset '{name}': split '{split}' has {len(stream)} tokens; expected at least {window + 1}, "
                f"an example of {window} and its last target"
            )
        stride = 1 if split == "train" else window
        starts.append(begin + np.arange(0, len(stream) - window, stride, dtype=np.int32))
        begin += len(stream)
    dataset = Dataset(
        name,
        x=np.concatenate(streams),
        y=np.concatenate(starts),
        splits=in_order([len(one) for one in starts]),
        num_classes=num_classes,
        task="language",
        window=window,
        class_names=tuple(class_names),
    )
    check(dataset)
    return dataset


def in_order(sizes: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Returns (start, size) of train, val and test, one after the other, from their sizes."""
    return {split: (sum(sizes[:i]), sizes[i]) for i, split in enumerate(SPLITS)}


def standardised(dataset: Dataset, per_channel: bool) -> Dataset:
    """Returns the data set, checked, with scale and shift of its training split; see `create`.

    A regression's targets, float32 or float64 in their own unit, become float32 with mean 0 and standard deviation 1 on
    the training split. The inputs stay as they are: no copy is made of them.
    """
    target_scale: Scale
    target_shift: Scale
    y, target_scale, target_shift = dataset.y, 1.0, 0.0
    if dataset.task == "regression" and y.dtype in (np.float32, np.float64):
        train = y[: dataset.splits["train"][1]]
        if train.size and y.ndim in (1, 2) and np.isfinite(y).all():
            scale, shift = scale_and_shift(train, y.ndim == 2)
            y = y * np.asarray(scale) + np.asarray(shift)
            target_scale, target_shift = _inverse(scale, shift)
        with np.errstate(over="ignore"):  # What is then infinite is refused by name.
            y = y.astype(np.float32)
    dataset = dataclasses.replace(dataset, y=y, target_scale=target_scale, target_shift=target_shift)
    check(dataset)
    if dataset.tokens:
        return dataset
    scale, shift = scale_and_shift(dataset.part("train")[0], per_channel)
    return dataclasses.replace(dataset, scale=scale, shift=shift)


def check(dataset: Dataset) -> None:
    """Refuses a data set that cannot be trained on.

    Args:
      dataset: the data set.

    Raises:
      DataError: an unknown task, wrong dtypes or shapes for it, other than one target for each input, splits that are not
        train, val and test one after the other, an empty training split, a label or token out of range, or a value that
        is not finite.
    """
    problem = checks.problem(dataset)
    if problem:
        raise DataError(f"dataset '{dataset.name}': {problem}")


def _inverse(scale: Scale, shift: Scale) -> tuple[Scale, Scale]:
    """Returns (scale, shift) of the way back."""
    if isinstance(scale, float) and isinstance(shift, float):
        return 1.0 / scale, -shift / scale
    scales, shifts = np.asarray(scale), np.asarray(shift)
    return tuple((1.0 / scales).tolist()), tuple((-shifts / scales).tolist())
