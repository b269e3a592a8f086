"""What a search's trials scored, fold by fold, and the table of it that scikit-learn's searches have."""

import copy
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.ma import MaskedArray
from scipy.stats import rankdata

from hpjax.data.folds import Cut
from hpjax.sklearn.estimators import Network
from hpjax.sklearn.scoring import SCORE, Scoring
from hpjax.sklearn.table import Table
from hpjax.sklearn.training import Trained


class Scored(NamedTuple):
    """A candidate on a fold.

    Attributes:
      fit_seconds: how long it had a lane.
      score_seconds: how long scoring took.
      test: its scores on what the fold holds out, by name.
      train: its scores on what it was trained on; None where they were not asked for.
    """

    fit_seconds: float
    score_seconds: float
    test: dict[str, float]
    train: dict[str, float] | None


class Examples(NamedTuple):
    """What trials are scored on: X and y as a person gave them, and the folds' indices."""

    x: Any
    y: Any
    cuts: Sequence[Cut]

    def of(self, fold: int, part: int) -> tuple[Any, Any]:
        """Returns X and y of a fold's training examples (part 0) or of those that it holds out (1)."""
        index = self.cuts[fold][part]
        return _rows(self.x, index), _rows(self.y, index)


def scored(
    trained: Trained, template: Network, data: Table, examples: Examples, scoring: Scoring, with_train: bool
) -> tuple[list[dict[str, Any]], list[list[Scored]]]:
    """Returns the candidates of a search, and for each its scores fold by fold; the error score where a trial diverged.

    Args:
      trained: the trials.
      template: an estimator that was shown the data, of which trials differ in what they have learned.
      data: the table that they were trained on.
      examples: what they are scored on.
      scoring: the scores.
      with_train: whether training examples are scored, too.

    Raises:
      ValueError: a trial diverged, and that is an error.
    """
    params: dict[int, dict[str, Any]] = {}
    found: dict[int, dict[int, Scored | None]] = {}
    times: dict[tuple[int, int], float] = {}
    for record in trained.records:
        values = dict(record.values)
        fold = values.pop("fold")
        params[record.setting] = values
        times[record.setting, fold] = seconds = record.ended - record.began
        one = None
        if record.number in trained.variables:
            fitted = copy.copy(template)
            fitted.take(trained, record.number, data, fold)
            start = time.perf_counter()
            test = scoring(fitted, *examples.of(fold, 1))
            took = time.perf_counter() - start
            one = Scored(seconds, took, test, scoring(fitted, *examples.of(fold, 0)) if with_train else None)
        elif scoring.error_score == "raise":
            raise ValueError(f"the loss of {values} was not finite on fold {fold}; with error_score=nan the search goes on")
        found.setdefault(record.setting, {})[fold] = one
    known = [one for folds in found.values() for one in folds.values() if one is not None]
    failed = dict.fromkeys(known[0].test if known else (SCORE,), scoring.failed)
    table = [
        [folds[fold] or Scored(times[setting, fold], 0.0, failed, failed if with_train else None) for fold in sorted(folds)]
        for setting, folds in found.items()
    ]
    return list(params.values()), table


def table(params: Sequence[Mapping[str, Any]], scored: Sequence[Sequence[Scored]]) -> dict[str, Any]:
    """Returns `cv_results_`.

    Args:
      params: the candidates.
      scored: for each candidate, its folds.
    """
    found: dict[str, Any] = {}
    for name, attribute in (("fit_time", "fit_seconds"), ("score_time", "score_seconds")):
        values = np.array([[getattr(fold, attribute) for fold in folds] for folds in scored])
        found[f"mean_{name}"], found[f"std_{name}"] = values.mean(axis=1), values.std(axis=1)
    found |= {f"param_{name}": _column(name, params) for name in sorted({name for one in params for name in one})}
    found["params"] = [dict(one) for one in params]
    parts = ("test",) if scored[0][0].train is None else ("test", "train")
    for name in scored[0][0].test:
        for part in parts:
            values = np.array([[getattr(fold, part)[name] for fold in folds] for folds in scored], np.float64)
            for fold in range(values.shape[1]):
                found[f"split{fold}_{part}_{name}"] = values[:, fold]
            mean = values.mean(axis=1)
            found[f"mean_{part}_{name}"], found[f"std_{part}_{name}"] = mean, values.std(axis=1)
            if not np.isfinite(mean).all():
                warnings.warn(f"One or more of the {part} scores are non-finite: {mean}", stacklevel=3)
            if part == "test":
                found[f"rank_test_{name}"] = _ranks(mean)
    return found


def _ranks(mean: np.ndarray) -> np.ndarray:
    """Returns ranks from 1, int32 [candidates]; what has no score ties with the worst there can be."""
    known = mean[~np.isnan(mean)]
    if not known.size:
        return np.ones(len(mean), np.int32)
    return rankdata(-np.where(np.isnan(mean), known.min() - 1, mean), method="min").astype(np.int32)


def _column(name: str, params: Sequence[Mapping[str, Any]]) -> MaskedArray:
    """Returns a parameter's values, masked where a candidate has none; numbers as numbers, all else as objects."""
    values = [one.get(name) for one in params]
    present = [one[name] for one in params if name in one]
    kind: Any = object
    if all(isinstance(value, (bool, int, float)) for value in present):
        kind = np.array(present).dtype
    column = MaskedArray(np.empty(len(params), kind), mask=True)
    for place, one in enumerate(params):
        if name in one:
            column[place] = values[place]
    return column


def _rows(array: Any, index: np.ndarray) -> Any:
    """Returns some rows of an array, a data frame or a list."""
    return array.iloc[index] if hasattr(array, "iloc") else np.asarray(array)[index]
