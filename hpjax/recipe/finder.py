"""Step 4: which learning rates bring the loss down, at constant rates side by side and along one ramp."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hpjax.recipe.bench import Bench, Curve
from hpjax.recipe.context import Context, plain
from hpjax.recipe.finding import Finding, Note
from hpjax.recipe.initial import chances
from hpjax.recipe.rates import spread

LOW, HIGH, PER_DECADE = 1e-5, 10.0, 2
LOOKS = 10
LEAST_STEPS, MOST_STEPS = 50, 200
WORSE = 1.0
"""A rate is unstable where its loss ends above this share of the loss at the start."""
OWN = 0.3
"""Share of the best rate's gain below which the configured rate is remarked."""
NOTHING = 0.98
"""Share of the best constant's loss above which the validation loss says that nothing was learned."""
USEFUL = 0.1
"""Share of the best rate's gain that a rate must bring to count as one that learns."""


def finder(context: Context) -> Finding:
    """Returns the loss after a short training at each rate, and what follows: rates that learn, the best, the largest.

    The suggestion is the constant rate that ends lowest; beside it stand the steepest place of the ramp and a tenth of the
    rate at its minimum, which are what the range test is usually read for.

    Source: Smith, Cyclical Learning Rates for Training Neural Networks (2017), section 3.3, for the ramp.
    """
    config = context.config
    size = context.dataset.splits["train"][1]
    epoch = -(-size // config.batch_size)
    every = max(min(MOST_STEPS, max(epoch, LEAST_STEPS)) // LOOKS, 1)
    steps = every * LOOKS
    rates = spread(LOW, HIGH, round(math.log10(HIGH / LOW) * PER_DECADE) + 1)
    base = plain(config, steps, log_every=f"{every}steps")
    growth = HIGH / LOW
    ramp = base.replace(
        schedule="exponential", gamma=growth, decay_steps=f"{max(steps - 1, 1)}steps", learning_rate=LOW, log_every="1steps"
    )
    own = float(config.learning_rate or rates[0])
    bench = Bench(base, context.dataset, len(rates) + 1)
    states, curves = bench.run([base.replace(learning_rate=rate) for rate in (*rates, own)], every, LOOKS)
    val = [row["loss"] for row in bench.measure(states, "val")] if context.dataset.splits["val"][1] else []
    _, (along,) = bench.run([ramp], 1, steps)
    before = next((curve.losses[0] for curve in curves if math.isfinite(curve.losses[0])), math.nan)
    *ends, end = [_end(curve) for curve in curves]
    tables = {
        "rates": {"learning_rate": rates, "loss": [end if math.isfinite(end) else math.nan for end in ends]},
        "ramp": {"learning_rate": [LOW * growth ** (t / max(steps - 1, 1)) for t in range(steps)], "loss": along.losses},
    }
    facts = read(rates, ends, before, tables["ramp"]["learning_rate"], along.losses)
    seconds = curves[0].seconds[-1] if len(curves[0].seconds) > 1 else math.nan
    facts["trial_steps_per_second"] = (LOOKS - 1) * every * len(rates) / seconds if seconds else math.nan
    facts |= {"steps": steps, "own": own, "own_loss": end, "val_loss": val[int(np.argmin(ends))] if val else math.nan}
    facts["constant"] = chances(bench.program.trial, context)[1]
    return _finding(facts, tables, config.optimizer, steps)


def read(
    rates: Sequence[float], ends: Sequence[float], before: float, ramp: Sequence[float], losses: Sequence[float]
) -> dict[str, float]:
    """Returns what the losses say: the best rate, those that learn, the largest stable one, and the ramp's two readings.

    Args:
      rates: constant learning rates, growing.
      ends: the loss that each ended with; infinite where it diverged.
      before: the loss at the start.
      ramp: learning rates of a ramp.
      losses: the training loss at each.
    """
    best = int(np.argmin(ends))
    gain = before - ends[best]
    learns = [rate for rate, end in zip(rates, ends, strict=True) if before - end > USEFUL * gain > 0]
    stable = [rate for rate, end in zip(rates, ends, strict=True) if math.isfinite(end) and end <= WORSE * before * 1.02]
    unstable = [rate for rate, end in zip(rates, ends, strict=True) if rate > rates[best] and end > WORSE * before * 1.02]
    smooth = _smoothed(losses)
    finite = np.isfinite(smooth)
    lowest = int(np.nanargmin(np.where(finite, smooth, np.nan))) if finite.any() else 0
    slope = np.gradient(smooth[: lowest + 1], np.log(np.asarray(ramp[: lowest + 1]))) if lowest >= 2 else np.array([0.0])
    return {
        "before": before,
        "best": rates[best],
        "loss": ends[best],
        "gain": gain,
        "lowest_useful": min(learns, default=math.nan),
        "highest_useful": max(learns, default=math.nan),
        "largest_stable": max(stable, default=math.nan),
        "unstable": min(unstable, default=math.nan),
        "steepest": float(ramp[int(np.argmin(slope))]) if lowest >= 2 else math.nan,
        "minimum_tenth": float(ramp[lowest]) / 10,
    }


def worth_trying(facts: Mapping[str, float]) -> tuple[float, float]:
    """Returns the lowest and the highest rate that a search should try: a little beyond those that learn."""
    return facts["lowest_useful"] / 3, min(facts["highest_useful"] * 3, facts["largest_stable"])


def _finding(facts: dict[str, float], tables: dict[str, dict[str, list[float]]], optimizer: str, steps: int) -> Finding:
    best, before, loss = facts["best"], facts["before"], facts["loss"]
    figures = f"{optimizer}: {best:.2g} is best, loss {before:.3g} to {loss:.3g} in {steps} steps"
    if not facts["gain"] > 0.01 * abs(before):
        seen = f"no rate from {LOW:g} to {HIGH:g} brings the loss down: {before:.4g} to {loss:.4g}"
        note = Note(
            "learning_rate", "failed", seen, "look at the steps before this one; another optimizer; normalisation layers"
        )
        return Finding("lr", (note,), stops=True, tables=tables, facts=facts)
    useful = f"rates from {facts['lowest_useful']:.2g} to {facts['highest_useful']:.2g} learn"
    if math.isfinite(facts["unstable"]):
        useful += f", from {facts['unstable']:.2g} on the loss ends above its start"
    ramp = f"the ramp is steepest at {facts['steepest']:.2g}, a tenth of its minimum is {facts['minimum_tenth']:.2g}"
    notes = [Note("learning_rate", "ok", figures), Note("useful_rates", "ok", useful), Note("ramp", "ok", ramp)]
    if facts["highest_useful"] / facts["lowest_useful"] < 10:
        notes.append(
            Note(
                "narrow_rates",
                "warning",
                f"less than a decade of rates learns: {useful}",
                "warmup, gradient clipping (--clip_norm=1) or normalisation layers widen it",
            )
        )
    notes += [note for note in (_of_own(facts), _of_labels(facts)) if note is not None]
    low, high = worth_trying(facts)
    advice = f"the search takes rates from {low:.2g} to {high:.2g}"
    return Finding("lr", tuple(notes), settings={"learning_rate": f"{best:.3g}"}, advice=advice, tables=tables, facts=facts)


def _of_own(facts: Mapping[str, float]) -> Note | None:
    """Returns what is to be said of the rate that the config has."""
    own, end, best = facts["own"], facts["own_loss"], facts["best"]
    if facts["before"] - end > OWN * facts["gain"]:
        return None
    word, remedy = ("high", "lower it, or add warmup") if own > best else ("low", "raise it")
    seen = f"the configured rate, {own:.2g}, is too {word}: loss {end:.3g} where {best:.2g} comes to {facts['loss']:.3g}"
    return Note("configured_rate", "warning", seen, remedy)


def _of_labels(facts: Mapping[str, float]) -> Note | None:
    """Returns a warning where training on the inputs is worth nothing on others."""
    val, constant = facts["val_loss"], facts["constant"]
    if not val > NOTHING * constant:
        return None
    seen = f"the validation loss, {val:.3g} after {facts['steps']:.0f} steps, is no better than a constant's, {constant:.3g}"
    remedy = "check that labels belong to their inputs (shuffled?), in both splits; else a larger model or longer training"
    return Note("labels", "warning", seen, remedy)


def _end(curve: Curve) -> float:
    return curve.losses[-1] if math.isfinite(curve.losses[-1]) else math.inf


def _smoothed(losses: Sequence[float], beta: float = 0.9) -> np.ndarray:
    """Returns exponential means without the bias towards the start."""
    mean, smooth = 0.0, []
    for i, loss in enumerate(losses, 1):
        mean = beta * mean + (1 - beta) * loss
        smooth.append(mean / (1 - beta**i))
    return np.array(smooth)
