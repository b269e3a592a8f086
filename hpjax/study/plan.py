"""From a trial's values to what the lane program takes, and which program that is."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hpjax import durations, resolve, schedules, scheduling
from hpjax.config import FIELDS, Config, to_text
from hpjax.errors import ConfigError
from hpjax.lengths import Lengths
from hpjax.schedules import text
from hpjax.schedules.forms import is_length
from hpjax.settings.schedule import ScheduleSettings

TRACED = {"learning_rate", "seed", "data_seed", "fold", "batch_size", "train_steps", "eval_every", "log_every"}
"""Settings that are values of every program; those of schedules are too, and what `resolve` finds in the chosen parts."""

_LENGTHS = tuple(filter(is_length, FIELDS))

OFF_AT_ZERO = ("dropout_rate", "stochastic_depth_rate")
"""Those that a program has no part for where they are 0."""


class Plan(NamedTuple):
    """A trial as it will run.

    Attributes:
      config: its config, resolved.
      lengths: its lengths in steps.
      scalars: its traced values.
      group: what is static of what varies: trials with the same one share a program.
      accumulation: ticks a step.
    """

    config: Config
    lengths: Lengths
    scalars: dict[str, Any]
    group: tuple[tuple[str, Any], ...]
    accumulation: int

    @property
    def end(self) -> int:
        """Ticks of the whole trial."""
        return self.lengths.train_steps * self.accumulation

    @property
    def evaluations(self) -> int:
        """Evaluations of the whole trial; the last is at its end."""
        return -(-self.lengths.train_steps // self.lengths.eval_every)

    def tick_of(self, evaluation: int) -> int:
        """Returns the tick at which a trial's evaluation number 1, 2, ... takes place."""
        return min(evaluation * self.lengths.eval_every * self.accumulation, self.end)


class Planner:
    """Makes the plans of a study's trials."""

    def __init__(self, base: Config, names: Iterable[str], train_sizes: Sequence[int]):
        """Says what the trials have in common.

        Args:
          base: the config they differ from.
          names: the settings that vary.
          train_sizes: examples of the training split of each fold, or of the only one.
        """
        self._base, self._names, self._train_sizes = base, tuple(names), tuple(train_sizes)

    def plan(self, values: Mapping[str, Any]) -> Plan:
        """Returns the plan of a trial.

        Args:
          values: the settings that vary, by name.

        Raises:
          ConfigError: they do not go together.
        """
        config = resolve.resolve(self._base.replace(**values))
        if "batch_size" in self._names:
            # Those that vary, and defaults: a step is one of the base's for all.
            config = config.replace(**in_examples(config, self._base.batch_size))
        lengths, _ = resolve.lengths(config, self._train_sizes[config.fold])
        accumulation = config.batch_size // (config.micro_batch_size or config.batch_size)
        return Plan(config, lengths, resolve.traced(config, lengths), self._group(config), accumulation)

    def _group(self, config: Config) -> tuple[tuple[str, Any], ...]:
        traced = traced_settings(config)
        # A setting that may be absent is part of the program where it is not.
        static = [(name, _present(config, name) if name in traced else getattr(config, name)) for name in self._names]
        plugins = schedules.plugins(scheduling.names(config))
        return (*((name, value) for name, value in static if name not in traced or not value), ("schedules", plugins))


def _present(config: Config, name: str) -> bool:
    value = getattr(config, name)
    return bool(value) if name in OFF_AT_ZERO else value is not None


def traced_settings(config: Config) -> set[str]:
    """Returns the names of the settings that are values of a config's program, where they are set."""
    parts = (resolve.PARTS[part].traced(name) for part in resolve.TRACED_PARTS for name in resolve.chosen(config, part))
    of_parts = {setting for settings in parts for setting in settings}
    return TRACED | of_parts | set(resolve.ALWAYS_TRACED) | set(ScheduleSettings.__dataclass_fields__)


def in_examples(config: Config, batch_size: int) -> dict[str, Any]:
    """Returns a config's lengths in steps as examples, by setting; the texts of schedules with lengths in them, too.

    Args:
      config: a config, resolved or not.
      batch_size: examples of the steps that it means.
    """
    given = {name: getattr(config, name) for name in (*_LENGTHS, *scheduling.SCHEDULED)}
    found = {name: _as_examples(name, value, batch_size) for name, value in given.items() if value is not None}
    return {name: value for name, value in found.items() if value != given[name]}


def _as_examples(name: str, value: Any, batch_size: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_as_examples(name, one, batch_size) for one in value)
    if name not in scheduling.SCHEDULED:
        length = durations.parse(str(value))
        return f"{int(length.amount * batch_size)}examples" if length.unit == "steps" and length.amount else value
    parts = [
        part._replace(
            settings={
                setting: _as_examples(setting, one, batch_size) if setting in _LENGTHS and one is not None else one
                for setting, one in part.settings.items()
            },
            length=None if part.length is None else _as_examples("train_steps", part.length, batch_size),
        )
        for part in text.parse(name, value)
    ]
    return value if parts == text.parse(name, value) else text.render(parts)


def equal_work(base: Config, batch_sizes: Iterable[int]) -> tuple[Config, list[str]]:
    """Returns the config with which trials of different batch sizes do equal work, and what a person should be told.

    A batch is a whole number of micro-batches of one size; lengths in steps become examples, so that no trial sees more of
    the data than another, and a schedule is where it was after as many examples.

    Args:
      base: the config that the trials differ from, not resolved.
      batch_sizes: all that may be drawn.

    Raises:
      ConfigError: the micro-batch does not divide one of them.
    """
    sizes, notes = sorted(set(batch_sizes)), []
    changes: dict[str, Any] = {}
    micro = base.micro_batch_size or math.gcd(*sizes)
    for size in sizes:
        if size % micro:
            raise ConfigError(f"batch_size may be {size}; expected a multiple of micro_batch_size, {micro}")
    changes["micro_batch_size"] = micro
    changes |= (lengths := in_examples(base, base.batch_size))
    if lengths:
        told = ", ".join(f"{name} {to_text(name, value)}" for name, value in lengths.items())
        notes.append(f"lengths in steps are those of batch {base.batch_size}, as many examples for every trial: {told}")
    if len(sizes) > 1:
        notes.append(f"every trial sees micro-batches of {micro}; batch norm takes its statistics from those")
    return base.replace(**changes), notes
