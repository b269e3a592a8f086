"""Step 1: the loss before any training against that of chance, the data, and every layer at the start."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hpjax import build
from hpjax.batch import Examples
from hpjax.losses import LOSSES, weights
from hpjax.recipe.bench import Bench
from hpjax.recipe.context import Context, plain
from hpjax.recipe.data_checks import data_notes
from hpjax.recipe.finding import Finding, Note
from hpjax.recipe.layer_checks import layer_notes, layer_table
from hpjax.recipe.schedule_checks import schedule_notes
from hpjax.resolve import static_settings

MOST_EXAMPLES = 4096
"""Training examples that chance is computed from, at most."""
TOO_HIGH, TOO_LOW = 2.0, 0.6
"""Ratios to the loss at chance that are noticed: outputs that begin large, and labels that the inputs give away."""


def initial(context: Context) -> Finding:
    """Returns what a run looks like before its first step."""
    config = plain(context.config, 1)
    bench = Bench(config, context.dataset, 1)
    states, _ = bench.init([config])
    before = bench.measure(states, "train")[0]["loss"]
    state = jax.device_get(bench.program.take(states, 0))
    chance, constant = chances(context)
    table = layer_table(bench, config, state)
    notes = [*_loss_notes(before, chance, constant), *data_notes(context.dataset), *layer_notes(table)]
    notes += schedule_notes(context.config, context.dataset.splits["train"][1])
    facts = {"loss": before, "chance": chance, "constant": constant, "parameters": _size(state.params)}
    failed = not np.isfinite(before)
    advice = "no step below can say anything before the loss is finite" if failed else ""
    return Finding("initial", tuple(notes), advice=advice, stops=failed, tables={"layers": table}, facts=facts)


def chances(context: Context) -> tuple[float, float]:
    """Returns the mean training loss of outputs that are all 0 (ln of the number of classes), and of the best constant.

    The best constant is that of a softmax's cross-entropy (the entropy of the labels' frequencies), of sigmoids' or of a
    squared error; for another loss it is NaN.
    """
    dataset, config = context.dataset, context.config
    trial = build.trial(plain(config, 1), dataset)
    number = min(dataset.splits["train"][1], MOST_EXAMPLES)
    index = np.linspace(0, dataset.splits["train"][1] - 1, number).astype(np.int32)
    _, y = trial.reader.read(Examples(jnp.asarray(dataset.x), jnp.asarray(dataset.y)), jnp.asarray(index))
    shape = y.shape if dataset.task in ("classification", "language") else y.shape[:1]
    loss = LOSSES.get(trial.loss)
    settings = static_settings(config, "loss")

    def mean(outputs: jax.Array) -> float:
        items = weights(y)
        return float((loss(outputs, y, **settings) * items).sum() / items.sum())

    zeros = jnp.zeros((*shape, dataset.outputs))
    best = _best_constant(trial.loss, dataset.outputs, np.asarray(y))
    return mean(zeros), float("nan") if best is None else mean(jnp.broadcast_to(jnp.asarray(best), zeros.shape))


def _best_constant(loss: str, outputs: int, y: np.ndarray) -> np.ndarray | None:
    """Returns the outputs [outputs] that no constant ones beat; None where they are not known."""
    with np.errstate(divide="ignore"):
        if loss == "cross_entropy" and y.dtype.kind in "iu":
            counts = np.bincount(y[y >= 0].reshape(-1), minlength=outputs)
            return np.log(np.maximum(counts / counts.sum(), 1e-12)).astype(np.float32)
        if loss == "binary_cross_entropy":
            share = np.clip(y.reshape(len(y), -1).mean(0), 1e-6, 1 - 1e-6)
            return np.log(share / (1 - share)).astype(np.float32)
        if loss == "mse":
            return np.asarray(y.reshape(len(y), -1).mean(0), np.float32)
    return None


def _loss_notes(before: float, chance: float, constant: float) -> Iterator[Note]:
    against = f"the loss before training is {before:.4g}, at chance {chance:.4g}"
    if np.isfinite(constant):
        against += f", of the best constant {constant:.4g}"
    if not np.isfinite(before):
        yield Note(
            "initial_loss",
            "failed",
            f"the loss before training is {before}",
            "look for a logarithm or a division in the model or the loss, and for inputs that are very large",
        )
    elif before > TOO_HIGH * chance:
        yield Note(
            "initial_loss",
            "warning",
            f"{against}: {before / chance:.1f} times as much" if chance > 0 else against,
            "initialise the last layer smaller; standardise the inputs; check that the loss takes the outputs as they are",
        )
    elif before < TOO_LOW * chance:
        yield Note(
            "initial_loss",
            "warning",
            f"{against}: a network that knows nothing cannot be that good",
            "look for labels among the inputs, masked targets that count, or a mean over the wrong items",
        )
    else:
        yield Note("initial_loss", "ok", against)


def _size(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
