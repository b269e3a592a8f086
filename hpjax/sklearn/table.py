"""The data of a search: X and y in memory, or in the file that a study's folder keeps of them, with the folds."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpjax.data import folds
from hpjax.data.dataset import Dataset, check, in_order
from hpjax.data.folds import Cut
from hpjax.data.scaling import scale_and_shift
from hpjax.errors import DataError

NAME = "hpjax.sklearn.table:table"
"""What `--dataset` calls it."""

FILE = "data.npz"
"""Its file in a study's folder."""


class Table(NamedTuple):
    """A table as a program takes it, and how its numbers came from a person's.

    Attributes:
      dataset: the data set; its last fold is all examples, trained on and measured.
      x_scale: float64 [features]; `x_scale * X + x_shift` is what the data set holds.
      x_shift: float64 [features].
    """

    dataset: Dataset
    x_scale: np.ndarray
    x_shift: np.ndarray

    def inputs(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (scale, shift), float64 [features], from X to what a model trained on a fold sees."""
        own = self.dataset.own_folds
        assert own is not None
        scale = own.scale[fold].astype(np.float64)
        return scale * self.x_scale, scale * self.x_shift + own.shift[fold]


def make(x: np.ndarray, y: np.ndarray, cuts: Sequence[Cut], *, classes: int, standardize: bool) -> Table:
    """Returns the table of X and y, with folds and a last one of all examples.

    Args:
      x: float64 [examples, features], finite.
      y: int32 [examples], labels from 0; or float64 [examples] or [examples, targets] of a regression.
      cuts: indices of the examples that each fold trains on and holds out.
      classes: number of classes; 0 for a regression.
      standardize: whether each fold's inputs, and targets of a regression, have mean 0 and standard deviation 1 over the
        examples that it trains on.

    Raises:
      DataError: values that float32 cannot hold, or a fold without training examples.
    """
    # By all examples first, in float64: float32 would lose a small difference of large numbers. The folds' own follows.
    x_scale, x_shift = _moved(x, standardize)
    task = "classification" if classes else "regression"
    unit, offset = np.ones(1), np.zeros(1)
    if not classes:
        scale, shift = _moved(y.reshape(len(y), -1), standardize)
        unit, offset = 1.0 / scale, -shift / scale
        y = _float32(y * (scale if y.ndim == 2 else scale[0]) + (shift if y.ndim == 2 else shift[0]), "y")
    x = _float32(x * x_scale + x_shift, "X")
    everything = np.arange(len(x))
    # To hpjax there is no cross-validation of one fold.
    all_cuts = [*cuts, *[(everything, everything)] * (1 if cuts else 2)]
    target_scale = 1.0 if classes else tuple(unit.tolist())
    dataset = Dataset(NAME, x, y, in_order([len(x), 0, 0]), classes, task=task, target_scale=target_scale)
    check(dataset)
    targets = standardize and not classes
    own = folds.create(x, y, all_cuts, inputs=standardize, targets=targets, unit=unit, offset=offset)
    return Table(dataclasses.replace(dataset, own_folds=own), x_scale, x_shift)


def save(path: Path, x: np.ndarray, y: np.ndarray, cuts: Sequence[Cut], *, classes: int, standardize: bool) -> None:
    """Writes what `make` takes to a file, whole or not at all."""
    parts = [part for cut in cuts for part in cut]
    arrays: dict[str, Any] = {
        "x": x,
        "y": y,
        "rows": np.concatenate(parts),
        "sizes": np.array([len(part) for part in parts]),
        "classes": np.array(classes),
        "standardize": np.array(standardize),
    }
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def table(*, data_file: str | os.PathLike[str], task: str = "classification") -> Dataset:
    """Returns the data set of a search, from the file that its study's folder keeps.

    Args:
      data_file: the file, of `save`.
      task: 'classification' or 'regression', as it is for.

    Raises:
      DataError: the file is missing or damaged.
    """
    del task
    try:
        with np.load(data_file, allow_pickle=False) as found:
            parts = np.split(found["rows"], np.cumsum(found["sizes"])[:-1])
            cuts = list(zip(parts[::2], parts[1::2], strict=True))
            settings = {"classes": int(found["classes"]), "standardize": bool(found["standardize"])}
            return make(found["x"], found["y"], cuts, **settings).dataset  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"file '{data_file}' is missing or damaged; expected {FILE} of a study's folder: {error}") from None


def _moved(values: np.ndarray, standardize: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns scale and shift, float64 [columns], of values [examples, columns]."""
    columns = values.shape[1]
    if not standardize:
        return np.ones(columns), np.zeros(columns)
    scale, shift = scale_and_shift(values, True)
    return np.broadcast_to(np.asarray(scale), columns), np.broadcast_to(np.asarray(shift), columns)


def _float32(values: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        result = values.astype(np.float32)
    if not np.isfinite(result).all():
        raise DataError(f"{name} has values beyond float32's largest, 3.4e38; expected smaller ones, or standardize=True")
    return result
