"""What is wrong with a data set, task by task."""

from __future__ import annotations

import typing

import numpy as np

from hpjax.errors import did_you_mean

if typing.TYPE_CHECKING:
    from hpjax.data.dataset import Dataset

SPLITS = ("train", "val", "test")
TASKS = ("classification", "regression", "multilabel", "language")

_TOKENS = (np.uint8, np.uint16, np.int32)


def problem(dataset: Dataset) -> str | None:
    """Returns what makes a data set one that cannot be trained on, or None."""
    if dataset.task not in TASKS:
        return f"task is {dataset.task!r}; expected one of {', '.join(TASKS)}{did_you_mean(str(dataset.task), TASKS)}"
    for name, array in (("x", dataset.x), ("y", dataset.y)):
        if not isinstance(array, np.ndarray):
            return f"{name} is a {type(array).__name__}; expected a NumPy array"
    shapes = _wrong_language(dataset) if dataset.task == "language" else _wrong_shapes(dataset)
    return shapes or _wrong_splits(dataset) or _wrong_outputs(dataset) or _wrong_inputs(dataset) or _wrong_targets(dataset)


def _wrong_language(dataset: Dataset) -> str | None:
    x, y, window = dataset.x, dataset.y, dataset.window
    if x.dtype not in _TOKENS or y.dtype != np.int32:
        return f"x is {x.dtype} and y {y.dtype}; expected tokens, uint8, uint16 or int32, and where examples begin, int32"
    if x.ndim != 1 or y.ndim != 1:
        return f"x has shape {x.shape} and y {y.shape}; expected one stream of tokens and where each example begins"
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        return f"window is {window!r}; expected a whole number >= 1, the tokens of an example"
    return None


def _wrong_shapes(dataset: Dataset) -> str | None:
    x, y, task = dataset.x, dataset.y, dataset.task
    targets = {"classification": (np.int32,), "regression": (np.float32,), "multilabel": (np.uint8, np.float32)}[task]
    items = task == "classification" and y.ndim == 2
    inputs = (np.uint8, np.float32, *_TOKENS) if items and x.shape == y.shape else (np.uint8, np.float32)
    if x.dtype not in inputs or y.dtype not in targets:
        expected = " or ".join(np.dtype(dtype).name for dtype in targets)
        return f"x is {x.dtype} and y {y.dtype}; expected uint8 or float32, and {expected}"
    if (
        y.ndim not in {"classification": (1, 2), "regression": (1, 2), "multilabel": (2,)}[task]
        or x.shape[:1] != y.shape[:1]
    ):
        expected = "one row of 0 and 1 for each input" if task == "multilabel" else "one label for each input"
        return f"x has shape {x.shape} and y {y.shape}; expected {expected}"
    if items and x.shape[:2] != y.shape:
        return (
            f"x has shape {x.shape} and y {y.shape}; expected a label for each of an input's items, x [examples, time, ...]"
        )
    if not all((*x.shape[1:], *y.shape[1:])):
        return f"x has shape {x.shape} and y {y.shape}; expected at least one value in each example"
    if dataset.window is not None:
        return f"window is {dataset.window} for the task '{task}'; expected None, it is for 'language'"
    return None


def _wrong_splits(dataset: Dataset) -> str | None:
    splits, total = dict(dataset.splits), len(dataset.y)
    sizes = [splits[split][1] if split in splits else -1 for split in SPLITS]
    expected = {split: (sum(sizes[:i]), sizes[i]) for i, split in enumerate(SPLITS)}
    if min(sizes) < 0 or sum(sizes) != total or splits != expected:
        return f"splits are {splits}; expected train, val and test one after the other over {total} examples"
    return None if sizes[0] else "the training split is empty; expected at least one example"


def _wrong_outputs(dataset: Dataset) -> str | None:
    classes, names = dataset.num_classes, dataset.class_names
    if dataset.task == "regression" and classes:
        return f"num_classes is {classes} for a regression; expected 0"
    if dataset.task != "regression" and classes < 1:
        return f"num_classes is {classes}; expected the number of classes, at least 1"
    if dataset.task == "multilabel" and classes != dataset.y.shape[1]:
        return f"num_classes is {classes} and y has {dataset.y.shape[1]} columns; expected as many"
    if names and len(names) != dataset.outputs:
        return f"class_names has {len(names)} names; expected {dataset.outputs}, one for each output, or none"
    return None


def _wrong_inputs(dataset: Dataset) -> str | None:
    x = dataset.x
    if dataset.tokens and x.size:
        low, high = int(x.min()), int(x.max())
        if low < 0 or high >= dataset.num_classes:
            wrong = low if low < 0 else high
            return f"token {wrong} is out of range; expected 0 to {dataset.num_classes - 1}"
        return None
    # uint8 is always finite; asking would cost a mask of the size of the data.
    return _not_finite(x, "input") if x.dtype == np.float32 else None


def _wrong_targets(dataset: Dataset) -> str | None:
    y = dataset.y
    if dataset.task == "regression":
        return _not_finite(y, "target")
    if dataset.task == "multilabel":
        wrong = np.argwhere((y != 0) & (y != 1))
        return f"target {y[tuple(wrong[0])]} of example {wrong[0][0]}; expected 0 or 1" if len(wrong) else None
    if dataset.task == "language":
        assert dataset.window is not None
        last = len(dataset.x) - dataset.window - 1
        outside = np.flatnonzero((y < 0) | (y > last))
        return f"example {outside[0]} begins at token {y[outside[0]]}; expected 0 to {last}" if outside.size else None
    wrong = np.argwhere((y >= dataset.num_classes) | ((y < 0) & (y.ndim == 1)))
    if len(wrong):
        label = y[tuple(wrong[0])]
        return f"label {label} of example {wrong[0][0]} is out of range; expected 0 to {dataset.num_classes - 1}"
    if y.ndim == 2 and (y[: dataset.splits["train"][1]] < 0).all():
        return "every label of the training split is negative, which masks it; expected some to learn from"
    return None


def _not_finite(values: np.ndarray, kind: str) -> str | None:
    if (finite := np.isfinite(values)).all():
        return None
    count, example = values.size - np.count_nonzero(finite), np.argwhere(~finite)[0][0]
    return f"{count} {kind} values are not finite, the first in example {example}; expected finite numbers"
