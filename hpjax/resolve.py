"""From the settings a person gave to the settings that run: names found, defaults filled in, lengths in steps."""

import functools
import math
import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from hpjax import inert, inspection, losses, metrics, presets, schedules, scheduling
from hpjax import lengths as lengths_lib
from hpjax.config import FIELDS, Config, converted, optional
from hpjax.data import AUGMENTATIONS, DATASETS
from hpjax.errors import ConfigError, listed, unknown
from hpjax.lengths import Lengths
from hpjax.losses import LOSSES
from hpjax.models import INITIALIZERS, MODELS
from hpjax.objective import Objective
from hpjax.ops import ACTIVATIONS, native
from hpjax.optimizers import OPTIMIZERS
from hpjax.registry import REQUIRED, Registry
from hpjax.schedules import SCHEDULES
from hpjax.schedules import text as schedule_text
from hpjax.settings.fields import FRACTION, NOT_NEGATIVE, Domain, choices

PARTS: dict[str, Registry[Any]] = {
    "dataset": DATASETS,
    "augment": AUGMENTATIONS,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
}
TRACED_PARTS = ("augment", "model", "optimizer", "loss")
"""Parts whose traced settings are scalars by name; schedules have a table of their own."""

BASE_BATCH_SIZE = 256
"""Examples of the batch that a scaled learning rate is for, unless they are given: Goyal et al. (2017)."""

ALWAYS_TRACED = ("weight_decay", "stochastic_depth_rate", "dropout_rate", "mixup_alpha", "ema_decay", "sam_rho")
"""Settings that the trial reads whichever parts it has: 0 where they are not set."""


OWN_DOMAINS: dict[str, Domain] = {
    **dict.fromkeys(("b1", "b2", "b3", "beta", "decay", "decay_rate", "momentum"), FRACTION),
    **dict.fromkeys(("eps", "eps_root", "weight_decay", "weight_decay_rate"), NOT_NEGATIVE),
}
"""Domains of settings that Optax's optimizers have in common and that are no flags."""


def chosen(config: Config, part: str) -> tuple[str, ...]:
    """Returns the names that a config has chosen of one kind of part."""
    if part == "schedule":
        return schedule_text.names(part, config.schedule)
    names = getattr(config, part)
    return names if isinstance(names, tuple) else (names,)


def native_mode(asked: str) -> str:
    """Returns `on` or `off` for whether the native kernels run; raises ConfigError where they were asked for in vain."""
    # Without a look at JAX's devices, which would start it before they are configured; operators look when they run.
    reason = native.missing()
    if asked == "on" and reason is not None:
        raise ConfigError(f"native is on, but the kernels are {reason}; expected auto or off")
    return "on" if asked != "off" and reason is None else "off"


def resolve(config: Config) -> Config:
    """Returns the config with every setting that its parts use filled in.

    Raises:
      ConfigError: an unknown name, a setting that none of the chosen parts uses, one that is missing, or sizes that
        do not divide.
    """
    config = _for_task(presets.apply(config))
    filled = _part_settings(config)
    if config.learning_rate is None:
        default = OPTIMIZERS.default(config.optimizer, "learning_rate")
        filled["learning_rate"] = _default("learning_rate", default, f"optimizer '{config.optimizer}'")
    if config.lr_scaling != "none":
        filled["base_batch_size"] = config.base_batch_size or BASE_BATCH_SIZE
    elif config.base_batch_size is not None:
        raise ConfigError(f"base_batch_size is {config.base_batch_size}, but lr_scaling is none: give both or neither")
    for place in ("data_dir", "run_dir", "init_from"):
        path = filled.get(place, getattr(config, place))
        filled[place] = None if path is None else os.path.expanduser(path)
        if filled[place] is not None and place != "run_dir":
            filled[place] = os.path.abspath(filled[place])
    filled["native"] = native_mode(config.native)
    filled["micro_batch_size"] = config.micro_batch_size or config.batch_size
    own_order = 0 if config.share_batches else config.seed
    filled["data_seed"] = own_order if config.data_seed is None else config.data_seed
    filled["checkpoint_every"] = config.checkpoint_every or config.eval_every
    if config.schedule_steps is None and not config.rescale_schedule:
        raise ConfigError("rescale_schedule is false, but schedule_steps is not given: give both or neither")
    filled["schedule_steps"] = config.schedule_steps or config.train_steps
    if not inert.has_warmup(config):
        filled |= {setting: FIELDS[setting].default for setting in inert.WARMUP_SHAPE}
    owned = own(config)
    filled |= scheduling.complete(config, owned)
    _check_early_stopping(config)
    filled["set"] = tuple(f"{name}={_text(value)}" for name, value in sorted(owned.items()))
    config = config.replace(**filled)
    if config.batch_size % config.micro_batch_size:  # type: ignore[operator]
        raise ConfigError(
            f"micro_batch_size is {config.micro_batch_size}; expected a divisor of batch_size, {config.batch_size}"
        )
    if config.folds is None and config.fold:
        raise ConfigError(f"fold is {config.fold}, but folds is not given; expected --folds=NUMBER")
    if config.ema_decay is not None and config.optimizer.startswith("schedule_free"):
        raise ConfigError(f"ema_decay is set; expected none for '{config.optimizer}', which averages its parameters itself")
    _check_sharding(config)
    for setting, known in (("activation", ACTIVATIONS), ("init", INITIALIZERS)):
        if getattr(config, setting) is not None and getattr(config, setting) not in known:
            raise unknown(setting, getattr(config, setting), known)
    objective(config)
    inert.check(config, owned)
    return config.replace(**inspection.filled(config))


def learning_rate(config: Config) -> float:
    """Returns a resolved config's peak learning rate, that of its batch.

    Source: Goyal et al., Accurate, Large Minibatch SGD (2017), section 2.1 (linear); Krizhevsky, One Weird Trick for
    Parallelizing Convolutional Neural Networks (2014), section 5 (sqrt).
    """
    rate = float(config.learning_rate or 0.0)
    if config.lr_scaling == "none":
        return rate
    larger = config.batch_size / (config.base_batch_size or BASE_BATCH_SIZE)
    return rate * (larger if config.lr_scaling == "linear" else math.sqrt(larger))


def objective(config: Config) -> Objective:
    """Returns a resolved config's objective; raises ConfigError for one that is not measured."""
    names = config.metrics or ()
    val = ("loss", *(name for name in names if metrics.is_scalar(name)))
    train = ("loss", *(name for name in names if metrics.is_mean(name)))
    measured = [f"val/{name}" for name in val] + [f"train/{name}" for name in train]
    return Objective.parse(config.objective or "", config.objective_value, measured)


def own(config: Config) -> dict[str, Any]:
    """Returns the values of the chosen parts' own settings, those that are no flags: `--set`'s, else their defaults.

    Raises:
      ConfigError: `--set` is malformed, names a setting that no chosen part has, or gives a value of another type.
    """
    defaults: dict[str, Any] = {}
    for part, registry in PARTS.items():
        for name in chosen(config, part):
            defaults.update(registry.own(name))
    values = dict(defaults)
    for given in config.set:
        name, equals, text = given.partition("=")
        if not equals:
            raise ConfigError(f"set has '{given}'; expected name=value")
        if name in FIELDS:
            raise ConfigError(f"set has '{given}', which is a flag: give --{given}")
        if name not in defaults:
            raise ConfigError(
                f"set has '{given}', which no chosen part uses{listed(name, defaults or ('none',), 'they use:')}"
            )
        values[name] = converted(f"set {name}", text, type(defaults[name]), OWN_DOMAINS.get(name))
    return values


def static_settings(config: Config, part: str) -> dict[str, Any]:
    """Returns the settings of a resolved config's part that shape its program, by name."""
    registry, owned = PARTS[part], own(config)
    names = [setting for name in chosen(config, part) for setting in registry.static(name)]
    return {setting: getattr(config, setting) if setting in FIELDS else owned[setting] for setting in names}


def lengths(config: Config, train_size: int) -> tuple[Lengths, list[str]]:
    """Returns a resolved config's lengths in steps and notes about them; see `hpjax.lengths.lengths`."""
    return lengths_lib.lengths(config, own(config), train_size)


def traced(config: Config, length: Lengths) -> dict[str, Any]:
    """Returns a trial's traced values: what may differ between the lanes of one program.

    Args:
      config: a resolved config.
      length: its lengths.

    Returns:
      int32, uint32 (seeds) and float32 scalars by name, and the table of the schedules, see `schedules.pack`.
    """
    values: dict[str, Any] = {
        "train_steps": np.int32(length.train_steps),
        "log_every": np.int32(length.log_every),
        "accumulation": np.int32(config.batch_size // (config.micro_batch_size or config.batch_size)),
        "seed": np.uint32(config.seed),
        "data_seed": np.uint32(config.data_seed or 0),
        "fold": np.int32(config.fold),
        "learning_rate": np.float32(learning_rate(config)),
        **schedules.pack(length.schedules),
    }
    owned = own(config)
    for part in TRACED_PARTS:
        for setting, default in _of_names(_traced_defaults, config, part):
            if setting not in values:
                given = getattr(config, setting) if setting in FIELDS else owned.get(setting)
                values[setting] = _scalar(setting, default if given is None else given)
    for setting in ALWAYS_TRACED:
        values.setdefault(setting, np.float32(getattr(config, setting) or 0.0))
    values["first_accumulation"] = values["accumulation"]
    if length.schedules.get("batch_size"):
        start = np.zeros(len(schedules.QUANTITIES), np.int32)
        factor = schedules.factors(jnp.asarray(start), values, 1.0, schedules.plugins(scheduling.names(config)))
        batch = np.asarray(factor)[schedules.QUANTITIES.index("batch_size")]
        values["first_accumulation"] = np.int32(max(np.round(np.float32(values["accumulation"]) * batch), 1))
    return values


def endless(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a trial's traced values such that it neither ends nor diverges: for measuring its ticks, an int32 number."""
    steps = np.int32(2**30 // int(values["accumulation"]))
    return {**values, "train_steps": steps, "learning_rate": np.float32(0)}


def _for_task(config: Config) -> Config:
    """Returns the config with loss, metrics and objective filled in as the data set's task suggests.

    Raises:
      ConfigError: a loss or a metric that is not for the task.
    """
    task = DATASETS.task(config.dataset, config.task)
    loss = config.loss or losses.default_for(task)
    losses.check(loss, task)
    names = metrics.for_task(task) if config.metrics is None else config.metrics
    # The objective's own metric need not be named twice.
    wanted = (config.objective or "").partition(":")[0].partition("/")[2]
    if wanted in metrics.METRICS.names() and wanted not in names:
        names = (*names, wanted)
    metrics.check(names, task)
    best = "val/accuracy:max" if task == "classification" and "accuracy" in names else "val/loss:min"
    return config.replace(loss=loss, metrics=names, objective=config.objective or best)


def _part_settings(config: Config) -> dict[str, Any]:
    """Returns defaults for the settings of the chosen parts that are not given; refuses what no chosen part uses."""
    filled: dict[str, Any] = {}
    users = {part: _used(config, part) for part in PARTS}
    everywhere = {setting for used in users.values() for setting in used}
    for part, registry in PARTS.items():
        used = users[part]
        owner = f"{part} '{','.join(chosen(config, part)) or 'none'}'"
        # What may not be None has a value in every run, whichever part it is for.
        for setting in _of_names(_optional, config, part):
            value = getattr(config, setting)
            if setting not in everywhere and value is not None:
                users_of_it = [name for name in registry.names() if setting in registry.settings(name)]
                raise ConfigError(
                    f"{setting} is not used by {owner}; settings it uses: {', '.join(used) or 'none'}; "
                    f"it is for: {', '.join(users_of_it)}"
                )
            if setting in used and value is None and not _may_stay_open(config, part, setting):
                filled.setdefault(setting, _default(setting, used[setting], owner))
    return filled


def _of_names(ask: Any, config: Config, part: str) -> Any:
    """Returns what `ask` (part, names) says of all names of one kind of part, those that a config imports included.

    A study asks once a trial: what it said of names that are ours is remembered.
    """
    names = tuple(dict.fromkeys((*PARTS[part].names(), *chosen(config, part))))
    return (ask.__wrapped__ if any(":" in name for name in names) else ask)(part, names)


@functools.cache
def _optional(part: str, names: tuple[str, ...]) -> list[str]:
    """Returns the flags among the settings of parts that may be None, sorted."""
    known = {setting for name in names for setting in PARTS[part].settings(name) if setting in FIELDS}
    return sorted(filter(optional, known))


@functools.cache
def _traced_defaults(part: str, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Returns the traced settings of parts, with their defaults."""
    registry = PARTS[part]
    return [(setting, registry.settings(name)[setting]) for name in names for setting in registry.traced(name)]


def _may_stay_open(config: Config, part: str, setting: str) -> bool:
    """Returns whether a setting that is not given keeps no value."""
    if part == "optimizer":
        # Clipping and regularisation that nobody asked for are no part of the program, and cost nothing.
        return OPTIMIZERS.is_common(config.optimizer, setting)
    # A schedule in more than a name holds its settings itself.
    return part == "schedule" and not schedule_text.is_plain(config.schedule)


def _used(config: Config, part: str) -> dict[str, Any]:
    """Returns the settings, with their defaults, of what a config has chosen of one kind of part."""
    registry = PARTS[part]
    return {setting: default for name in chosen(config, part) for setting, default in registry.settings(name).items()}


def _check_sharding(config: Config) -> None:
    """Refuses what devices that share a batch cannot do, or what changes nothing there."""
    if config.shard_optimizer_state and config.optimizer.startswith("schedule_free"):
        raise ConfigError(
            f"shard_optimizer_state is true; expected false for '{config.optimizer}', whose state holds what is evaluated"
        )
    if config.shard_optimizer_state and config.parallel == "pmap":
        raise ConfigError("shard_optimizer_state is true; expected parallel=shard_map, not pmap, which maps one axis")
    if config.ghost_batch_norm and config.norm not in (None, "batch"):
        raise ConfigError(f"ghost_batch_norm is true, but norm is {config.norm}; expected it with norm batch only")


def _check_early_stopping(config: Config) -> None:
    """Refuses what only a patience makes act."""
    for setting in ("early_stopping_min_delta", "early_stopping_min_steps"):
        value = getattr(config, setting)
        if config.early_stopping_patience is None and value != FIELDS[setting].default:
            raise ConfigError(f"{setting} is {value}, but no early_stopping_patience is set: give both or neither")


def _default(setting: str, default: Any, owner: str) -> Any:
    if setting == "data_dir":
        return os.environ.get("HPJAX_DATA_DIR")
    if default is REQUIRED:
        raise ConfigError(f"{setting} is not set; {owner} needs it: give --{setting}=VALUE")
    return default


def _scalar(setting: str, value: Any) -> np.generic:
    words = choices(FIELDS[setting].metadata["domain"]) if setting in FIELDS else ()
    if words and value in words:
        return np.int32(words.index(value))
    return np.float32(0.0 if value is REQUIRED else value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
