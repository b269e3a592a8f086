"""One training run as pure functions: `init`, `tick`, `evaluate`.

A tick is one micro-batch through forward and backward; every `accumulation`-th tick applies one optimizer update (a step).
Whatever may differ between trials of one program is a value in `Values`; whatever shapes the program is a field of `Trial`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

from hpjax import optimizers, schedules
from hpjax.data.order import GENERATOR, example_index
from hpjax.losses import LOSSES, METRICS
from hpjax.models import Training

Values = Mapping[str, jax.Array]
"""A trial's traced scalars by name: its hyperparameters, seeds and lengths (`resolve.traced` makes them)."""

RUNNING = -1
"""`TrialState.diverged_at` of a trial whose loss has been finite so far."""


class Examples(NamedTuple):
    """A data set on the device: all splits one after the other, the training split first.

    Attributes:
      x: [examples, ...], uint8 or float32.
      y: int32 [examples].
    """

    x: jax.Array
    y: jax.Array


class Norms(NamedTuple):
    """Global L2 norms at the last step of the window, float32 scalars: gradient before clipping, parameters, update."""

    gradient: jax.Array
    parameters: jax.Array
    update: jax.Array


class TrialState(NamedTuple):
    """All that a trial carries from tick to tick; a pytree of arrays.

    Attributes:
      tick: int32, ticks done.
      params: the model's parameters.
      collections: the model's other variables (batch statistics), empty for most.
      optimizer: the optimizer's state.
      gradients: sum of this step's micro-batch gradients so far.
      window: float32 sums of loss and metrics over the ticks since the last log boundary, by name, and their `count`.
      norms: see `Norms`.
      diverged_at: int32, the step whose loss was not finite, or `RUNNING`.
    """

    tick: jax.Array
    params: Any
    collections: Any
    optimizer: Any
    gradients: Any
    window: dict[str, jax.Array]
    norms: Norms
    diverged_at: jax.Array


@dataclasses.dataclass(frozen=True)
class Trial:
    """The static part of a trial.

    Attributes:
      model: a Linen module called as `model(x, training)`.
      optimizer: a name in `OPTIMIZERS`.
      loss: a name in `LOSSES`.
      metrics: names in `METRICS`.
      micro_batch_size: examples a tick, over all shards.
      eval_batch_size: examples of one evaluation batch, over all shards.
      train_size: examples in the training split.
      scale: input scale; the model sees `scale * x + shift`.
      shift: input shift.
      data_shards: devices that share one micro-batch.
      data_axis: name of the mapped axis those devices form; None where nothing is mapped.
    """

    model: nn.Module
    optimizer: str
    loss: str
    metrics: tuple[str, ...]
    micro_batch_size: int
    eval_batch_size: int
    train_size: int
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0
    data_shards: int = 1
    data_axis: str | None = "data"

    def init(self, values: Values, examples: Examples) -> TrialState:
        """Returns the state before the first tick: parameters drawn from `values['seed']`, everything else zero."""
        key = jax.random.fold_in(jax.random.key(values["seed"], impl=GENERATOR), 0)
        variables = dict(self.model.init(key, self.inputs(examples.x[:1])))
        params = variables.pop("params")
        transformation = optimizers.create(self.optimizer, 0.0, values)
        zero = jnp.float32(0.0)
        return TrialState(
            tick=jnp.int32(0),
            params=params,
            collections=variables,
            optimizer=transformation.init(params),
            gradients=jax.tree.map(jnp.zeros_like, params),
            window={name: zero for name in ("loss", *self.metrics, "count")},
            norms=Norms(zero, zero, zero),
            diverged_at=jnp.int32(RUNNING),
        )

    def active(self, state: TrialState, values: Values) -> jax.Array:
        """Returns whether the trial has ticks left: a bool scalar."""
        end = values["train_steps"] * values["accumulation"]
        return (state.tick < end) & (state.diverged_at == RUNNING)

    def tick(self, state: TrialState, values: Values, examples: Examples) -> TrialState:
        """Trains on one micro-batch; a trial that is not active stays as it is.

        Args:
          state: the trial.
          values: its traced scalars.
          examples: the data set.

        Returns:
          The state one tick on. A loss that is not finite sets `diverged_at` and changes no parameter.
        """
        accumulation = values["accumulation"]
        within = state.tick % accumulation
        step = state.tick // accumulation
        loss, measured, collections, gradients = self._gradients(state, values, examples)

        active = self.active(state, values)
        finite = jnp.isfinite(loss)
        gradients = jax.tree.map(lambda g, new: jnp.where(within == 0, new, g + new), state.gradients, gradients)
        fresh = state.tick % (accumulation * values["log_every"]) == 0
        window = {
            name: jnp.where(fresh, 0.0, state.window[name]) + new
            for name, new in {"loss": loss, **measured, "count": jnp.float32(1.0)}.items()
        }
        keep = active & finite
        state = state._replace(
            tick=state.tick + keep,
            collections=_select(keep, collections, state.collections),
            gradients=gradients,
            window=_select(keep, window, state.window),
            diverged_at=jnp.where(active & ~finite, step, state.diverged_at),
        )
        update = lambda: self._update(state, values, step)  # noqa: E731
        return lax.cond(keep & (within == accumulation - 1), update, lambda: state)

    def evaluate(self, state: TrialState, examples: Examples, start: jax.Array, size: jax.Array) -> dict[str, jax.Array]:
        """Returns the mean loss (without smoothing) and metrics over a split.

        Args:
          state: the trial.
          examples: the data set.
          start: int32 scalar, the split's first example.
          size: int32 scalar, its number of examples.

        Returns:
          float32 scalars by name, exact over the whole split; 0 for an empty one.
        """
        share = self.eval_batch_size // self.data_shards
        names = ("loss", *self.metrics)

        def batch(i: jax.Array, sums: dict[str, jax.Array]) -> dict[str, jax.Array]:
            place = i * self.eval_batch_size + self._shard() * share + jnp.arange(share)
            index = start + jnp.minimum(place, size - 1)
            x, y = examples.x[index], examples.y[index]
            outputs = self.model.apply({"params": state.params, **state.collections}, self.inputs(x))
            each = {"loss": LOSSES.get(self.loss)(outputs, y), **{m: METRICS.get(m)(outputs, y) for m in self.metrics}}
            return {name: sums[name] + jnp.where(place < size, each[name], 0.0).sum() for name in names}

        batches = -(-size // self.eval_batch_size)
        sums = lax.fori_loop(0, batches, batch, {name: jnp.float32(0.0) for name in names})
        if self.data_axis is not None:
            sums = lax.psum(sums, self.data_axis)
        return {name: value / jnp.maximum(size, 1).astype(jnp.float32) for name, value in sums.items()}

    def report(self, state: TrialState, values: Values) -> dict[str, jax.Array]:
        """Returns what a log line holds: window means by name, norms, learning rate of the last step, and progress."""
        count = jnp.maximum(state.window["count"], 1.0)
        last = jnp.maximum(state.tick // values["accumulation"] - 1, 0)
        return {
            **{name: state.window[name] / count for name in ("loss", *self.metrics)},
            "learning_rate": values["learning_rate"] * schedules.factor(last, values),
            "gradient_norm": state.norms.gradient,
            "parameter_norm": state.norms.parameters,
            "update_norm": state.norms.update,
            "tick": state.tick,
            "diverged_at": state.diverged_at,
        }

    def inputs(self, x: jax.Array) -> jax.Array:
        """Returns the model's inputs; a scale and shift for each channel go with the last axis."""
        scale, shift = (
            jnp.asarray(value, jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,)) for value in (self.scale, self.shift)
        )
        return x.astype(jnp.float32) * scale + shift

    def _shard(self) -> jax.Array | int:
        return 0 if self.data_axis is None else lax.axis_index(self.data_axis)

    def _gradients(self, state: TrialState, values: Values, examples: Examples) -> tuple[Any, ...]:
        """Returns loss, metrics, collections and gradients of the micro-batch, averaged over the shards."""
        share = self.micro_batch_size // self.data_shards
        offset = state.tick.astype(jnp.uint32) * jnp.uint32(self.micro_batch_size)
        position = offset + jnp.uint32(self._shard() * share) + jnp.arange(share, dtype=jnp.uint32)
        index = example_index(position, self.train_size, values["data_seed"])
        x, y = self.inputs(examples.x[index]), examples.y[index]
        key = jax.random.fold_in(jax.random.key(values["seed"], impl=GENERATOR), 1)
        training = Training(values["dropout_rate"], position)

        def objective(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
            variables = {"params": params, **state.collections}
            outputs, collections = self.model.apply(
                variables, x, training, rngs={"dropout": key}, mutable=list(state.collections)
            )
            loss = LOSSES.get(self.loss)(outputs, y, label_smoothing=values["label_smoothing"]).mean()
            return loss, ({m: METRICS.get(m)(outputs, y).mean() for m in self.metrics}, collections)

        (loss, (measured, collections)), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        result = (loss, measured, collections, gradients)
        return result if self.data_axis is None else lax.pmean(result, self.data_axis)

    def _update(self, state: TrialState, values: Values, step: jax.Array) -> TrialState:
        """Applies the optimizer to the mean of the accumulated gradients."""
        learning_rate = values["learning_rate"] * schedules.factor(step, values)
        transformation = optimizers.create(self.optimizer, learning_rate, values)
        share = 1.0 / values["accumulation"].astype(jnp.float32)
        gradients = jax.tree.map(lambda g: g * share, state.gradients)
        updates, optimizer = transformation.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)

        def norms() -> Norms:
            return Norms(*(optax.tree.norm(tree) for tree in (gradients, params, updates)))

        at_boundary = ((step + 1) % values["log_every"] == 0) | (step + 1 == values["train_steps"])
        return state._replace(params=params, optimizer=optimizer, norms=lax.cond(at_boundary, norms, lambda: state.norms))


def _select(condition: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
