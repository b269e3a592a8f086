"""From the settings a person gave to the settings that run: names found, defaults filled in, lengths in steps."""

import inspect
import os
from typing import Any, NamedTuple

import numpy as np

from hpjax import durations
from hpjax.config import Config, optional
from hpjax.data import DATASETS
from hpjax.errors import ConfigError, unknown
from hpjax.losses import LOSSES, METRICS
from hpjax.models import MODELS
from hpjax.objective import Objective
from hpjax.ops import ACTIVATIONS
from hpjax.optimizers import OPTIMIZERS
from hpjax.registry import Registry
from hpjax.schedules import SCHEDULES

PARTS: dict[str, Registry[Any]] = {
    "dataset": DATASETS,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
}
TRACED_PARTS = ("optimizer", "schedule", "loss")
INT32_MAX = 2**31 - 1


class Lengths(NamedTuple):
    """A run's lengths in optimizer steps."""

    train_steps: int
    warmup_steps: int
    schedule_steps: int
    step_size: int
    eval_every: int
    log_every: int
    checkpoint_every: int


def resolve(config: Config) -> Config:
    """Returns the config with every setting that its parts use filled in.

    Raises:
      ConfigError: an unknown name, a setting that none of the chosen parts uses, one that is missing, or sizes that
        do not divide.
    """
    filled: dict[str, Any] = {}
    for part, registry in PARTS.items():
        chosen = getattr(config, part)
        used = registry.settings(chosen)
        known = {setting for name in registry.names() for setting in registry.settings(name)}
        # What may not be None has a value in every run, whichever part it is for.
        for setting in sorted(filter(optional, known)):
            value = getattr(config, setting)
            if setting not in used and value is not None:
                takes = ", ".join(used) or "none"
                raise ConfigError(f"{setting} is not used by {part} '{chosen}'; settings it uses: {takes}")
            if setting in used and value is None:
                filled[setting] = _default(setting, used[setting], f"{part} '{chosen}'")
    if config.learning_rate is None:
        default = OPTIMIZERS.default(config.optimizer, "learning_rate")
        filled["learning_rate"] = _default("learning_rate", default, f"optimizer '{config.optimizer}'")
    for place in ("data_dir", "run_dir"):
        path = filled.get(place, getattr(config, place))
        filled[place] = None if path is None else os.path.expanduser(path)
    if filled["data_dir"] is not None:
        filled["data_dir"] = os.path.abspath(filled["data_dir"])
    filled["micro_batch_size"] = config.micro_batch_size or config.batch_size
    filled["data_seed"] = config.seed if config.data_seed is None else config.data_seed
    filled["checkpoint_every"] = config.checkpoint_every or config.eval_every
    filled["schedule_steps"] = config.schedule_steps or config.train_steps
    config = config.replace(**filled)
    if config.batch_size % config.micro_batch_size:  # type: ignore[operator]
        raise ConfigError(
            f"micro_batch_size is {config.micro_batch_size}; expected a divisor of batch_size, {config.batch_size}"
        )
    if config.activation is not None and config.activation not in ACTIVATIONS:
        raise unknown("activation", config.activation, ACTIVATIONS)
    Objective.parse(config.objective, config.objective_value, METRICS.names())
    return config


def _default(setting: str, default: Any, owner: str) -> Any:
    if setting == "data_dir":
        return os.environ.get("HPJAX_DATA_DIR")
    if default is inspect.Parameter.empty:
        raise ConfigError(f"{setting} is not set; {owner} needs it: give --{setting}=VALUE")
    return default


def lengths(config: Config, train_size: int) -> tuple[Lengths, list[str]]:
    """Returns a resolved config's lengths in steps, and what a person should be told about them.

    Args:
      config: a resolved config.
      train_size: examples in the training split.

    Raises:
      ConfigError: a length is zero or does not fit the others, or the batch is larger than the data.
    """
    if config.batch_size > train_size:
        raise ConfigError(f"batch_size is {config.batch_size}; expected at most the training split's {train_size} examples")

    def steps(name: str, whole: int | None = None) -> int:
        try:
            result = durations.to_steps(
                getattr(config, name), batch_size=config.batch_size, epoch_examples=train_size, whole=whole
            )
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
        if result > INT32_MAX:
            raise ConfigError(f"{name} is {getattr(config, name)}, {result} steps; expected fewer than 2^31")
        return result

    def at_least_one(name: str, whole: int | None = None) -> int:
        result = steps(name, whole)
        if result < 1:
            raise ConfigError(f"{name} is {getattr(config, name)}; expected at least one step")
        return result

    train_steps = at_least_one("train_steps")
    examples = train_steps * config.batch_size
    if examples > INT32_MAX:
        raise ConfigError(
            f"train_steps is {config.train_steps}, with batch_size {config.batch_size} {examples} examples; "
            "expected fewer than 2^31"
        )
    horizon = at_least_one("schedule_steps", train_steps)
    warmup = steps("warmup", horizon)
    if warmup > horizon:
        raise ConfigError(f"warmup is {config.warmup}, {warmup} steps; expected at most the schedule's {horizon} steps")
    step_size = 1 if config.step_size is None else at_least_one("step_size", horizon)
    notes = []
    if horizon != train_steps and config.rescale_schedule:
        notes.append(
            f"the schedule was written for {horizon} steps, the run has {train_steps}: warmup and schedule are stretched "
            f"by {train_steps / horizon:.4g} (--norescale_schedule keeps them)"
        )
        warmup = _scaled(warmup, train_steps, horizon)
        step_size = min(max(_scaled(step_size, train_steps, horizon), 1), INT32_MAX)
        horizon = train_steps
    elif horizon != train_steps:
        notes.append(f"the schedule ends at step {horizon}, the run at step {train_steps}")
    # The end of a run is always logged, evaluated and saved; what comes later is as good as never.
    looks = ("eval_every", "log_every", "checkpoint_every")
    every = {name: min(at_least_one(name, train_steps), train_steps) for name in looks}
    return Lengths(train_steps, warmup, horizon, step_size, **every), notes


def _scaled(steps: int, numerator: int, denominator: int) -> int:
    return (2 * steps * numerator + denominator) // (2 * denominator)


def traced(config: Config, length: Lengths) -> dict[str, np.generic]:
    """Returns a trial's traced scalars: what may differ between the lanes of one program.

    Args:
      config: a resolved config.
      length: its lengths.

    Returns:
      int32, uint32 (seeds) and float32 scalars by name.
    """
    values: dict[str, np.generic] = {
        "train_steps": np.int32(length.train_steps),
        "log_every": np.int32(length.log_every),
        "accumulation": np.int32(config.batch_size // (config.micro_batch_size or config.batch_size)),
        "seed": np.uint32(config.seed),
        "data_seed": np.uint32(config.data_seed or 0),
        "learning_rate": np.float32(config.learning_rate),
        "clip_norm": np.float32(np.inf if config.clip_norm is None else config.clip_norm),
        "dropout_rate": np.float32(config.dropout_rate),
        "schedule": np.int32(SCHEDULES.index(config.schedule)),
        "schedule_steps": np.int32(length.schedule_steps),
        "warmup_steps": np.int32(length.warmup_steps),
        "warmup_start_factor": np.float32(config.warmup_start_factor),
    }
    for part in TRACED_PARTS:
        registry = PARTS[part]
        for name in registry.names():
            for setting, default in registry.settings(name).items():
                given = getattr(config, setting)
                values.setdefault(setting, _scalar(setting, default if given is None else given, length))
    return values


def _scalar(setting: str, value: Any, length: Lengths) -> np.generic:
    if setting == "step_size":
        return np.int32(length.step_size)
    return np.float32(0.0 if value is inspect.Parameter.empty else value)
