"""Data of one's own from a file: NumPy's npz, and tables of comma-separated values."""

import itertools
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from hpjax.data import splits
from hpjax.data.dataset import Dataset, Part, create
from hpjax.data.reading import as_float32, column, find, is_missing, is_number, read_csv
from hpjax.data.registry import DATASETS
from hpjax.errors import ConfigError, DataError, did_you_mean

_NPZ = "expected a file of your own, made by numpy.savez(PATH, x=inputs, y=targets)"
_CSV = "expected a file of your own: a line of column names, then rows of numbers, separated by commas"
_ARRAYS = ("x", "y", "x_val", "y_val", "x_test", "y_test")
_FLAT = {"x_train": "x", "y_train": "y"}


@DATASETS.register
def npz(
    *,
    data_file: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    task: str = "classification",
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Returns the arrays of an npz file, standardised by the training split: each index of x's last axis by itself.

    Args:
      data_file: the file, as named or in `data_dir`. It holds x [examples, ...] and y (x_train and y_train mean the same),
        and may hold x_val and y_val, x_test and y_test; then x and y are for training, else splits are cut from them.
        x: uint8 stays as it is, other numbers become float32. y: whole numbers from 0, or texts, [examples] for
        'classification'; numbers [examples] or [examples, targets] for 'regression'; 0 and 1 or booleans
        [examples, classes] for 'multilabel'.
      data_dir: a folder to look in; None takes the environment's HPJAX_DATA_DIR.
      task: 'classification', 'regression' or 'multilabel'.
      validation_fraction: share of x held out for validation; None is 0.2 if the file has no x_val.
      test_fraction: share of x held out for the test; None is 0.2 if the file has neither x_val nor x_test, else 0.
      split_seed: seed of the split, stratified as `splits.strata` says.

    Raises:
      ConfigError: a task that the file cannot be for, a fraction of a split that the file has, or one out of range.
      DataError: the file is missing or damaged, or its arrays do not fit one another or the task.
    """
    _check_task("npz", task, ("classification", "regression", "multilabel"))
    path = find("npz", [data_file], data_dir, _NPZ)
    arrays = _read_npz(path)
    names: tuple[str, ...] = ()
    if task == "classification":
        names, arrays = _named_classes(path, arrays)
    parts: dict[str, Part] = {}
    for split, end in (("train", ""), ("val", "_val"), ("test", "_test")):
        if f"x{end}" in arrays:
            x, y = arrays[f"x{end}"], arrays[f"y{end}"]
            parts[split] = (_inputs(path, f"x{end}", x), _targets(path, f"y{end}", y, task))
    given = {"val": validation_fraction, "test": test_fraction}
    for split, setting in (("val", "validation_fraction"), ("test", "test_fraction")):
        if given[split] is not None and split in parts:
            raise ConfigError(f"{setting} is {given[split]!r}, but file '{path}' has x_{split}; expected it to be left out")
    defaults = {"val": 0.0 if "val" in parts else 0.2, "test": 0.2 if len(parts) == 1 else 0.0}
    val_share, test_share = (defaults[split] if share is None else share for split, share in given.items())
    classes = None
    if task == "classification":
        classes = len(names) or 1 + max((int(y.max()) for _, y in parts.values() if y.size), default=0)
    x, y = parts.pop("train")
    parts = {**_cut(x, y, task, val_share, test_share, split_seed), **parts}
    return create("npz", **parts, num_classes=classes, per_channel=True, task=task, class_names=names)


@DATASETS.register
def csv(
    *,
    data_file: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    target: str | None = None,
    task: str = "classification",
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Returns a table of comma-separated values, each feature standardised by the training split.

    Args:
      data_file: the file, as named or in `data_dir`: UTF-8, a first line of column names, then rows. All columns but the
        target are features and hold numbers; a value that is missing is refused.
      data_dir: a folder to look in; None takes the environment's HPJAX_DATA_DIR.
      target: the column to predict; None is the last.
      task: 'classification', the target being texts or whole numbers, its classes sorted (numbers by value); or
        'regression', the target being numbers.
      validation_fraction: share of the rows held out for validation.
      test_fraction: share of the rows held out for the test.
      split_seed: seed of the split, stratified as `splits.strata` says.

    Raises:
      ConfigError: a task or a column that the file cannot be for, or a fraction out of range.
      DataError: the file is missing or damaged, or a value is not what its column needs; the message names its line.
    """
    _check_task("csv", task, ("classification", "regression"))
    path = find("csv", [data_file], data_dir, _CSV)
    names, rows, lines = read_csv(path)
    target = names[-1] if target is None else target
    if target not in names:
        near = did_you_mean(target, names) or f"; its columns: {', '.join(names)}"
        raise ConfigError(f"target is '{target}'; expected a column of file '{path}'{near}")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    advice = "encode texts as numbers or leave the column out"
    features = [name for name in names if name != target]
    x = np.stack([column(path, name, columns[name], lines, advice) for name in features], axis=1)
    class_names: tuple[str, ...] = ()
    if task == "regression":
        y = column(path, target, columns[target], lines, "for texts to predict give --task=classification")
    else:
        class_names, y = _labels(path, target, columns[target], lines)
    x = as_float32(x, f"file '{path}'", features)
    parts = _cut(x, y, task, validation_fraction, test_fraction, split_seed)
    classes = len(class_names) or None
    return create("csv", **parts, num_classes=classes, per_channel=True, task=task, class_names=class_names)


def _cut(
    x: np.ndarray, y: np.ndarray, task: str, validation_fraction: float, test_fraction: float, split_seed: int
) -> dict[str, Part]:
    """Returns the splits of examples, by name."""
    if len(x) != len(y):  # `create` refuses them by name.
        return {"train": (x, y)}
    indices = splits.stratified(
        splits.strata(y, task), validation_fraction=validation_fraction, test_fraction=test_fraction, split_seed=split_seed
    )
    return {split: (x[index], y[index]) for split, index in zip(("train", "val", "test"), indices, strict=True)}


def _check_task(name: str, task: str, offered: tuple[str, ...]) -> None:
    if task not in offered:
        other = "; for tokens there is --dataset=text" if task == "language" else did_you_mean(task, offered)
        raise ConfigError(f"task is {task!r}; expected one of {', '.join(offered)} for dataset '{name}'{other}")


def _labels(path: Path, name: str, texts: tuple[str, ...], lines: list[int]) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns a target column's sorted classes and its labels, int32 [rows]."""
    for text, line in zip(texts, lines, strict=True):
        if is_missing(text):
            raise DataError(
                f"file '{path}', line {line}: column '{name}' has no value ('{text}'); expected a class: leave the row out"
            )
    numbers = all(map(is_number, texts))
    classes = sorted(set(texts), key=(lambda text: (float(text), text)) if numbers else None)
    if numbers:
        for text, line in zip(texts, lines, strict=True):
            if not float(text).is_integer():
                raise DataError(
                    f"file '{path}', line {line}: column '{name}' has '{text}'; expected a text or a whole number: "
                    "for numbers to predict give --task=regression"
                )
        for one, other in itertools.pairwise(classes):
            if float(one) == float(other):
                raise DataError(
                    f"file '{path}': column '{name}' has '{one}' and '{other}'; expected one spelling of a class"
                )
    if len(classes) < 2:
        raise DataError(f"file '{path}': column '{name}' has only '{classes[0]}'; expected at least two classes")
    index = {text: label for label, text in enumerate(classes)}
    return tuple(classes), np.array([index[text] for text in texts], np.int32)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """Returns an npz file's arrays, x and y and pairs for the other splits."""
    try:
        # Opened here: of a damaged file np.load leaves its own open.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise DataError(f"file '{path}' holds one array; {_NPZ}")
            arrays = {_FLAT.get(name, name): loaded[name] for name in loaded.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, NotImplementedError) as error:
        reason = "holds an array of Python objects" if "Object arrays" in str(error) else "is damaged or no npz file"
        raise DataError(f"file '{path}' {reason}; {_NPZ}") from None
    except OSError as error:
        raise DataError(f"file '{path}' cannot be read: {error.strerror or error}") from None
    for name in arrays:
        if name not in _ARRAYS:
            raise DataError(
                f"file '{path}' has an array '{name}'; expected {', '.join(_ARRAYS)}{did_you_mean(name, _ARRAYS)}"
            )
    for end in ("", "_val", "_test"):
        x, y = f"x{end}", f"y{end}"
        if (x in arrays) != (y in arrays) or not (end or x in arrays):
            missing = y if x in arrays else x
            raise DataError(f"file '{path}' has no array '{missing}'; it has {', '.join(arrays) or 'none'}; {_NPZ}")
    return arrays


def _inputs(path: Path, name: str, x: np.ndarray) -> np.ndarray:
    if x.dtype.kind not in "biuf" or x.ndim < 2:
        raise DataError(f"file '{path}': {name} is {x.dtype}{list(x.shape)}; expected numbers [examples, features ...]")
    return x if x.dtype == np.uint8 else as_float32(x, f"file '{path}', {name}")


def _targets(path: Path, name: str, y: np.ndarray, task: str) -> np.ndarray:
    """Returns targets in the type that `create` takes."""
    where = f"file '{path}': {name} is {y.dtype}{list(y.shape)}"
    if task == "regression":
        if y.dtype.kind not in "iuf" or y.ndim not in (1, 2):
            raise DataError(f"{where}; expected numbers [examples] or [examples, targets] for a regression")
        return y.astype(np.float64)
    if task == "multilabel":
        if y.dtype.kind not in "biuf" or y.ndim != 2 or not ((y == 0) | (y == 1)).all():
            raise DataError(f"{where}; expected 0 and 1 [examples, classes] for the task 'multilabel'")
        return y.astype(np.uint8)
    if y.dtype.kind not in "iu" or y.ndim != 1:
        other = ": for numbers to predict give --task=regression" if y.dtype.kind == "f" else ""
        other = ": for rows of 0 and 1 give --task=multilabel" if y.ndim == 2 else other
        raise DataError(f"{where}; expected whole numbers or texts [examples] as classes{other}")
    if y.size and (y.min() < 0 or y.max() >= 2**31 - 1):
        wrong = y.min() if y.min() < 0 else y.max()
        raise DataError(f"{where} and has {wrong}; expected classes from 0 to fewer than 2^31 - 1")
    return y.astype(np.int32)


def _named_classes(path: Path, arrays: dict[str, np.ndarray]) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Returns the sorted class names of targets that are texts, and the arrays with numbers in their place."""
    targets = {name: array for name, array in arrays.items() if name.startswith("y")}
    if not any(array.dtype.kind == "U" for array in targets.values()):
        return (), arrays
    for name, array in targets.items():
        if array.dtype.kind != "U" or array.ndim != 1:
            raise DataError(
                f"file '{path}': {name} is {array.dtype}{list(array.shape)}; expected texts [examples] as in all of y"
            )
    classes = np.unique(np.concatenate(list(targets.values())))
    labels = {name: np.searchsorted(classes, array).astype(np.int32) for name, array in targets.items()}
    return tuple(classes.tolist()), {**arrays, **labels}
