"""The rules on a trial's learning curves. A rule is one function, which says what it sees, or None, and its decorator.

A new one needs nothing elsewhere but its case in the tests, which ask for one.
"""

import math

import numpy as np

from hpjax.recipe.diagnosis import LEAST, Curves, rule

LITTLE = 0.05
"""Share of the way from chance to the lowest loss."""
OFTEN_CLIPPED = 0.5
"""Share of the steps from which on clipping is no longer the exception that it is meant for."""


def _little(curves: Curves, least: float) -> float:
    """Returns a change of a loss that is little: where the first evaluation is near the end, each is much of the rest."""
    return LITTLE * (curves.chance - least) if math.isfinite(curves.chance) else 0.0


@rule("another learning rate (see the finder), labels that fit their inputs, a model that sees the inputs")
def flat(curves: Curves) -> str | None:
    """The loss has hardly moved."""
    fallen = curves.train[0] - curves.train.min()
    start = curves.chance if math.isfinite(curves.chance) else curves.train[0]
    if curves.train[-1] > 0.9 * start and fallen < 0.05 * curves.train[0]:
        return f"the training loss stays at {curves.train[-1]:.3g} (at chance {start:.3g})"
    return None


@rule("a better initialisation (--init), warmup, or normalisation layers")
def flat_then_falling(curves: Curves) -> str | None:
    """A long plateau at the start, then the loss falls."""
    whole = curves.train[0] - curves.train.min()
    first = int(np.argmax(curves.train < curves.train[0] - 0.1 * whole))
    if whole > 0.2 * curves.train[0] and first >= max(0.3 * len(curves.train), 2):
        return f"the training loss begins to fall only at step {curves.step[first]} of {curves.steps}"
    return None


@rule("a lower learning rate or a decay; if it stays, look for a bug in the loss or the data's order")
def rising(curves: Curves) -> str | None:
    """The training loss ends well above its lowest."""
    low = int(np.argmin(curves.train))
    least = curves.train[low]
    if low < len(curves.train) - 2 and curves.train[-1] > least + 0.25 * (curves.train[0] - least):
        return f"the training loss rises again, from {least:.3g} at step {curves.step[low]} to {curves.train[-1]:.3g}"
    return None


@rule("train longer (--train_steps), or a higher learning rate", least=2 * LEAST, finite=("value",))
def still_improving(curves: Curves) -> str | None:
    """The metric improved as much in the last quarter as training longer would reward."""
    better = curves.value if curves.maximise else -curves.value
    quarter = max(len(better) // 4, 1)
    whole = better.max() - better[0]
    late = better[-quarter:].max() - better[:-quarter].max()
    moves = np.diff(better)
    # A score of few examples moves by one of them, up and down.
    noise = max(-moves.min(), 1.5 * np.abs(moves[moves != 0]).min(initial=math.inf))
    # More right answers without a lower loss are luck.
    val = curves.val if len(curves.val) == len(better) and np.isfinite(curves.val).all() else curves.train
    lower = val[:-quarter].min() - val[-quarter:].min() > 0.25 * _little(curves, val.min())
    if lower and late > max(0.1 * whole, noise):
        return f"the last quarter of the run brought {late / whole:.0%} of all improvement"
    return None


@rule("a schedule that decays later, or no further than a tenth; else a larger model", least=2 * LEAST)
def decayed_too_early(curves: Curves) -> str | None:
    """The training loss stops to fall early and abruptly, though it was falling fast and is far from low."""
    whole = curves.train[0] - curves.train.min()
    late = curves.train[len(curves.train) // 2 - 1] - curves.train[-1]
    steepest = -np.diff(curves.train[: max(len(curves.train) // 4, 1) + 1]).min()
    stands = whole > 0 and abs(late) < 0.02 * whole and curves.train.min() > 0.15 * curves.train[0]
    if stands and steepest > 0.05 * whole:
        return f"the training loss stands at {curves.train[-1]:.3g} since the middle of the run"
    return None


@rule("more weight decay, dropout or augmentation; more data; fewer steps (the best evaluation is kept)", finite=("val",))
def overfitting(curves: Curves) -> str | None:
    """The validation loss rises while the training loss falls."""
    low = int(np.argmin(curves.val))
    least, last = curves.val[low], curves.val[-1]
    rise = max(0.2 * (curves.val[0] - least), 0.02 * least, _little(curves, least))
    if low < 0.75 * len(curves.val) and last > least + rise:
        lowest = f"the validation loss is lowest at step {curves.step[low]} ({least:.3g})"
        return f"{lowest} and ends at {last:.3g}, the training loss at {curves.train[-1]:.3g}"
    return None


@rule("a larger model, if the loss is to come lower", verdict="ok", least=2 * LEAST, finite=("val",))
def no_gap(curves: Curves) -> str | None:
    """The training loss has come to its end high, and the validation loss is no higher: nothing is learned by heart."""
    late = curves.train[-max(len(curves.train) // 4, 1) - 1] - curves.train[-1]
    whole = curves.train[0] - curves.train[-1]
    if curves.val[-1] < 1.05 * curves.train[-1] and curves.train[-1] > 0.3 * curves.train[0] and late < 0.05 * whole:
        return f"no gap: the training loss ends at {curves.train[-1]:.3g}, the validation loss at {curves.val[-1]:.3g}"
    return None


@rule("a lower learning rate, a larger batch, or averaged parameters (--ema_decay)")
def oscillating(curves: Curves) -> str | None:
    """The training loss goes up and down by a good part of its fall."""
    moves = np.diff(curves.train)
    whole = curves.train[0] - curves.train.min()
    turns = np.sum(np.sign(moves[1:]) != np.sign(moves[:-1]))
    ups = moves[moves > 0]
    least = max(0.1 * whole, _little(curves, curves.train.min()))
    if whole > 0 and ups.size and turns > 0.6 * (len(moves) - 1) and ups.mean() > least:
        return f"the training loss goes up and down by {ups.mean():.2g} on average"
    return None


@rule("clipping (--clip_norm=1), a longer warmup, or a smaller beta2")
def spikes(curves: Curves) -> str | None:
    """Single evaluations stand far above both neighbours."""
    up = curves.train[1:-1] - np.maximum(curves.train[:-2], curves.train[2:])
    whole = curves.train[0] - curves.train.min()
    high = np.flatnonzero(up > max(0.25 * whole, _little(curves, curves.train.min()), 1e-12))
    if whole > 0 and high.size:
        at = int(high[np.argmax(up[high])]) + 1
        largest = f"the largest at step {curves.step[at]} ({curves.train[at]:.3g})"
        return f"{high.size} spike(s) of the training loss, {largest}"
    return None


@rule("a lower learning rate, or fewer steps", finite=("value",))
def best_step(curves: Curves) -> str | None:
    """The best evaluation is the first: the rest of the run made it worse."""
    better = curves.value if curves.maximise else -curves.value
    if int(np.argmax(better)) == 0:
        return f"the first evaluation, at step {curves.step[0]}, is the best"
    return None


@rule("a higher limit (--clip_norm), well above the gradients' usual norm; or a lower learning rate", finite=("clipped",))
def clipped_too_often(curves: Curves) -> str | None:
    """Most steps are clipped: the limit, not the gradient, says how long they are."""
    share = float(curves.clipped.mean())
    if share > OFTEN_CLIPPED:
        return (
            f"the gradients of {share:.0%} of the steps were clipped, in the last part of the run {curves.clipped[-1]:.0%}"
        )
    return None
