"""Step 9: what the learning curves say of a run, each rule with its evidence and its remedy."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hpjax.objective import Objective
from hpjax.recipe.finding import Note
from hpjax.study.records import TrialRecord


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
    """

    step: np.ndarray
    train: np.ndarray
    val: np.ndarray
    value: np.ndarray
    chance: float
    steps: int
    maximise: bool


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
    )


Rule = Callable[[Curves], Note | None]
RULES: dict[str, Rule] = {}
LEAST = 4
"""Evaluations below which a curve says nothing."""


def rule(function: Rule) -> Rule:
    """Registers a rule under its name."""
    RULES[function.__name__] = function
    return function


def diagnose(curves: Curves) -> Iterator[Note]:
    """Yields what the rules notice; a note that all is well where they notice nothing."""
    if len(curves.step) < LEAST or not np.isfinite(curves.train).all():
        yield Note("curves", "ok", f"{len(curves.step)} evaluations: too few to judge a curve by")
        return
    found = [note for one in RULES.values() if (note := one(curves)) is not None]
    yield from found
    if not any(note.verdict != "ok" for note in found):
        yield Note("curves", "ok", f"training loss {curves.train[0]:.3g} to {curves.train[-1]:.3g}; nothing to remark")


@rule
def flat(curves: Curves) -> Note | None:
    """The loss has hardly moved."""
    fallen = curves.train[0] - curves.train.min()
    start = curves.chance if math.isfinite(curves.chance) else curves.train[0]
    if curves.train[-1] > 0.9 * start and fallen < 0.05 * curves.train[0]:
        seen = f"the training loss stays at {curves.train[-1]:.3g} (at chance {start:.3g})"
        remedy = "another learning rate (see the finder), labels that fit their inputs, a model that sees the inputs"
        return Note("flat", "warning", seen, remedy)
    return None


@rule
def flat_then_falling(curves: Curves) -> Note | None:
    """A long plateau at the start, then the loss falls."""
    whole = curves.train[0] - curves.train.min()
    first = int(np.argmax(curves.train < curves.train[0] - 0.1 * whole))
    if whole > 0.2 * curves.train[0] and first >= max(0.3 * len(curves.train), 2):
        seen = f"the training loss begins to fall only at step {curves.step[first]} of {curves.steps}"
        remedy = "a better initialisation (--init), warmup, or normalisation layers"
        return Note("flat_then_falling", "warning", seen, remedy)
    return None


@rule
def rising(curves: Curves) -> Note | None:
    """The training loss ends well above its lowest."""
    low = int(np.argmin(curves.train))
    if low < len(curves.train) - 2 and curves.train[-1] > curves.train[low] + 0.25 * (curves.train[0] - curves.train[low]):
        seen = (
            "the training loss rises again,"
            f" from {curves.train[low]:.3g} at step {curves.step[low]} to {curves.train[-1]:.3g}"
        )
        remedy = "a lower learning rate or a decay; if it stays, look for a bug in the loss or the data's order"
        return Note("rising", "warning", seen, remedy)
    return None


@rule
def still_improving(curves: Curves) -> Note | None:
    """The metric improved as much in the last quarter as training longer would reward."""
    better = curves.value if curves.maximise else -curves.value
    if not np.isfinite(better).all() or len(better) < 2 * LEAST:
        return None
    quarter = max(len(better) // 4, 1)
    whole = better.max() - better[0]
    late = better[-quarter:].max() - better[:-quarter].max()
    if whole > 0 and late > 0.1 * whole:
        seen = f"the last quarter of the run brought {late / whole:.0%} of all improvement"
        remedy = "train longer (--train_steps), or a higher learning rate"
        return Note("still_improving", "warning", seen, remedy)
    return None


@rule
def decayed_too_early(curves: Curves) -> Note | None:
    """The training loss stops to fall early and abruptly, though it was falling fast and is far from low."""
    if len(curves.train) < 2 * LEAST:
        return None
    whole = curves.train[0] - curves.train.min()
    half = len(curves.train) // 2
    late = curves.train[half - 1] - curves.train[-1]
    quarter = max(len(curves.train) // 4, 1)
    if whole > 0 and abs(late) < 0.02 * whole and curves.train.min() > 0.15 * curves.train[0]:
        steepest = -np.diff(curves.train[: quarter + 1]).min() if quarter else 0.0
        if steepest > 0.05 * whole:
            seen = f"the training loss stands at {curves.train[-1]:.3g} since the middle of the run"
            remedy = "a schedule that decays later, or no further than a tenth; else a larger model"
            return Note("decayed_too_early", "warning", seen, remedy)
    return None


@rule
def overfitting(curves: Curves) -> Note | None:
    """The validation loss rises while the training loss falls."""
    if len(curves.val) != len(curves.train) or not np.isfinite(curves.val).all():
        return None
    low = int(np.argmin(curves.val))
    gain = curves.val[0] - curves.val[low]
    if low < 0.75 * len(curves.val) and curves.val[-1] > curves.val[low] + max(0.2 * gain, 0.02 * curves.val[low]):
        seen = (
            f"the validation loss is lowest at step {curves.step[low]} ({curves.val[low]:.3g}) and ends at "
            f"{curves.val[-1]:.3g}, the training loss at {curves.train[-1]:.3g}"
        )
        remedy = "more weight decay, dropout or augmentation; more data; fewer steps (the best evaluation is kept)"
        return Note("overfitting", "warning", seen, remedy)
    return None


@rule
def oscillating(curves: Curves) -> Note | None:
    """The training loss goes up and down by a good part of its fall."""
    moves = np.diff(curves.train)
    whole = curves.train[0] - curves.train.min()
    turns = np.sum(np.sign(moves[1:]) != np.sign(moves[:-1])) if len(moves) > 1 else 0
    ups = moves[moves > 0]
    if whole > 0 and ups.size and turns > 0.6 * (len(moves) - 1) and ups.mean() > 0.1 * whole:
        seen = f"the training loss goes up and down by {ups.mean():.2g} on average"
        remedy = "a lower learning rate, a larger batch, or averaged parameters (--ema_decay)"
        return Note("oscillating", "warning", seen, remedy)
    return None


@rule
def spikes(curves: Curves) -> Note | None:
    """Single evaluations stand far above both neighbours."""
    middle = np.maximum(curves.train[:-2], curves.train[2:])
    up = curves.train[1:-1] - middle
    whole = curves.train[0] - curves.train.min()
    high = np.flatnonzero(up > max(0.25 * whole, 1e-12))
    if whole > 0 and high.size:
        at = int(high[np.argmax(up[high])]) + 1
        seen = f"{high.size} spike(s) of the training loss, the largest at step {curves.step[at]} ({curves.train[at]:.3g})"
        remedy = "clipping (--clip_norm=1), a longer warmup, or a smaller beta2"
        return Note("spikes", "warning", seen, remedy)
    return None


@rule
def best_step(curves: Curves) -> Note | None:
    """When the best evaluation came, where it says something."""
    better = curves.value if curves.maximise else -curves.value
    if not np.isfinite(better).all():
        return None
    at = int(np.argmax(better))
    if at == 0:
        seen = f"the first evaluation, at step {curves.step[0]}, is the best"
        remedy = "a lower learning rate, or fewer steps"
        return Note("best_step", "warning", seen, remedy)
    return None


def of_study(records: Sequence[TrialRecord], objective: Objective) -> Iterator[Note]:
    """Yields what a study as a whole says: whether the best of it is a lucky point."""
    values = [objective.score(record.objective) for record in records if math.isfinite(record.objective)]
    if len(values) < 2 * LEAST:
        return
    scores = np.sort(np.array(values))[::-1]
    near = int(np.sum(scores >= scores[0] - 0.1 * (scores[0] - np.median(scores))))
    if near <= 2 and scores[0] - scores[2] > 0.25 * (scores[0] - np.median(scores)):
        seen = f"only {near} of {len(values)} trials lie near the best: the good region is hardly sampled"
        remedy = "more trials, or a narrower --vary around the best"
        yield Note("good_region", "warning", seen, remedy)
    else:
        yield Note("good_region", "ok", f"{near} of {len(values)} trials lie near the best")
