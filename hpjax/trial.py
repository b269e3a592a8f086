"""One training run as pure functions: `init`, `tick`, `observe`, `evaluate`.

A tick is one micro-batch through forward and backward; an optimizer update (a step) comes when a batch of them is complete.
Whatever may differ between trials of one program is a value in `Values`; whatever shapes the program is a field of `Trial`.

Time runs in examples: schedules, logs and lengths count updates of `batch_size` examples, `tick // accumulation`, also while
a schedule makes the batch another size.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from hpjax import everywhere, metrics, optimizers, schedules
from hpjax.batch import Batch, Examples, Read, Reader
from hpjax.data.order import GENERATOR
from hpjax.evaluation import Measure
from hpjax.losses import LOSSES, weights
from hpjax.metrics import METRICS
from hpjax.models import NEVER, Training
from hpjax.state import CLIPPED, FOREVER, RUNNING, Last, TrialState, Values
from hpjax.updates import Updates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial(Updates):
    """The static part of a trial.

    Attributes, beside those of its steps:
      model: a Linen module called as `model(x, training)`.
      reader: how examples are read.
      sam: whether gradients are those of sharpness-aware minimisation.
      dropout: whether activations are dropped; where not, no random number and no product is part of the program.
      stochastic_depth: likewise, residual branches.
      loss: a name in `LOSSES`.
      loss_settings: its static settings.
      metrics: names in `METRICS` that are measured at evaluations; those that are means are also logged while training.
      masked: whether some targets are masked.
      observed: the measure that a plateau schedule watches, and whether more is better.
      eval_batch_size: examples of one evaluation batch, over all shards.
      capacity: examples of the largest split.
      share_batches: whether all trials of a program have one order of the data.
      ghost_batch_norm: whether batch norm's statistics are those of each shard's part of a micro-batch.
      native: whether operators run by the native kernels where they can.
      compute_dtype: in what dense layers and convolutions multiply, see `ops.precision`.
    """

    model: nn.Module
    reader: Reader
    loss: str
    metrics: tuple[str, ...]
    eval_batch_size: int
    capacity: int
    loss_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sam: bool = False
    dropout: bool = True
    stochastic_depth: bool = True
    masked: bool = False
    observed: tuple[str, bool] = ("loss", False)
    share_batches: bool = False
    ghost_batch_norm: bool = False
    native: bool = False
    compute_dtype: str = "float32"

    @property
    def logged(self) -> tuple[str, ...]:
        """What is averaged over the ticks of a log window: the loss and the metrics that are means."""
        return ("loss", *filter(metrics.is_mean, self.metrics))

    @property
    def reported(self) -> tuple[str, ...]:
        """The means of a log window: what is `logged`, and with clipping the share of steps that were clipped."""
        return (*self.logged, *((CLIPPED,) if self.limits else ()))

    def init(self, values: Values, examples: Examples) -> TrialState:
        """Returns the state before the first tick: parameters drawn from `values['seed']`, everything else zero."""
        key = jax.random.fold_in(jax.random.key(values["seed"], impl=GENERATOR), 0)
        x, _ = self.reader.read(examples, jnp.zeros(1, jnp.int32))
        variables = _replaced(dict(self.model.init(key, x)), examples.initial or {})
        params = variables.pop("params")
        nothing = jnp.float32(0.0)
        return TrialState(
            tick=jnp.int32(0),
            micro=jnp.int32(0),
            accumulation=values["first_accumulation"],
            params=params,
            collections=variables,
            optimizer=self.optimizer_state(values, params),
            average=params if self.ema else None,
            gradients=jax.tree.map(jnp.zeros_like, params),
            plateau=schedules.init(),
            window={name: nothing for name in (*self.reported, "count")},
            last=Last(*[nothing] * 7),
            diverged_at=jnp.int32(RUNNING),
        )

    def active(self, state: TrialState, values: Values, stop: jax.Array | int = FOREVER) -> jax.Array:
        """Returns whether the trial has ticks left before the tick `stop`: a bool scalar."""
        return (state.tick < jnp.minimum(self.end(values), stop)) & (state.diverged_at == RUNNING)

    def tick(self, state: TrialState, values: Values, examples: Examples, stop: jax.Array | int = FOREVER) -> TrialState:
        """Trains on one micro-batch; a trial that is not active stays as it is.

        Args:
          state: the trial.
          values: its traced scalars.
          examples: the data set.
          stop: int32 scalar, the tick before which it is active.

        Returns:
          The state one tick on. A loss that is not finite sets `diverged_at` and changes no parameter.
        """
        return self.tick_on(state, values, self.read(state.tick, values, examples), stop)

    def tick_on(self, state: TrialState, values: Values, read: Read, stop: jax.Array | int = FOREVER) -> TrialState:
        """Trains on the micro-batch that was read for the trial's tick; see `tick`."""
        loss, measured, collections, gradients = self.gradients(state, values, self.reader.prepared(values, read))

        active = self.active(state, values, stop)
        finite = jnp.isfinite(loss)
        first = state.micro == 0
        gradients = jax.tree.map(lambda g, new: jnp.where(first, new, g + new), state.gradients, gradients)
        fresh = state.tick % (values["accumulation"] * values["log_every"]) == 0
        # What was clipped is known after the step.
        news = {"loss": loss, **measured, "count": 1.0}
        window = {name: jnp.where(fresh, 0.0, before) + news.get(name, 0.0) for name, before in state.window.items()}
        keep = active & finite
        if self.share_batches:
            # Elsewhere a lane never stands still in the middle of a step; here it may wait for others there.
            gradients = _select(keep, gradients, state.gradients)
        state = state._replace(
            tick=state.tick + keep,
            micro=state.micro + keep,
            collections=_select(keep, collections, state.collections),
            gradients=gradients,
            window=_select(keep, window, state.window),
            diverged_at=jnp.where(active & ~finite, state.tick // values["accumulation"], state.diverged_at),
        )
        # What is left at the end of a run whose batch has grown is an update too.
        complete = (state.micro >= state.accumulation) | (state.tick >= self.end(values))
        return lax.cond(keep & complete, lambda: self.update(state, values), lambda: state)

    def observe(self, state: TrialState, values: Values, measured: Mapping[str, jax.Array]) -> TrialState:
        """Returns the state after an evaluation, which a plateau schedule watches.

        Args:
          state: the trial.
          values: its traced scalars.
          measured: what `evaluate` gave for the validation split.
        """
        name, maximise = self.observed
        memory = schedules.observe(state.plateau, measured[name], maximise, values)
        # A step that has not begun is of the batch size that follows from this evaluation.
        time = state.tick // values["accumulation"]
        accumulation = self.rates(time, time, values, memory).accumulation
        accumulation = jnp.where(state.micro == 0, accumulation, state.accumulation)
        return state._replace(plateau=memory, accumulation=accumulation)

    def evaluate(
        self, state: TrialState, examples: Examples, start: jax.Array, size: jax.Array, most: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Returns loss (without smoothing) and metrics over a split, as `evaluation.finish` takes them.

        Args:
          state: the trial.
          examples: the data set.
          start: int32 scalar, the split's first example.
          size: int32 scalar, its number of examples.
          most: the largest `size` of the lanes that run together; None: `size`.

        Returns:
          Arrays by name, exact over the whole split; 0 for an empty one.
        """
        return self.measured(self.result(state), examples, start, size, most)

    def measured(
        self,
        result: dict[str, Any],
        examples: Examples,
        start: jax.Array,
        size: jax.Array,
        most: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Returns what `evaluate` does, of what was kept of a trial: what `result` gave."""
        variables = {"params": result["params"], **result["collections"]}
        measure = Measure(
            self.loss, self.metrics, self.reader, self.eval_batch_size, self.capacity, self.masked, self.loss_settings
        )
        outputs: Callable[[jax.Array], Any] = lambda x: self.model.apply(variables, x)  # noqa: E731
        return measure.split(outputs, examples, start, size, self.data_shards, self.data_axis, most)

    def evaluated(self, state: TrialState) -> Any:
        """Returns the parameters that are evaluated and kept as the result: averaged ones where they are averaged."""
        if self.ema:
            return state.average
        return optimizers.evaluated(self.optimizer, state.params, state.optimizer, self.rules)

    def result(self, state: TrialState) -> dict[str, Any]:
        """Returns what is kept of a trial: the parameters that are evaluated, and the model's other variables."""
        return {"params": self.evaluated(state), "collections": state.collections}

    def report(self, state: TrialState) -> dict[str, jax.Array]:
        """Returns what a log line holds: window means by name, the last step's rates and norms, and progress."""
        count = jnp.maximum(state.window["count"], 1.0)
        return {
            **{name: state.window[name] / count for name in self.reported},
            **{f"last/{name}": value for name, value in state.last._asdict().items()},
            "tick": state.tick,
            "diverged_at": state.diverged_at,
        }

    def batch(self, state: TrialState, values: Values, examples: Examples) -> Batch:
        """Returns this shard's part of the micro-batch of the next tick."""
        return self.reader.prepared(values, self.read(state.tick, values, examples))

    def read(self, tick: jax.Array, values: Values, examples: Examples) -> Read:
        """Returns this shard's part of the micro-batch of a tick, as it lies in the data set."""
        share = self.micro_batch_size // self.data_shards
        offset = tick.astype(jnp.uint32) * jnp.uint32(self.micro_batch_size)
        position = offset + jnp.uint32(self._shard() * share) + jnp.arange(share, dtype=jnp.uint32)
        if examples.tick is None:
            return self.reader.gathered(values, examples, position)
        row = (tick - examples.tick) * share + jnp.arange(share)
        return self.reader.gathered(values, examples, position, row)

    def gradients(self, state: TrialState, values: Values, batch: Batch) -> tuple[Any, ...]:
        """Returns loss, metrics, collections and gradients of the micro-batch, averaged over the shards."""
        dropout_rate = values["dropout_rate"] if self.dropout else NEVER
        stochastic_depth_rate = values["stochastic_depth_rate"] if self.stochastic_depth else NEVER
        statistics = None if self.ghost_batch_norm else self.data_axis
        training = Training(batch.position, dropout_rate, stochastic_depth_rate, statistics)
        key = jax.random.fold_in(jax.random.key(values["seed"], impl=GENERATOR), 1)
        items = self.items(values)

        def objective(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
            params = self._thawed(params)
            outputs, collections = self.model.apply(
                {"params": params, **state.collections},
                batch.x,
                training,
                # Our layers draw from the example's position; any other stream of a user's layers is new each tick.
                rngs={"dropout": key, "params": jax.random.fold_in(key, batch.position[0])},
                mutable=list(state.collections),
            )
            loss = items(outputs, batch.y)
            if batch.other is not None and batch.share is not None:
                share = batch.share.reshape(-1, *(1,) * (loss.ndim - 1))
                loss = share * loss + (1.0 - share) * items(outputs, batch.other)
            mean = self._mean_over(batch.y)
            measured = {name: mean(METRICS.get(name)(outputs, batch.y)) for name in self.logged if name != "loss"}
            return mean(loss), (measured, collections)

        gradient = jax.value_and_grad(objective, has_aux=True)
        if self.sam:
            gradient = optimizers.sam.sam(gradient, values["sam_rho"], self._over_shards)
        (loss, (measured, collections)), gradients = gradient(state.params)
        return self._over_shards((loss, measured, collections, gradients))

    def items(self, values: Values) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Returns the loss that is trained with, of outputs and targets, one value an item."""
        settings = {**{name: values[name] for name in LOSSES.traced(self.loss)}, **self.loss_settings}
        return lambda outputs, y: LOSSES.get(self.loss)(outputs, y, **settings)

    def _mean_over(self, y: jax.Array) -> Callable[[jax.Array], jax.Array]:
        """Returns the mean over the items of the whole micro-batch; masked ones do not count."""
        if not self.masked:
            return jnp.mean
        items = weights(y)
        count = items.sum() if self.data_axis is None else lax.pmean(items.sum(), self.data_axis)
        return lambda value: jnp.where(items > 0, value * items, 0.0).sum() / jnp.maximum(count, 1.0)

    def _thawed(self, params: Any) -> Any:
        """Returns the parameters, the frozen ones so that no gradient is computed for them."""
        if self.rules is None:
            return params
        frozen = optimizers.frozen(self.rules, params)
        return jax.tree.map(lambda stop, leaf: lax.stop_gradient(leaf) if stop else leaf, frozen, params)

    def _over_shards(self, tree: Any) -> Any:
        return tree if self.data_axis is None else everywhere.mean(tree, self.data_axis)

    def _shard(self) -> jax.Array | int:
        return 0 if self.data_axis is None else lax.axis_index(self.data_axis)


def _select(condition: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _replaced(variables: Any, initial: Any) -> Any:
    """Returns nested dicts of arrays, those of `initial` in the place of the variables' own."""
    if not isinstance(initial, Mapping):
        return initial
    return {name: _replaced(value, initial[name]) if name in initial else value for name, value in variables.items()}
