"""Step 3: a few examples, learned by heart. What cannot do that has a bug, no capacity, or a rate that does not fit."""

import dataclasses
import math

import numpy as np

from hpjax.config import Config
from hpjax.data import Dataset
from hpjax.recipe.bench import Bench, Curve
from hpjax.recipe.context import Context, plain
from hpjax.recipe.finding import Finding, Note, Table
from hpjax.recipe.rates import STARTING_RANGES, spread

EXAMPLES = 32
LOOKS, STEPS_A_LOOK = 30, 10
RATES, KEPT, KEPT_FROM = 8, 4, 3
"""Learning rates that are tried, of them those that go on, and the look from which on."""
LEARNED, HALF = 0.1, 0.5
"""Shares of the loss at the start that the best rate must come below: learned by heart, and not even begun."""


def overfit(context: Context) -> Finding:
    """Returns how far the loss of a small sample can be brought down."""
    small = sample(context.dataset, EXAMPLES)
    size = small.splits["train"][1]
    config = plain(
        context.config,
        LOOKS * STEPS_A_LOOK,
        batch_size=size,
        micro_batch_size=size,
        eval_batch_size=size,
        log_every=f"{STEPS_A_LOOK}steps",
    )
    low, high = STARTING_RANGES.get(config.optimizer, (1e-4, 1e-1))
    rates = spread(low / 10, high * 10, RATES)
    bench = Bench(config, small, RATES)
    states, _ = bench.init([config.replace(learning_rate=rate) for rate in rates])
    before = bench.measure(states, "train")[0]["loss"]
    configs = [config.replace(learning_rate=rate) for rate in rates]
    _, curves = bench.run(configs, STEPS_A_LOOK, LOOKS, lambda _: context.late, (KEPT_FROM, KEPT))
    ends = [_end(curve) for curve in curves]
    best = int(np.argmin(ends))
    floor = _floor(small, config)
    share = (ends[best] - floor) / max(before - floor, 1e-12)
    table: Table = {
        "learning_rate": [rate for rate, curve in zip(rates, curves, strict=True) for _ in curve.steps],
        "step": [step for curve in curves for step in curve.steps],
        "loss": [loss for curve in curves for loss in curve.losses],
    }
    run = f"{curves[best].steps[-1]} steps at a rate of {rates[best]:.2g}"
    figures = f"{size} examples: loss {before:.3g} to {ends[best]:.3g} in {run}"
    facts = {"before": before, "after": ends[best], "learning_rate": rates[best], "floor": floor}
    tables = {"overfit": table}
    if share > LEARNED and math.isfinite(ends[best]) and curves[best].steps[-1] < LOOKS * STEPS_A_LOOK:
        seen = f"{figures}, and there was no time for more"
        return Finding("overfit", (Note("overfit", "warning", seen, "a larger --budget"),), tables=tables, facts=facts)
    if not math.isfinite(ends[best]) or share > HALF:
        note = Note(
            "overfit",
            "failed",
            figures,
            "look for inputs that do not reach the loss, labels in another order than inputs, frozen or dead "
            "layers, a model that is far too small, and a loss that does not fit the outputs",
        )
        advice = "a network that cannot learn a few examples by heart learns nothing from many"
        return Finding("overfit", (note,), advice=advice, stops=True, tables=tables, facts=facts)
    if share > LEARNED:
        note = Note("overfit", "warning", figures, "a larger model (wider, deeper), or a longer look: it has begun to learn")
        return Finding("overfit", (note,), tables=tables, facts=facts)
    return Finding("overfit", (Note("overfit", "ok", figures),), tables=tables, facts=facts)


def sample(dataset: Dataset, number: int) -> Dataset:
    """Returns a data set whose training and validation split are the same few examples, spread over the training split."""
    size = min(number, dataset.splits["train"][1])
    index = np.linspace(0, dataset.splits["train"][1] - 1, size).astype(np.int64)
    x = dataset.x if dataset.task == "language" else dataset.x[index]
    splits = {"train": (0, size), "val": (0, size), "test": (size, 0)}
    return dataclasses.replace(dataset, x=x, y=dataset.y[index], splits=splits)


def _end(curve: Curve) -> float:
    return curve.losses[-1] if math.isfinite(curve.losses[-1]) else math.inf


def _floor(dataset: Dataset, config: Config) -> float:
    """Returns the lowest loss that there can be: not 0 where targets are distributions."""
    y = dataset.y
    if dataset.task == "multilabel" and y.dtype.kind == "f" and config.loss == "binary_cross_entropy":
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.nan_to_num(y * np.log(y)) - np.nan_to_num((1 - y) * np.log(1 - y))
        return float(entropy.mean(axis=-1).mean() if entropy.ndim > 1 else entropy.mean())
    return 0.0
