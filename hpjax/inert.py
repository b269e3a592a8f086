"""Settings that do nothing beside the values of others: refused, not ignored."""

from collections.abc import Mapping
from typing import Any

from hpjax import durations, scheduling
from hpjax.config import FIELDS, Config, to_text
from hpjax.errors import ConfigError
from hpjax.models import MODELS
from hpjax.optimizers import OPTIMIZERS
from hpjax.schedules import SCHEDULES

ACTS_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "norm_momentum": ("norm", ("batch",)),
    "norm_epsilon": ("norm", ("batch", "group", "layer", "frozen_batch")),
    "norm_groups": ("norm", ("group",)),
    "momentum_decay": ("optax_form", (False,)),
    "gamma": ("cycle_mode", ("exp_range",)),
}
"""Settings of parts that act only where another setting of the part has one of some values."""

DECAYS = ("weight_decay", "l1", "l2")
WARMUP_SHAPE = ("warmup_shape", "warmup_start_factor")


def check(config: Config, own: Mapping[str, Any]) -> None:
    """Refuses settings that would do nothing; one that has its default is never refused, as a flagfile holds them all.

    Args:
      config: a config with all settings that its parts use.
      own: the parts' own settings.

    Raises:
      ConfigError: a setting that does nothing.
    """
    for registry, name in ((MODELS, config.model), (OPTIMIZERS, config.optimizer)):
        defaults = registry.settings(name)
        _check_part(defaults, {setting: getattr(config, setting) for setting in defaults if setting in FIELDS})
    for flag in scheduling.SCHEDULED:
        if getattr(config, flag) is not None:
            for part in scheduling.parts_of(config, flag, dict(own)):
                _check_part(SCHEDULES.settings(part.name), part.settings)
    if config.decay_rules and all(getattr(config, setting) is None for setting in DECAYS):
        raise ConfigError(
            f"decay_rules is {to_text('decay_rules', config.decay_rules)}, but none of {', '.join(DECAYS)} is set: "
            "expected one of them, or no rules"
        )


def check_warmup(config: Config) -> None:
    """Refuses the shape of a warmup that a person's config does not have; of a trial among others it may be of length 0."""
    for setting in WARMUP_SHAPE:
        value = getattr(config, setting)
        if not has_warmup(config) and value != FIELDS[setting].default:
            raise ConfigError(f"{setting} is {value}, but warmup is {config.warmup}: give --warmup=LENGTH, or neither")


def has_warmup(config: Config) -> bool:
    """Returns whether a config has a warmup of any length."""
    return durations.parse(config.warmup).amount > 0


def _check_part(defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for setting, (switch, values) in ACTS_WITH.items():
        if setting not in settings or switch not in settings or settings[switch] in values:
            continue
        value = settings[setting]
        if value is not None and value != defaults[setting]:
            expected = " or ".join(to_text(switch, one) for one in values)
            raise ConfigError(
                f"{setting} is {to_text(setting, value)}, but {switch} is {to_text(switch, settings[switch])}; "
                f"expected it with {switch} {expected} only"
            )
