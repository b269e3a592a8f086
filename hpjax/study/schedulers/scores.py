"""Scores: more is better, and one value for what diverged."""

import math
from collections.abc import Iterable

INFEASIBLE = -math.inf
"""Score of a unit that diverged."""


def sound(score: float) -> float:
    """Returns a score as a float, which a NumPy scalar need not be; infeasible for what is not finite."""
    score = score if isinstance(score, float) else float(score)
    return score if math.isfinite(score) else INFEASIBLE


def to_json(scores: Iterable[float]) -> list[float | None]:
    """Returns scores for JSON, which has no infinity: None where infeasible."""
    return [None if score == INFEASIBLE else score for score in scores]


def from_json(scores: Iterable[float | None]) -> list[float]:
    """Returns the scores that `to_json` took."""
    return [INFEASIBLE if score is None else score for score in scores]
