"""The settings of a run: one typed frozen dataclass, from which the flags are generated."""

import copy
import dataclasses
import functools
import numbers
import os
import typing
from collections.abc import Callable, Mapping
from typing import Any

from hpjax import durations
from hpjax.errors import ConfigError, did_you_mean
from hpjax.settings.data import DataSettings
from hpjax.settings.fields import Domain, Length, Lines, nearest
from hpjax.settings.inspection import InspectionSettings
from hpjax.settings.model import ModelSettings
from hpjax.settings.optimizer import OptimizerSettings
from hpjax.settings.processes import ProcessSettings
from hpjax.settings.recipe import RecipeSettings
from hpjax.settings.run import RunSettings
from hpjax.settings.schedule import ScheduleSettings
from hpjax.settings.study import StudySettings
from hpjax.settings.training import TrainingSettings


class _Converted:
    """Converts and checks every setting when settings are made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, convert(field.name, getattr(self, field.name)))


@dataclasses.dataclass(frozen=True)
class Config(
    _Converted,
    ProcessSettings,
    RunSettings,
    InspectionSettings,
    TrainingSettings,
    ScheduleSettings,
    OptimizerSettings,
    ModelSettings,
    DataSettings,
):
    """Every setting of a run. None leaves a setting to the part that uses it (`resolve` fills it in).

    Values are converted and checked when a Config is made; what needs the parts or the data is checked by `resolve`.

    Raises:
      ConfigError: a value of the wrong type or out of its domain.
    """

    def replace(self, **changes: Any) -> "Config":
        """Returns a copy with some settings changed; raises ConfigError for an unknown name or a bad value."""
        for name in changes:
            if name not in FIELDS:
                raise ConfigError(f"setting '{name}' is unknown{did_you_mean(name, FIELDS)}")
        # Only what is new is converted: a study makes several of these a trial.
        new = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(new, name, convert(name, value))
        return new


@dataclasses.dataclass(frozen=True)
class StudyConfig(_Converted, StudySettings):
    """The settings of a study beside those of its trials, converted and checked when one is made.

    Raises:
      ConfigError: a value of the wrong type or out of its domain.
    """


@dataclasses.dataclass(frozen=True)
class TuneConfig(_Converted, RecipeSettings):
    """The settings of the recipe beside those of its trials, converted and checked when one is made.

    Raises:
      ConfigError: a value of the wrong type or out of its domain.
    """


def _fields(settings: type) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(settings)}


FIELDS = _fields(Config)
STUDY_FIELDS = _fields(StudyConfig)
TUNE_FIELDS = _fields(TuneConfig)
_ALL = {**TUNE_FIELDS, **STUDY_FIELDS, **FIELDS}
TYPES: dict[str, Any] = {
    name: hint for settings in (TuneConfig, StudyConfig, Config) for name, hint in typing.get_type_hints(settings).items()
}

GROUPS: dict[str, str] = {
    "dataset": "data",
    "model": "model",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "loss": "training",
    "inspect": "looking inside",
    "objective": "evaluation, logs and checkpoints",
    "devices": "devices",
    "dry_run": "the run's folder and the screen",
    "coordinator_address": "many processes",
}
"""The first setting of each group, and the group's name."""

STUDY_GROUPS = {**GROUPS, "vary": "the study"}
TUNE_GROUPS = {**GROUPS, "budget": "the recipe"}

PROCESSES = ("coordinator_address", "num_processes", "process_id", "join_timeout")
NOT_PART_OF_A_RUN = ("dry_run", "run_dir", "resume", "overwrite", "progress", *PROCESSES)
"""Settings that say where and how to run, not what: two runs that differ only in these are the same run."""

NOT_PART_OF_A_STUDY = (*NOT_PART_OF_A_RUN, "extend", "study", "storage")
"""Likewise of studies."""

ELASTIC = ("devices",)
"""Settings with which a run may go on that it was not begun with: its numbers may differ by rounding from there on."""

PLACES = ("data_dir", "cache_dir", "stream", "input_workers")
"""Settings that say where something lies, or how it is read: part of flags.txt, but it may have moved (the data itself is
compared)."""


def check_is_config(config: object) -> None:
    """Refuses what is no config, where a person's program hands one over.

    Raises:
      ConfigError: it is something else.
    """
    if not isinstance(config, Config):
        came = type(config).__name__
        raise ConfigError(f"config is of type {came}; expected an hpjax.Config, as hpjax.Config(dataset='digits')")


@functools.cache
def optional(name: str) -> bool:
    """Returns whether a setting may be None."""
    return type(None) in typing.get_args(TYPES[name])


@functools.cache
def kind(name: str) -> Any:
    """Returns a setting's type without None: bool, int, float, str, `Length` or a tuple of those."""
    return typing.get_args(TYPES[name])[0] if optional(name) else TYPES[name]


def convert(name: str, value: Any) -> Any:
    """Returns a setting's value as its type, from a value or its text.

    Args:
      name: a setting.
      value: a value of its type, or a text as in a flag; None, or an empty text, where it may be None.

    Raises:
      ConfigError: the value has another type or is out of the setting's domain.
    """
    if optional(name) and (value is None or value == ""):
        return None
    return converted(name, value, kind(name), _ALL[name].metadata["domain"])


def converted(name: str, value: Any, kind: Any, domain: Domain | None = None) -> Any:
    """Returns a value, or its text, as a type.

    Args:
      name: what messages call it.
      value: a value of the type, or a text as in a flag.
      kind: bool, int, float, str, `Length` or a tuple of those.
      domain: what it may be, beyond its type.

    Raises:
      ConfigError: the value has another type or is out of the domain.
    """
    of = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None
    try:
        result = _PARSERS[kind](value) if of is None else _several(value, _PARSERS[of])
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except (TypeError, ValueError, OverflowError):
        expected = _EXPECTED[kind] if of is None else f"{_PLURAL[of]}, separated by commas, or none"
        raise ConfigError(f"{name} is {value!r}; expected {expected}") from None
    if domain is not None and not domain[0](result):
        raise ConfigError(f"{name} is {value!r}; expected {domain[1]}{nearest(domain, result)}")
    return result


def to_text(name: str, value: Any) -> str:
    """Returns a setting's value as a flag spells it, so that `convert` gives it back."""
    if isinstance(value, tuple):
        return ("; " if kind(name) is Lines else ",").join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bool(value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError
    return words[value.lower()]


def _int(value: Any) -> int:
    if isinstance(value, bool) or (not isinstance(value, str) and value != int(value)):
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, numbers.Integral, os.PathLike)):
        raise ValueError
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    text.encode()
    # A line of a flagfile could not hold it.
    if text != text.strip() or any(character < " " for character in text):
        raise ValueError
    return text


def _length(value: Any) -> str:
    text = _text(value)
    durations.parse(text)
    return text


def _several(value: Any, parser: Callable[[Any], Any]) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [] if value.strip() == "none" else [part.strip() for part in value.split(",")]
    return tuple(parser(part) for part in value)


def _lines(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, Mapping):
        texts = [f"{name}={text}" for name, text in texts.items()]
    latest: dict[str, str] = {}
    for text in map(_text, texts):
        # A later one of the same setting overrides an earlier one, as flags do.
        name = text.partition("=")[0].strip()
        latest.pop(name, None)
        latest[name] = text
    return tuple(latest.values())


_PARSERS: dict[Any, Callable[[Any], Any]] = {
    Lines: _lines,
    bool: _bool,
    int: _int,
    float: _float,
    str: _text,
    Length: _length,
}
_EXPECTED: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text of one line, no space at its ends",
    Length: "a length: 500, 500steps, 3epochs, 40000examples or 10%",
    Lines: "texts name=expression, or a dict of them",
}
_PLURAL: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "words", Length: "lengths"}
