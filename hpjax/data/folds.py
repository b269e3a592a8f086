"""Folds of one's own: which examples each fold trains on and which it holds out, and its own standardisation.

`--folds` alone cuts the examples into equal parts, one after the other. These may be of any sizes, overlap and leave some
out. For a fold, every training and every held-out example is an *entry*: entries of all folds stand one after the other, so
that a fold's training entries are one range and those that it holds out the next. A compiled program knows none of this: it
is given the tables.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from hpjax.data.order import Epoch
from hpjax.data.scaling import scale_and_shift
from hpjax.errors import DataError

Range = tuple[int, int]
Cut = tuple[np.ndarray, np.ndarray]
"""Indices of the training examples and of the ones held out, int [...]."""

LEAST, LEAST_ENTRIES, STEPS, TABLE = 256, 4096, 8, 8
"""Examples are filled up to 256, or to an eighth of a power of two, entries to 4,096 or likewise, and folds to a multiple of
8: so that other data of about the same size need no other program."""


class Tables(NamedTuple):
    """Folds as a program takes them.

    Attributes:
      rows: int32 [entries], which example an entry is.
      fold: int32 [entries], whose entry it is.
      start: int32 [folds], the first training entry.
      size: uint32 [folds], training entries.
      order_rows: uint32 [folds], see `order.Epoch`.
      order_columns: uint32 [folds], likewise.
      scale: float32 [folds, channels], of inputs; the model sees `scale * x + shift`.
      shift: float32 [folds, channels].
      target_scale: float32 [folds, targets], of a regression's targets, likewise.
      target_shift: float32 [folds, targets].
    """

    rows: jax.Array
    fold: jax.Array
    start: jax.Array
    size: jax.Array
    order_rows: jax.Array
    order_columns: jax.Array
    scale: jax.Array
    shift: jax.Array
    target_scale: jax.Array
    target_shift: jax.Array

    def epoch(self, fold: jax.Array) -> Epoch:
        """Returns a fold's epoch, for the order of its examples."""
        return Epoch(self.size[fold], self.order_rows[fold], self.order_columns[fold])


@dataclasses.dataclass(frozen=True, eq=False)
class Folds:
    """The folds of a data set; `create` makes them.

    Attributes:
      cuts: int32 indices of the examples that each trains on and holds out.
      scale: float32 [folds, channels], see `Tables`.
      shift: float32 [folds, channels].
      target_scale: float64 [folds, targets], see `Tables`.
      target_shift: float64 [folds, targets].
      unit: float64 [folds, targets], what a fold's targets are multiplied by to have their own unit again.
      offset: float64 [folds, targets], what is then added.
    """

    cuts: tuple[Cut, ...]
    scale: np.ndarray
    shift: np.ndarray
    target_scale: np.ndarray
    target_shift: np.ndarray
    unit: np.ndarray
    offset: np.ndarray

    def __len__(self) -> int:
        return len(self.cuts)

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """Which example each entry is: int32 [entries]."""
        return np.concatenate([part for cut in self.cuts for part in cut])

    def ranges(self, fold: int) -> tuple[Range, Range]:
        """Returns (start, size) of a fold's training entries and of those that it holds out."""
        train, held_out = self.cuts[fold]
        start = sum(len(part) for cut in self.cuts[:fold] for part in cut)
        return (start, len(train)), (start + len(train), len(held_out))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Returns all that folds are made of, for a hash."""
        sizes = np.array([[len(part) for part in cut] for cut in self.cuts])
        return self.rows, sizes, self.scale, self.shift, self.unit, self.offset

    @functools.cached_property
    def tables(self) -> Tables:
        """Returns the tables, filled up."""
        of = np.repeat(np.arange(len(self)), [len(train) + len(held_out) for train, held_out in self.cuts])
        epochs = [Epoch.of(len(train)) for train, _ in self.cuts]
        entries, folds = filled(len(self.rows), LEAST_ENTRIES), -(-len(self) // TABLE) * TABLE

        def table(values: object, dtype: type, length: int = folds) -> np.ndarray:
            array: np.ndarray = np.asarray(values, dtype)
            return np.concatenate([array, np.repeat(array[-1:], length - len(array), axis=0)])

        tables: dict[str, Any] = {
            "rows": table(self.rows, np.int32, entries),
            "fold": table(of, np.int32, entries),
            "start": table([self.ranges(fold)[0][0] for fold in range(len(self))], np.int32),
            "size": table([epoch.size for epoch in epochs], np.uint32),
            "order_rows": table([epoch.rows for epoch in epochs], np.uint32),
            "order_columns": table([epoch.columns for epoch in epochs], np.uint32),
            "scale": table(self.scale, np.float32),
            "shift": table(self.shift, np.float32),
            "target_scale": table(self.target_scale, np.float32),
            "target_shift": table(self.target_shift, np.float32),
        }
        return Tables(**tables)


def create(
    x: np.ndarray,
    y: np.ndarray,
    cuts: Sequence[Cut],
    *,
    inputs: bool,
    targets: bool,
    unit: ArrayLike = 1.0,
    offset: ArrayLike = 0.0,
) -> Folds:
    """Returns folds, standardised by what each of them trains on.

    Args:
      x: float32 [examples, ..., channels].
      y: targets [examples] or [examples, targets].
      cuts: indices of the examples that each fold trains on and holds out.
      inputs: whether inputs are standardised, channel by channel.
      targets: whether targets are.
      unit: what `y` is multiplied by, as a whole or each target, to have its own unit.
      offset: what is then added.

    Raises:
      DataError: a fold trains on nothing, or values cannot be standardised in float32.
    """
    for number, (train, _) in enumerate(cuts):
        if not len(train):
            raise DataError(f"fold {number} has no training example; expected at least one")
    sound = tuple((np.asarray(train, np.int32), np.asarray(held_out, np.int32)) for train, held_out in cuts)
    scale, shift = _of(x, sound, inputs)
    target_scale, target_shift = _of(y.reshape(len(y), -1), sound, targets)
    own = np.asarray(unit) / target_scale
    return Folds(
        sound,
        scale.astype(np.float32),
        shift.astype(np.float32),
        target_scale,
        target_shift,
        unit=own,
        offset=np.asarray(offset) - own * target_shift,
    )


def filled(size: int, least: int = LEAST) -> int:
    """Returns the size that an array is filled up to; `least`: of a small one."""
    power = 1 << max(size - 1, 1).bit_length()
    step = max(power // (2 * STEPS), 1)
    return max(least, -(-size // step) * step)


def fill(array: np.ndarray) -> np.ndarray:
    """Returns an array filled up with zeros along its first axis, see `filled`; the array itself where it has the size."""
    missing = filled(len(array)) - len(array)
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) if missing else array


def _of(values: np.ndarray, cuts: Sequence[Cut], standardised: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns scale and shift [folds, channels] of values [examples, ..., channels]."""
    channels = values.shape[-1]
    if not standardised:
        return np.ones((len(cuts), channels)), np.zeros((len(cuts), channels))
    found = [scale_and_shift(values[train], True) for train, _ in cuts]
    return tuple(np.array([np.broadcast_to(pair[i], channels) for pair in found]) for i in (0, 1))  # type: ignore[return-value]
