"""An optimizer's step in a trial: rates as scheduled, clipping, averages, norms; on whole arrays or on parts of them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hpjax import optimizers, schedules, zero
from hpjax.data.order import GENERATOR
from hpjax.schedules import Plateau
from hpjax.state import CLIPPED, Last, TrialState, Values


class Rates(NamedTuple):
    """Scheduled values: float32 scalars, and the int32 ticks of the next step."""

    learning_rate: jax.Array
    weight_decay: jax.Array
    momentum: jax.Array
    accumulation: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Updates:
    """The static part of a trial's steps.

    Attributes:
      optimizer: a name in `OPTIMIZERS`.
      optimizer_settings: its static settings.
      common: which of the settings that all optimizers have are part of the program; None: all.
      rules: what is decayed, frozen and scaled, by parameter path.
      schedules: the schedules that are plug-ins, see `schedules.plugins`.
      ema: whether parameters are averaged.
      micro_batch_size: examples a tick, over all shards.
      data_shards: devices that share one micro-batch.
      data_axis: name of the mapped axis those devices form; None where nothing is mapped.
      shard_optimizer_state: whether each shard keeps a part of the optimizer's state, see `zero`.
    """

    optimizer: str
    micro_batch_size: int
    optimizer_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    common: tuple[str, ...] | None = None
    rules: optimizers.Rules | None = None
    schedules: tuple[str, ...] = ()
    ema: bool = False
    data_shards: int = 1
    data_axis: str | None = "data"
    shard_optimizer_state: bool = False

    @property
    def limits(self) -> tuple[str, ...]:
        """The settings that clip gradients and are part of the program."""
        return tuple(name for name in optimizers.clipping.LIMITS if name in (self.common or ()))

    @property
    def is_shared_out(self) -> bool:
        """Whether a state's optimizer holds this shard's part of every array, and not the whole arrays."""
        return self.shard_optimizer_state and self.data_axis is not None and self.data_shards > 1

    def end(self, values: Values) -> jax.Array:
        """Returns the tick at which the run ends."""
        return values["train_steps"] * values["accumulation"]

    def update(self, state: TrialState, values: Values) -> TrialState:
        """Applies the optimizer to the mean of the accumulated gradients, and says how large the next step is."""
        base = values["accumulation"]
        began, next_time = (state.tick - state.micro) // base, state.tick // base
        rates = self.rates(began, next_time, values, state.plateau)
        log_every = values["log_every"]
        at_boundary = (next_time // log_every != began // log_every) | (state.tick >= self.end(values))
        share = 1.0 / state.micro.astype(jnp.float32)
        window = state.window
        if self.limits:
            bites = optimizers.clipping.bites(
                [g * share for g in jax.tree.leaves(state.gradients)], {name: values[name] for name in self.limits}
            )
            # A step that began in the window before counts with what it has in this one.
            ticks = jnp.minimum(state.micro.astype(jnp.float32), window["count"] - window[CLIPPED])
            window = {**window, CLIPPED: window[CLIPPED] + bites * ticks}
        params, optimizer, norms = self._step(rates, values, share, state)
        average = optimizers.ema.update(state.average, params, values["ema_decay"]) if self.ema else None
        last = lax.cond(at_boundary, norms, lambda: tuple(state.last[4:]))
        return state._replace(
            micro=jnp.int32(0),
            accumulation=rates.accumulation,
            params=params,
            optimizer=optimizer,
            average=average,
            window=window,
            last=Last(*rates[:3], (state.micro * self.micro_batch_size).astype(jnp.float32), *last),
        )

    def rates(self, time: jax.Array, next_time: jax.Array, values: Values, memory: Plateau) -> Rates:
        """Returns what is scheduled: rates of the step that began at `time`, and the ticks of the next one."""
        times = jnp.stack([time, time, time, next_time])
        factors = schedules.factors(times, values, memory.reduction, self.schedules)
        momentum = optimizers.momentum_setting(self.optimizer)
        ticks = jnp.round(values["accumulation"].astype(jnp.float32) * factors[3]).astype(jnp.int32)
        return Rates(
            values["learning_rate"] * factors[0],
            values["weight_decay"] * factors[1],
            (values[momentum] if momentum else jnp.float32(0.0)) * factors[2],
            jnp.maximum(ticks, 1),
        )

    def optimizer_state(self, values: Values, params: Any) -> Any:
        """Returns the optimizer's state before the first step, this shard's part of it where it is shared out."""
        # Not as scheduled: no optimizer's first state depends on its rates, and the schedules are slow to compile.
        rates = Rates(values["learning_rate"], values["weight_decay"], jnp.float32(0.0), values["first_accumulation"])
        optimizer = self._transformation(rates, values).init(params)
        if not self.is_shared_out or self.data_axis is None:
            return optimizer
        return zero.part(optimizer, self.data_axis, self.data_shards)

    def _step(
        self, rates: Rates, values: Values, share: jax.Array, state: TrialState
    ) -> tuple[Any, Any, Callable[[], tuple[jax.Array, ...]]]:
        """Returns parameters and optimizer state after a step, and what gives the norms that `Last` has."""
        if not self.is_shared_out:
            return self._step_on(rates, values, share, state)

        def apply(gradients: Any, params: Any, optimizer: Any) -> tuple[Any, Any, Callable[[], tuple[jax.Array, ...]]]:
            these = state._replace(gradients=gradients, params=params, optimizer=optimizer)
            return self._step_on(rates, values, share, these)

        whole = jax.eval_shape(self._transformation(rates, values).init, state.params)
        alone = zero.elementwise(self.optimizer, self.optimizer_settings, self.common)
        arrays = (state.gradients, state.params, state.optimizer)
        return zero.step(apply, *arrays, whole, self.data_axis, self.data_shards, alone)  # type: ignore[arg-type]

    def _step_on(
        self, rates: Rates, values: Values, share: jax.Array, state: TrialState
    ) -> tuple[Any, Any, Callable[[], tuple[jax.Array, ...]]]:
        """`_step` of whole arrays, or of the same part of each."""
        # What is rounded at random: by the trial's seed and the tick that ends the step.
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(values["seed"], impl=GENERATOR), 2), state.tick)
        if optimizers.fused.available(self.optimizer, self.optimizer_settings, jax.tree.leaves(state.params)):
            settings = self._settings(rates, values)
            step = optimizers.fused.step(
                *(self.optimizer, rates.learning_rate, settings, self.rules),
                *(share, state.gradients, state.optimizer, state.params, key),
            )
            return step.params, step.state, lambda: step.norms
        gradients = jax.tree.map(lambda g: g * share, state.gradients)
        transformation = self._transformation(rates, values, key)
        updates, optimizer = transformation.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return params, optimizer, lambda: tuple(optax.tree.norm(tree) for tree in (gradients, params, updates))

    def _transformation(self, rates: Rates, values: Values, key: jax.Array | None = None) -> optax.GradientTransformation:
        settings, static = self._settings(rates, values), self.optimizer_settings
        return optimizers.transformation(self.optimizer, rates.learning_rate, settings, static, self.rules, key)

    def _settings(self, rates: Rates, values: Values) -> dict[str, Any]:
        """Returns the optimizer's traced settings, those that are scheduled as they are in this step."""
        momentum = optimizers.momentum_setting(self.optimizer)
        scheduled = {"weight_decay": rates.weight_decay, **({momentum: rates.momentum} if momentum else {})}
        return {
            name: value
            for name, value in {**values, **scheduled}.items()
            if self.common is None or name in self.common or not optimizers.OPTIMIZERS.is_common(self.optimizer, name)
        }
