"""From a resolved config and its data set to a program on the devices."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hpjax import devices, metrics, optimizers, resolve, schedules, scheduling
from hpjax.batch import Examples, Reader
from hpjax.config import Config
from hpjax.data import DATASETS, Dataset, augment, folds
from hpjax.errors import ConfigError
from hpjax.feed import Feed, HeldOut
from hpjax.initial import Initial
from hpjax.initial import load as load_initial
from hpjax.lanes import LaneProgram
from hpjax.losses import LOSSES
from hpjax.models import MODELS
from hpjax.objective import Objective
from hpjax.ops import native, precision
from hpjax.placement import Layout
from hpjax.registry import REQUIRED
from hpjax.resolve import static_settings
from hpjax.state import TrialState, Values
from hpjax.trial import Trial


def load(config: Config, dataset: Dataset | None = None, streams: bool = False) -> Dataset:
    """Returns the data set of a resolved config.

    Args:
      config: the config.
      dataset: the data themselves, checked, where they are in memory already.
      streams: whether it may be streamed; else it comes into memory, whatever its size.

    Raises:
      DataError: it is missing or damaged.
      ConfigError: a split that the objective needs is empty.
    """
    if dataset is None:
        settings = static_settings(config, "dataset")
        if "stream" in settings and not streams:
            settings["stream"] = "off"
        dataset = DATASETS.load(config.dataset, settings)
    if dataset.stream is not None:
        _check_streamed(config)
    if config.folds is not None:
        dataset = dataset.folded(config.folds, config.fold)
    elif dataset.own_folds is not None:
        dataset = dataclasses.replace(dataset, own_folds=None)
    most = max(len(dataset.y), Config().eval_batch_size)
    if config.eval_batch_size > most:
        raise ConfigError(f"eval_batch_size is {config.eval_batch_size}; expected at most {most}")
    split = (config.objective or "").partition("/")[0]
    if dataset.splits[split][1] == 0:
        raise ConfigError(f"objective is '{config.objective}'; the data set has no {split} split to measure it on")
    return dataset


def _check_streamed(config: Config) -> None:
    """Refuses what takes a data set that is whole on every device."""
    advice = "or --stream=off, with the data in memory"
    if config.folds is not None:
        raise ConfigError(f"folds is {config.folds}; expected none with streamed data, {advice}")
    if config.inspect:
        raise ConfigError(f"inspect is {','.join(config.inspect)}; expected none with streamed data, {advice}")
    if config.parallel == "pmap":
        raise ConfigError(f"parallel is pmap; expected shard_map with streamed data, {advice}")


def trial(config: Config, dataset: Dataset) -> Trial:
    """Returns the static part of a resolved config's trial.

    Raises:
      ConfigError: rules that do not fit the model's parameters, or augmentation that does not fit the inputs.
    """
    model = MODELS.get(config.model)(dataset.outputs, **static_settings(config, "model"))
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model '{config.model}' gave a {type(model).__name__}; expected a Linen or NNX module")
    own = dataset.own_folds
    reader = Reader(
        task=dataset.task,
        train_size=dataset.splits["train"][1],
        window=dataset.window,
        tokens=dataset.tokens,
        scale=dataset.scale,
        shift=dataset.shift,
        augment=config.augment,
        augment_settings=static_settings(config, "augment"),
        mixup=config.mixup_alpha is not None,
        fold_size=0 if config.folds is None or own else dataset.splits["val"][1],
        own_folds=own is not None,
        streamed=dataset.stream is not None,
    )
    augment.check(config.augment, dataset.name, dataset.x.shape[1:])
    if reader.mixup and dataset.tokens:
        raise ConfigError(
            f"mixup_alpha is {config.mixup_alpha}; expected none for '{dataset.name}', whose inputs are tokens"
        )
    best = resolve.objective(config)
    split, _, name = best.name.partition("/")
    part = Trial(
        model=model,
        reader=reader,
        optimizer=config.optimizer,
        optimizer_settings=static_settings(config, "optimizer"),
        common=optimizers.OPTIMIZERS.in_use(config.optimizer, dataclasses.asdict(config)),
        schedules=schedules.plugins(scheduling.names(config)),
        sam=config.sam_rho is not None,
        ema=config.ema_decay is not None,
        dropout=bool(config.dropout_rate),
        stochastic_depth=bool(config.stochastic_depth_rate),
        loss=config.loss or "",
        loss_settings=static_settings(config, "loss"),
        metrics=config.metrics or (),
        masked=dataset.window is None and dataset.y.dtype.kind == "i" and bool((dataset.y < 0).any()),
        observed=(name, best.maximise) if split == "val" and _is_mean(name) else ("loss", False),
        micro_batch_size=config.micro_batch_size or config.batch_size,
        eval_batch_size=config.eval_batch_size,
        capacity=folds.filled(len(dataset.y)) if own else _largest_split(dataset),
        share_batches=config.share_batches,
        ghost_batch_norm=config.ghost_batch_norm,
        shard_optimizer_state=config.shard_optimizer_state,
        native=config.native == "on",
        compute_dtype=config.compute_dtype,
    )
    return dataclasses.replace(part, rules=_rules(config, variables(part, dataset)["params"]))


def _largest_split(dataset: Dataset) -> int:
    """Returns the examples of the largest split that may be measured: of streamed data not the training split."""
    names = dataset.splits.keys() - ({"train"} if dataset.stream is not None else set())
    return max(1, *(dataset.splits[name][1] for name in names))


def _is_mean(name: str) -> bool:
    return name == "loss" or metrics.is_mean(name)


def _rules(config: Config, params: Any) -> optimizers.Rules:
    return optimizers.Rules.create(params, config.decay_rules, config.learning_rate_rules, config.freeze)


def variables(part: Trial, dataset: Dataset) -> dict[str, Any]:
    """Returns the shapes of a model's variables: nested dicts by collection."""

    def initial(data: Examples) -> Any:
        return part.model.init(jax.random.key(0), part.reader.read(data, jnp.zeros(1, jnp.int32))[0])

    return jax.eval_shape(initial, examples(dataset))


def examples(dataset: Dataset, initial: Initial | None = None) -> Examples:
    """Returns what of a data set goes onto the devices, with the variables that a run begins with; NumPy arrays."""
    begin = None if initial is None else initial.variables
    if dataset.own_folds is None:
        return Examples(dataset.x, dataset.y, begin)  # type: ignore[arg-type]
    x, y = folds.fill(dataset.x), folds.fill(dataset.y)
    return Examples(x, y, begin, dataset.own_folds.tables)  # type: ignore[arg-type]


def initial(config: Config, dataset: Dataset) -> Initial | None:
    """Returns the variables that a resolved config's run begins with, or None; raises ConfigError if they do not fit."""
    if config.init_from is None:
        return None
    return load_initial(config.init_from, variables(trial(config, dataset), dataset))


def like(part: Trial, scalars: Mapping[str, Any], examples: Examples) -> TrialState:
    """Returns NumPy zeros in the structure of a trial's state."""
    alone = dataclasses.replace(part, data_axis=None, data_shards=1)
    shapes = jax.eval_shape(alone.init, dict(scalars), examples)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def check_parts(config: Config, dataset: Dataset, scalars: Mapping[str, Any]) -> None:
    """Traces the model, the loss and a whole tick, without running them.

    Args:
      config: a resolved config.
      dataset: its data.
      scalars: its traced values, by name.

    Raises:
      ConfigError: the model does not give one output a class, or the loss one value an item, or a gradient is
        differentiated again with native on. What a part of one's own raises comes through as it is.
    """
    _check_plugins(config)
    if config.batch_size_schedule is not None:
        _check_batch(config, scalars)
    part = dataclasses.replace(trial(config, dataset), data_axis=None)
    on_device = examples(dataset)

    def outputs(data: Examples) -> Any:
        x, y = part.reader.read(data, jnp.zeros(2, jnp.int32))
        return part.model.apply(part.model.init(jax.random.key(0), x), x), y

    def tick(values: Values, data: Examples) -> TrialState:
        return part.tick(part.init(values, data), values, data)

    given, targets = jax.eval_shape(outputs, on_device)
    # A class for each item of a sequence, too; of other tasks the last axis is the outputs'.
    items = targets.shape if dataset.task in ("classification", "language") else targets.shape[:1]
    expected = (*items, dataset.outputs)
    if getattr(given, "shape", None) != expected:
        raise ConfigError(f"model '{config.model}' gives {_shape(given)} for 2 examples; expected {expected}")
    loss = jax.eval_shape(functools.partial(LOSSES.get(part.loss), **part.loss_settings), given, targets)
    if getattr(loss, "shape", None) != expected[:-1]:
        raise ConfigError(f"loss '{config.loss}' gives {_shape(loss)} for 2 examples; expected {expected[:-1]}")
    for name in config.metrics or ():
        value = jax.eval_shape(metrics.METRICS.get(name), given, targets)
        items = expected[:-1] if metrics.is_mean(name) else expected[:1]
        if getattr(value, "shape", ())[: None if metrics.is_mean(name) else 1] != items:
            raise ConfigError(f"metric '{name}' gives {_shape(value)} for 2 examples; expected {items}, one value an item")
    try:
        with native.scope(part.native), precision.scope(part.compute_dtype):
            jax.eval_shape(tick, dict(scalars), on_device)
    except ValueError as error:
        if re.search(r"`hpjax_\w+` cannot be differentiated", str(error)) is None:
            raise
        whose = f"model '{config.model}' with loss '{config.loss}'"
        raise ConfigError(
            f"{whose} takes a gradient, which the native kernels cannot differentiate again; expected native=off"
        ) from None


def _check_batch(config: Config, scalars: Mapping[str, Any]) -> None:
    """Refuses a schedule of the batch size that would change nothing, for a batch is a whole number of micro-batches."""
    micro, batch = config.micro_batch_size or config.batch_size, schedules.QUANTITIES.index("batch_size")
    steps = np.linspace(0, scalars["train_steps"] - 1, min(scalars["train_steps"], 1000)).astype(np.int32)
    extra = schedules.plugins(scheduling.names(config))

    def factor(step: jax.Array, reduction: float) -> jax.Array:
        return schedules.factors(jnp.full(len(schedules.QUANTITIES), step), scalars, reduction, extra)[batch]

    # Before plateau has changed anything, and when it has gone as low or as high as it may.
    parts = scheduling.parts_of(config, "batch_size_schedule", resolve.own(config))
    limits = [part.settings for part in parts if part.name == "plateau"]
    reductions = [1.0, *(limit["max_factor" if limit["gamma"] > 1 else "min_factor"] for limit in limits)]
    found = np.array([jax.vmap(functools.partial(factor, reduction=r))(jnp.asarray(steps)) for r in reductions])
    ticks = np.maximum(np.round(found * scalars["accumulation"]), 1)
    if (ticks == scalars["accumulation"]).all():
        raise ConfigError(
            f"batch_size_schedule changes nothing: a batch is a whole number of micro-batches of {micro}, at least one; "
            "expected a smaller micro_batch_size, or a schedule that grows"
        )


def _check_plugins(config: Config) -> None:
    """Refuses an optimizer, a loss or a schedule of one's own that is not what such a part is."""
    if ":" in config.optimizer:
        optimizers.OPTIMIZERS.check_call(config.optimizer, "learning_rate")
        entry = optimizers.OPTIMIZERS.get(config.optimizer)
        given = entry(
            0.1,
            **{
                name: value
                for name, value in optimizers.OPTIMIZERS.settings(config.optimizer).items()
                if not optimizers.OPTIMIZERS.is_common(config.optimizer, name)
            },
        )
        if not (hasattr(given, "init") and hasattr(given, "update")):
            raise ConfigError(
                f"optimizer '{config.optimizer}' gave a {type(given).__name__}; expected an optax.GradientTransformation"
            )
    LOSSES.check_call(config.loss or "", "outputs", "targets")
    for setting in LOSSES.traced(config.loss or ""):
        if LOSSES.settings(config.loss or "")[setting] is REQUIRED:
            raise ConfigError(f"loss '{config.loss}' takes '{setting}'; expected a default, which evaluations measure with")
    for name in config.metrics or ():
        metrics.METRICS.check_call(name, "outputs", "targets")
    for name in schedules.plugins(scheduling.names(config)):
        schedules.check_plugin(name)


def _shape(given: Any) -> str:
    return str(getattr(given, "shape", type(given).__name__))


def objective(config: Config) -> Objective:
    """Returns a config's objective."""
    return resolve.objective(config)


@dataclasses.dataclass
class SingleRun:
    """One trial in lane 0 of a program, the other lanes of its width idle.

    Attributes:
      program: the lane program.
      values: its lanes' traced scalars, on the devices.
      examples: the data set, on the devices.
      config: the config with devices and lane width as numbers.
      note: what was measured to choose them, or None.
      target_scale: what a regression's targets were divided by.
      feed: where training examples come from, of a streamed data set; `examples` then are zeros in their place.
    """

    program: LaneProgram
    values: Values
    examples: Examples
    config: Config
    note: str | None
    target_scale: float | tuple[float, ...] = 1.0
    feed: Feed | None = None
    _held_out: HeldOut | None = None

    def held_out(self, split: str, start: int) -> tuple[Examples, int]:
        """Returns the examples that a held-out split is in, and where it starts there; those of a stream are read once.

        Args:
          split: its name.
          start: its first example in the data set.

        Raises:
          ConfigError: streamed splits do not fit memory.
        """
        if self.feed is None:
            return self.examples, start
        if self._held_out is None:
            self._held_out = self.feed.held_out()
        return self._held_out.examples, self._held_out.starts[split]

    def init(self) -> TrialState:
        """Returns the states before the first tick."""
        return self.program.init(self.values, self.examples)

    def like(self) -> TrialState:
        """Returns NumPy zeros in the structure of the trial's state."""
        scalars = jax.tree.map(lambda leaf: leaf[0], jax.device_get(self.values))
        return like(self.program.trial, scalars, self.examples)

    def evaluated(self, state: TrialState) -> Any:
        """Returns the parameters of the trial's state that are evaluated, as NumPy arrays."""
        return jax.device_get(self.program.trial.evaluated(state))

    @property
    def scheduled(self) -> tuple[str, ...]:
        """What follows a schedule beside the learning rate."""
        return tuple(q for q in schedules.QUANTITIES[1:] if getattr(self.config, f"{q}_schedule") is not None)

    @property
    def observes(self) -> bool:
        """Whether a schedule watches the evaluations."""
        return scheduling.observes(self.config)


def single_run(
    config: Config,
    dataset: Dataset,
    scalars: dict[str, Any],
    initial: Initial | None = None,
    share: devices.Share = devices.ALL,
) -> SingleRun:
    """Returns a resolved config's run on the devices; `auto` devices on a CPU are measured.

    Args:
      config: a resolved config.
      dataset: its data.
      scalars: its traced values, by name.
      initial: variables to begin with.
      share: the processes that have the devices.

    Raises:
      ConfigError: the devices do not exist or do not divide the batches.
    """
    width = 1 if config.lane_width == "auto" else int(config.lane_width)
    part = trial(config, dataset)
    choices = devices.candidates(config.devices, part.micro_batch_size, part.eval_batch_size, config.lane_devices, share)
    # XLA compiles a program for several devices otherwise than one for a single device, and it rounds otherwise.
    lanes = width * config.lane_devices
    made: dict[int, SingleRun] = {}

    def make(number: int) -> SingleRun:
        layout = Layout(lanes, width, config.lane_devices, number, config.parallel)  # type: ignore[arg-type]
        program = LaneProgram(part, layout, share.devices(number))
        idle = {**scalars, "train_steps": np.int32(0)}
        values = program.put_values([scalars] + [idle] * (lanes - 1))
        chosen = config.replace(devices=str(number), lane_width=str(width))
        if dataset.stream is None:
            on_device, feed = program.put_examples(examples(dataset, initial)), None
        else:
            ticks = int(scalars["train_steps"]) * int(scalars["accumulation"])
            feed = Feed(dataset, program, int(scalars["data_seed"]), ticks)
            on_device = feed.placeholder()._replace(initial=None if initial is None else initial.variables)
        return SingleRun(program, values, on_device, chosen, None, dataset.target_scale, feed)

    def runner(number: int) -> Any:
        made[number] = run = make(number)
        values = run.program.put_values([resolve.endless(scalars)] * lanes)
        states = run.init()

        def ticks(number_of_ticks: int) -> Any:
            nonlocal states
            states, report = run.program.chunk(states, values, run.examples, number_of_ticks)
            return report

        return ticks

    if len(choices) == 1:
        return make(choices[0])
    best, note = devices.fastest(choices, runner)
    return dataclasses.replace(made[best], note=note)
