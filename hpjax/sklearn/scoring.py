"""A search's `scoring`: which scorer it is, and whether the lanes measure it themselves."""

import math
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from sklearn.metrics import check_scoring, get_scorer_names

from hpjax.errors import did_you_mean

SCORE = "score"
"""What the only score is called where there is one."""

ON_LANES: dict[str, str] = {
    "accuracy": "val/accuracy:max",
    "neg_log_loss": "val/loss:min",
    "f1_macro": "val/f1_macro:max",
    "r2": "val/r2:max",
    "neg_mean_absolute_error": "val/mae:min",
    "neg_root_mean_squared_error": "val/rmse:min",
}
"""Scores that the lanes measure themselves, and what hpjax calls them: those that a sampler can learn from while it runs."""


def on_lanes(scoring: Any, classification: bool, loss: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Returns what hpjax calls a score, None for one that the lanes do not measure, and the metrics that they measure.

    Args:
      scoring: a search's.
      classification: whether it is for classes.
      loss: the loss that is trained with, None for the task's own.
    """
    objective = ON_LANES.get(scoring) if isinstance(scoring, str) else None
    if objective == "val/loss:min" and loss not in (None, "cross_entropy"):
        objective = None
    if objective is None or objective == "val/loss:min":
        return objective, ("accuracy" if classification else "r2",)
    return objective, (objective.removeprefix("val/").partition(":")[0],)


class Scoring:
    """A search's `scoring`. Scores are computed from predictions, as scikit-learn's searches do: any function may be one.

    Attributes:
      scorer: called as `scorer(estimator, X, y)`, gives a number (a function of one's own: or a dict of them); or, of
        several, a dict of such by name.
      error_score: stands for a score that could not be computed: a number, or 'raise'.
    """

    def __init__(self, estimator: Any, scoring: Any, error_score: Any):
        """Finds the scorer.

        Args:
          estimator: what is scored.
          scoring: None (the estimator's own score), a name, a callable, or a list or dict of those.
          error_score: a number that stands for a score that could not be computed, or 'raise'.

        Raises:
          ValueError: an unknown name.
        """
        if isinstance(scoring, (list, tuple, set)):
            scoring = {name: name for name in scoring}
        several = isinstance(scoring, Mapping)
        for name in scoring.values() if several else [scoring]:
            if isinstance(name, str) and name not in get_scorer_names():
                near = did_you_mean(name, get_scorer_names()) or "; sklearn.metrics.get_scorer_names() lists them"
                raise ValueError(f"scoring '{name}' is unknown{near}")
        self.scorer: Any = (
            {name: check_scoring(estimator, one) for name, one in scoring.items()}
            if several
            else check_scoring(estimator, scoring)
        )
        self.error_score = error_score

    def __call__(self, estimator: Any, X: Any, y: Any) -> dict[str, float]:
        """Returns an estimator's scores by name."""
        if isinstance(self.scorer, dict):
            return {name: float(self._of(one, estimator, X, y)) for name, one in self.scorer.items()}
        found = self._of(self.scorer, estimator, X, y)
        if isinstance(found, Mapping):
            return {name: float(one) for name, one in found.items()}
        return {SCORE: float(found)}

    @property
    def failed(self) -> float:
        """The score of what could not be scored."""
        return math.nan if self.error_score == "raise" else float(self.error_score)

    def _of(self, scorer: Callable[..., Any], estimator: Any, X: Any, y: Any) -> Any:
        try:
            return scorer(estimator, X, y)
        except Exception:
            if self.error_score == "raise":
                raise
            warnings.warn(
                f"Scoring failed. The score will be set to {self.error_score}. Details: \n{traceback.format_exc()}",
                stacklevel=2,
            )
            return self.error_score
