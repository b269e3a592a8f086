"""What is noticed about the data itself: standardised or not, constant, unbalanced, the same in two splits."""

import hashlib
from collections.abc import Iterator

import numpy as np

from hpjax.data import Dataset
from hpjax.recipe.finding import Note

MOST_ROWS = 20_000
"""Training examples that statistics are computed from, at most."""
UNBALANCED = 10.0
"""Most examples of a class for each of the rarest that go unnoticed."""
OVERLAP, FEW = 0.01, 3
"""Share, and number, of validation examples that may be among the training examples: real data hold a few twice."""


def data_notes(dataset: Dataset) -> Iterator[Note]:
    """Yields what is noticed about a data set."""
    if not dataset.tokens:
        yield from _inputs(dataset)
    if dataset.task == "classification":
        yield from _balance(dataset)
    if dataset.task == "regression" and (np.ptp(dataset.part("train")[1], axis=0) == 0).any():
        seen = "a training target has the same value in all examples"
        yield Note("constant_targets", "failed", seen, "check which column is the target (--target), and how it is read")
    for split in ("val", "test"):
        if dataset.splits[split][1]:
            yield from _overlap(dataset, split)


def _inputs(dataset: Dataset) -> Iterator[Note]:
    x = dataset.part("train")[0]
    rows = x[np.linspace(0, len(x) - 1, min(len(x), MOST_ROWS)).astype(np.int64)]
    seen = rows.astype(np.float64) * np.asarray(dataset.scale) + np.asarray(dataset.shift)
    bad = int((~np.isfinite(seen)).any(axis=tuple(range(1, seen.ndim))).sum())
    if bad:
        yield Note(
            "finite_inputs",
            "failed",
            f"{bad} of {len(rows)} training inputs have values that are not finite",
            "clean the data before anything else",
        )
        return
    mean, deviation = float(seen.mean()), float(seen.std())
    largest = float(np.abs(seen).max())
    figures = f"inputs as the model sees them: mean {mean:.2g}, standard deviation {deviation:.2g}, largest {largest:.3g}"
    # A column that dwarfs the others hides in the mean over all of them.
    columns = seen.reshape(-1, seen.shape[-1]) if seen.ndim == 2 else seen.reshape(len(seen), -1)
    spread = columns.std(0)
    varied = spread[spread > 0]
    ratio = float(varied.max() / np.median(varied)) if varied.size else 0.0
    if not 0.1 <= deviation <= 10 or abs(mean) > 3 * max(deviation, 1e-12) or (seen.ndim == 2 and ratio > 100):
        far = f"; one feature spreads {ratio:.0f} times as much as most" if seen.ndim == 2 and ratio > 100 else ""
        yield Note(
            "standardised",
            "warning",
            figures + far,
            "standardise the inputs (each feature of a table by itself): mean 0, standard deviation 1",
        )
    else:
        yield Note("standardised", "ok", figures)
    constant = int((spread == 0).sum())
    if constant == len(spread):
        yield Note("constant_inputs", "failed", "all training inputs are the same", "check how the data are read")
    elif constant:
        yield Note("constant_inputs", "ok", f"{constant} of {len(spread)} input values never change")


def _balance(dataset: Dataset) -> Iterator[Note]:
    y = dataset.part("train")[1]
    counts = np.bincount(y[y >= 0].reshape(-1), minlength=dataset.num_classes)
    absent = np.flatnonzero(counts == 0)
    if absent.size:
        yield Note(
            "label_balance",
            "warning",
            f"{absent.size} of {len(counts)} classes have no training example",
            "check the labels: a class that is never seen cannot be learned",
        )
        return
    ratio = counts.max() / counts.min()
    figures = f"{len(counts)} classes of {counts.min():,} to {counts.max():,} training examples"
    if ratio > UNBALANCED:
        yield Note(
            "label_balance",
            "warning",
            f"{figures}: {ratio:.0f} to 1",
            "judge by balanced accuracy or f1 (--objective), and try --loss=focal",
        )
    else:
        yield Note("label_balance", "ok", figures)


def _overlap(dataset: Dataset, split: str) -> Iterator[Note]:
    if dataset.task == "language":
        return
    train, other = (_hashes(dataset.part(name)[0]) for name in ("train", split))
    among = np.isin(other, train)
    share = float(among.mean())
    figures = f"{share:.1%} of the {split} inputs are among the training inputs"
    if share > OVERLAP and among.sum() > FEW:
        yield Note(f"{split}_overlap", "warning", figures, f"split the data anew: the {split} score is too good to be true")
    else:
        yield Note(f"{split}_overlap", "ok", figures)


def _hashes(x: np.ndarray) -> np.ndarray:
    """Returns a number for each row, equal for equal rows."""
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    return np.array(
        [int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "big") for row in rows], np.uint64
    )
