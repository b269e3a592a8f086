"""What is looked at inside one trial: a pure function of its state that changes nothing."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hpjax import optimizers
from hpjax.batch import Examples
from hpjax.data.order import GENERATOR
from hpjax.inspection.histograms import Histogram, histogram
from hpjax.inspection.lanczos import hessian_product, lanczos
from hpjax.inspection.layers import Norms, activations, by_path, norms
from hpjax.inspection.noise import LEAST_BATCHES, noise_scale
from hpjax.inspection.settings import Inspections
from hpjax.losses import weights
from hpjax.ops import native, precision
from hpjax.state import TrialState, Values
from hpjax.trial import Trial

Measured = dict[str, jax.Array | Histogram]
"""Float scalars and histograms, by the name they have in the logs."""

START = 4
"""What is folded into a trial's key for the first Lanczos vector; see `batch.MIXUP` for the others."""


def measure(trial: Trial, asked: Inspections, state: TrialState, values: Values, examples: Examples) -> Measured:
    """Returns what is asked for of a trial's state.

    Gradients are those of the optimizer update that comes next, and updates what it does to the parameters, rounding
    included. Activations are those of the next micro-batch's inputs in evaluation mode. All are taken at the parameters
    that are trained, not at averaged ones.

    Args:
      trial: the static asked.
      asked: what is asked for.
      state: the trial; it is not changed.
      values: its traced scalars.
      examples: the data set.
    """
    found: Measured = {}
    if {"norms", "histograms"} & set(asked.names):
        found |= _layers(trial, asked.names, state, values, examples)
    if "noise_scale" in asked.names:
        found |= _noise_scale(trial, asked, state, values, examples)
    if "sharpness" in asked.names:
        # The native kernels have no forward derivative, which Hessian-vector products take; rounding would blur curvature.
        with native.scope(False), precision.scope("float32"):
            found |= _sharpness(trial, asked, state, values, examples)
    return found


def on_host(found: Measured, lane: int = 0) -> tuple[dict[str, float], dict[str, Histogram]]:
    """Returns the numbers and the histograms of one lane of what `LaneProgram.inspect` gave."""
    fetched: dict[str, Any] = jax.device_get(dict(found))
    numbers = {name: value[lane].item() for name, value in fetched.items() if not isinstance(value, Histogram)}
    tables = {name: value for name, value in fetched.items() if isinstance(value, Histogram)}
    return numbers, {name: Histogram(*(array[lane] for array in value)) for name, value in tables.items()}


def _layers(trial: Trial, names: Sequence[str], state: TrialState, values: Values, examples: Examples) -> Measured:
    gradients, updates = next_update(trial, state, values, examples)
    inputs = trial.batch(state, values, examples).x
    variables = {"params": state.params, **state.collections}
    everywhere = {"gradient": gradients, "update": updates, "parameter": state.params}
    layers: list[tuple[str, str, jax.Array, str | None]]
    layers = [(kind, path, leaf, None) for kind, tree in everywhere.items() for path, leaf in by_path(tree).items()]
    outputs = activations(trial.model, variables, inputs)
    layers += [("activation", path, leaf, trial.data_axis) for path, leaf in outputs.items()]
    found: Measured = {}
    if "norms" in names:
        sizes = {(kind, path): norms(leaf, axis) for kind, path, leaf, axis in layers}
        for (kind, path), size in sizes.items():
            found |= {f"{kind}_{name}/{path}": value for name, value in _logged(kind, size).items()}
        for path in by_path(state.params):
            update, parameter = sizes["update", path].norm, sizes["parameter", path].norm
            # A bias is zero at first, and its ratio has no meaning.
            found[f"update_ratio/{path}"] = jnp.where(parameter > 0, update / parameter, jnp.nan)
    if "histograms" in names:
        found |= {f"{kind}/{path}": histogram(leaf, axis) for kind, path, leaf, axis in layers}
    return found


def _logged(kind: str, size: Norms) -> dict[str, jax.Array]:
    return {name: value for name, value in size._asdict().items() if name != "zeros" or kind == "activation"}


def next_update(trial: Trial, state: TrialState, values: Values, examples: Examples) -> tuple[Any, Any]:
    """Returns the gradients of the trial's next optimizer update, and its change of the parameters: trees like them.

    The step under way is brought to its end; a trial that has come to the end of its run is asked what would follow.
    """

    def tick(done: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        total, collections = carry
        now = state._replace(tick=state.tick + done - state.micro, collections=collections)
        _, _, collections, gradients = trial.gradients(now, values, trial.batch(now, values, examples))
        return jax.tree.map(jnp.add, total, gradients), collections

    begun = jax.tree.map(lambda g: jnp.where(state.micro > 0, g, jnp.zeros_like(g)), state.gradients)
    total, collections = lax.fori_loop(state.micro, state.accumulation, tick, (begun, state.collections))
    complete = state._replace(
        tick=state.tick + state.accumulation - state.micro,
        micro=state.accumulation,
        gradients=total,
        collections=collections,
    )
    after = trial.update(complete, values)
    share = 1.0 / state.accumulation.astype(jnp.float32)
    return jax.tree.map(lambda g: g * share, total), jax.tree.map(jnp.subtract, after.params, state.params)


def _noise_scale(trial: Trial, asked: Inspections, state: TrialState, values: Values, examples: Examples) -> Measured:
    """The gradients are those of training, the noise of dropout and augmentation included, of the next micro-batches."""
    size = trial.micro_batch_size

    def gradient(i: jax.Array) -> Any:
        now = state._replace(tick=state.tick + i)
        return trial.gradients(now, values, trial.batch(now, values, examples))[3]

    found = noise_scale(gradient, max(-(-asked.examples // size), LEAST_BATCHES), size)
    return {
        "noise_scale": found.scale,
        "noise_scale/error": found.error,
        "noise_scale/noise": found.noise,
        "noise_scale/gradient": found.gradient,
    }


def _sharpness(trial: Trial, asked: Inspections, state: TrialState, values: Values, examples: Examples) -> Measured:
    def product(vector: Any) -> Any:
        return hessian(trial, state, values, examples, asked.examples, vector)

    key = jax.random.fold_in(jax.random.key(values["seed"], impl=GENERATOR), START)
    found = lanczos(product, state.params, key, asked.iterations, asked.values)
    named: Measured = {}
    for i in range(found.values.shape[0]):
        named |= {f"sharpness/{i + 1}": found.values[i], f"sharpness_error/{i + 1}": found.errors[i]}
    return named


def hessian(trial: Trial, state: TrialState, values: Values, examples: Examples, number: int, vector: Any) -> Any:
    """Returns the product of a vector with the Hessian of the mean training loss over some examples.

    The model is in evaluation mode: no dropout, augmentation or mixup, running statistics as they are. The loss has the
    settings of training (label smoothing), without weight decay or L2. Frozen parameters have no curvature.

    Args:
      trial: the static asked.
      state: the trial.
      values: its traced scalars.
      examples: the data set.
      number: examples of the training split, the first of the trial's first epoch; at most all of it.
      vector: a tree like the parameters.
    """
    number = min(number, trial.reader.train_size)
    size = min(trial.eval_batch_size, -(-number // trial.data_shards) * trial.data_shards)
    share = size // trial.data_shards
    shard = 0 if trial.data_axis is None else lax.axis_index(trial.data_axis)
    rules = trial.rules
    frozen = jax.tree.map(lambda _: False, state.params) if rules is None else optimizers.frozen(rules, state.params)

    def batch(i: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        place = i * size + shard * share + jnp.arange(share)
        position = jnp.minimum(place, number - 1).astype(jnp.uint32)
        index = trial.reader.order(position, values, values["data_seed"], examples.folds)
        x, y = trial.reader.read(examples, index)
        items = weights(y)
        return x, y, jnp.where((place < number).reshape(-1, *(1,) * (items.ndim - 1)), items, 0.0)

    def add(i: jax.Array, sums: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        x, y, items = batch(i)

        def loss(params: Any) -> jax.Array:
            params = jax.tree.map(lambda stop, p: lax.stop_gradient(p) if stop else p, frozen, params)
            outputs: Any = trial.model.apply({"params": params, **state.collections}, x)
            losses = trial.items(values)(outputs, y)
            return jnp.where(items > 0, losses * items, 0.0).sum()

        product = hessian_product(loss, state.params, vector)
        return jax.tree.map(jnp.add, sums[0], product), sums[1] + items.sum()

    zeros = jax.tree.map(jnp.zeros_like, state.params), jnp.float32(0.0)
    total, count = lax.fori_loop(0, -(-number // size), add, zeros)
    if trial.data_axis is not None:
        total, count = lax.psum((total, count), trial.data_axis)
    return jax.tree.map(lambda leaf: leaf / jnp.maximum(count, 1.0), total)
