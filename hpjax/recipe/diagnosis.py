"""Step 9: what the learning curves say of a run and of a study; the rules on curves stand in `curve_rules.py`."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hpjax import state
from hpjax.objective import Objective
from hpjax.recipe.finding import Note, Verdict
from hpjax.study.records import TrialRecord

CLIPPED = f"train/{state.CLIPPED}"
LUCKY = 0.08
"""Share of the way from the median to the best by which a best that repeats may fall short of it."""
LEAST = 4
"""Evaluations below which a curve says nothing."""


class Curves(NamedTuple):
    """A trial's evaluations as arrays [evaluations].

    Attributes:
      step: optimizer steps.
      train: training loss since the evaluation before.
      val: validation loss; empty without a validation split.
      value: the objective's metric.
      chance: the loss at chance; NaN where it is not known.
      steps: of the whole run.
      maximise: whether more of the metric is better.
      clipped: share of the steps since the evaluation before whose gradient was clipped; empty without clipping.
    """

    step: np.ndarray
    train: np.ndarray
    val: np.ndarray
    value: np.ndarray
    chance: float
    steps: int
    maximise: bool
    clipped: np.ndarray = np.zeros(0)


def curves_of(record: TrialRecord, objective: Objective, chance: float, steps: int) -> Curves:
    """Returns a trial's evaluations as the rules take them."""
    numbers = [one.numbers for one in record.curve]
    return Curves(
        np.array([one.step for one in record.curve]),
        np.array([one.get("train/loss", math.nan) for one in numbers]),
        np.array([one["val/loss"] for one in numbers if "val/loss" in one]),
        np.array([one.value for one in record.curve]),
        chance,
        steps,
        objective.maximise,
        np.array([one[CLIPPED] for one in numbers if CLIPPED in one]),
    )


class Rule(NamedTuple):
    """A rule on curves.

    Attributes:
      look: returns what it has seen, with its figures; None where there is nothing to say.
      remedy: what to try.
      verdict: how bad it is.
      least: evaluations below which it does not look.
      finite: names of the curves that must be there in full and be finite.
    """

    look: Callable[[Curves], str | None]
    remedy: str
    verdict: Verdict = "warning"
    least: int = LEAST
    finite: tuple[str, ...] = ()

    def applies(self, curves: Curves) -> bool:
        """Returns whether there is enough to look at."""
        parts = [getattr(curves, name) for name in self.finite]
        enough = len(curves.step) >= self.least
        return enough and all(len(part) == len(curves.step) and np.isfinite(part).all() for part in parts)


RULES: dict[str, Rule] = {}
"""By name, which is that of the rule's function."""
Look = Callable[[Curves], str | None]


def rule(
    remedy: str, verdict: Verdict = "warning", least: int = LEAST, finite: tuple[str, ...] = ()
) -> Callable[[Look], Look]:
    """Registers a function as a rule; see `Rule`."""

    def register(look: Look) -> Look:
        RULES[look.__name__] = Rule(look, remedy, verdict, least, finite)
        return look

    return register


def diagnose(curves: Curves) -> Iterator[Note]:
    """Yields what the rules notice; a note that all is well where they notice nothing."""
    # Imported here: the rules register themselves, and need what stands above.
    import hpjax.recipe.curve_rules  # noqa: F401

    if len(curves.step) < LEAST or not np.isfinite(curves.train).all():
        yield Note("curves", "ok", f"{len(curves.step)} evaluations: too few to judge a curve by")
        return
    found = [
        Note(name, one.verdict, seen, one.remedy)
        for name, one in RULES.items()
        if one.applies(curves) and (seen := one.look(curves)) is not None
    ]
    yield from found
    if not any(note.verdict != "ok" for note in found):
        yield Note("curves", "ok", f"training loss {curves.train[0]:.3g} to {curves.train[-1]:.3g}; nothing to remark")


def seed_noise(records: Sequence[TrialRecord]) -> float:
    """Returns the standard deviation of the objective between trials of a setting, pooled; 0 where each setting has one."""
    of_setting: dict[int, list[float]] = {}
    for record in records:
        if math.isfinite(record.objective):
            of_setting.setdefault(record.setting, []).append(record.objective)
    variances = [float(np.var(values, ddof=1)) for values in of_setting.values() if len(values) > 1]
    return math.sqrt(sum(variances) / len(variances)) if variances else 0.0


def of_study(records: Sequence[TrialRecord], objective: Objective, noise: float = 0.0) -> Iterator[Note]:
    """Yields what a study as a whole says: whether the best of it is a lucky point.

    Args:
      records: its trials.
      objective: what was to be best.
      noise: by how much the objective differs between seeds (`seed_noise`): what is less is no matter of luck.
    """
    values = [objective.score(record.objective) for record in records if math.isfinite(record.objective)]
    if len(values) < 2 * LEAST:
        return
    scores = np.sort(np.array(values))[::-1]
    spread = scores[0] - np.median(scores)
    near = f"{int(np.sum(scores >= scores[0] - 0.1 * spread))} of {len(values)} trials lie near the best"
    again = expected_best(scores)
    if scores[0] - again > max(LUCKY * spread, noise):
        best, other = (value if objective.maximise else -value for value in (scores[0], again))
        seen = f"{near}: as many trials drawn from these again have a best of {other:.4g} on average, not {best:.4g}"
        yield Note("good_region", "warning", seen, "more trials, or a narrower --vary around the best")
    else:
        yield Note("good_region", "ok", near)


def expected_best(scores: np.ndarray) -> float:
    """Returns the mean of the best of as many scores drawn from these with replacement: the bootstrap of best-of-n, exactly.

    Args:
      scores: falling, [n]; more is better.
    """
    number = len(scores)
    # That none of the first k was drawn.
    missed = (1 - np.arange(number + 1) / number) ** number
    return float(scores @ -np.diff(missed))
