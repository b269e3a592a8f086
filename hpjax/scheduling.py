"""The schedules of a config: their texts with all settings, and their segments in steps."""

from typing import Any

from hpjax import schedules
from hpjax.config import FIELDS, Config
from hpjax.errors import ConfigError
from hpjax.optimizers import OPTIMIZERS
from hpjax.schedules import QUANTITIES, SCHEDULES, Clock, Segment, text

SCHEDULED = dict(
    zip(("schedule", "weight_decay_schedule", "momentum_schedule", "batch_size_schedule"), QUANTITIES, strict=True)
)
"""The flags that hold schedules, and what they schedule."""

MOMENTA = ("momentum", "beta1")
"""Settings of optimizers that a schedule of the momentum is for."""


def complete(config: Config, own: dict[str, Any]) -> dict[str, str]:
    """Returns the texts of the schedules that hold more than a name, with all their settings; they replace the flags.

    Args:
      config: a config.
      own: the chosen parts' own settings.

    Raises:
      ConfigError: a schedule that cannot be read, or one of what the optimizer does not have.
    """
    known = OPTIMIZERS.settings(config.optimizer)
    owner = f"optimizer '{config.optimizer}'; settings it uses: {', '.join(known) or 'none'}"
    if config.weight_decay_schedule is not None and "weight_decay" not in known:
        raise ConfigError(f"weight_decay_schedule is not used by {owner}")
    if config.momentum_schedule is not None and not momenta(config):
        raise ConfigError(f"momentum_schedule is not used by {owner}")
    filled = {}
    for flag in SCHEDULED:
        given = getattr(config, flag)
        if given is not None and not (flag == "schedule" and text.is_plain(given)):
            filled[flag] = text.render(parts_of(config, flag, own))
    if config.weight_decay_schedule is not None and config.weight_decay is None and not known.get("weight_decay"):
        raise ConfigError("weight_decay_schedule is set, but weight_decay is not; expected a weight decay to be scheduled")
    _check_flags(config)
    return filled


def _check_flags(config: Config) -> None:
    """Refuses a flag that no part of the schedule's text is left to use, unless the text says the same."""
    parts = text.parse("schedule", config.schedule)
    for setting in {setting for part in parts for setting in part.settings if setting in FIELDS}:
        given = getattr(config, setting)
        said = [part.settings.get(setting, given) for part in parts if setting in SCHEDULES.settings(part.name)]
        if given is not None and given not in said:
            raise ConfigError(f"{setting} is {given}, but the schedule's text says {said[0]}; expected it in one place")


def names(config: Config) -> tuple[str, ...]:
    """Returns the names of all schedules that a config has."""
    given = [(flag, getattr(config, flag)) for flag in SCHEDULED]
    return tuple(name for flag, said in given if said is not None for name in text.names(flag, said))


def observes(config: Config) -> bool:
    """Returns whether a schedule of a config watches the evaluations."""
    return any("plateau" in (getattr(config, flag) or "") for flag in ("schedule", "batch_size_schedule"))


def plans(config: Config, own: dict[str, Any], clock: Clock, warmup: int) -> dict[str, tuple[Segment, ...]]:
    """Returns the segments of each quantity that is scheduled.

    Args:
      config: a config.
      own: the chosen parts' own settings.
      clock: what turns lengths into steps.
      warmup: steps of the learning rate's warmup, not stretched.

    Raises:
      ConfigError: lengths that do not fit, or two schedules of the momentum.
    """
    falls = [part.settings.get("decay_length") for part in parts_of(config, "schedule", own)]
    for fall in falls:
        if fall is not None and clock.steps("decay_length", str(fall)) > clock.whole:
            raise ConfigError(f"decay_length is {fall}; expected at most the schedule's {clock.whole} steps")
    first = schedules.warmup_segment(warmup, config.warmup_shape, config.warmup_start_factor)
    planned = {
        quantity: schedules.plan(flag, parts_of(config, flag, own), clock, first if flag == "schedule" else None)
        for flag, quantity in SCHEDULED.items()
        if getattr(config, flag) is not None
    }
    cycled = schedules.momentum_plan(planned["learning_rate"], momenta(config))
    if cycled and "momentum" in planned:
        raise ConfigError("momentum_schedule and momentum_low are both set; expected one of them")
    return {**planned, "momentum": cycled} if cycled else planned


def parts_of(config: Config, flag: str, own: dict[str, Any]) -> list[text.Part]:
    """Returns the parts of a schedule with all their settings: the text's, for the learning rate the flags', defaults.

    Args:
      config: a config.
      flag: a key of `SCHEDULED` that the config has.
      own: the chosen parts' own settings.

    Raises:
      ConfigError: the schedule cannot be read, or a setting that it needs is not given.
    """
    parts = text.parse(flag, getattr(config, flag))
    given: dict[str, Any] = {}
    if flag == "schedule":
        settings = {setting for part in parts for setting in SCHEDULES.settings(part.name)}
        given = {**own, **{setting: getattr(config, setting) for setting in settings if setting in FIELDS}}
    return text.complete(flag, parts, given)


def momenta(config: Config) -> dict[str, float]:
    """Returns the optimizer's momentum by the name of its setting, if it has one."""
    defaults = OPTIMIZERS.settings(config.optimizer)
    given = {setting: getattr(config, setting) for setting in MOMENTA if setting in defaults}
    return {setting: defaults[setting] if value is None else value for setting, value in given.items()}
