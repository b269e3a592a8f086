"""How the settings of a schedule lie in the traced table: which are whole, which float, which need two columns."""

import functools
import inspect
import typing
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hpjax import config
from hpjax.config import FIELDS
from hpjax.errors import ConfigError
from hpjax.schedules.precise import Precise, Wide
from hpjax.schedules.registry import SCHEDULES, Schedule
from hpjax.schedules.warmup import warmup
from hpjax.settings.fields import Length, choices

WARMUP = ""
"""The name under which a table knows the warmup, which is no schedule to choose."""
MOST_MILESTONES = 16
"""Values that a setting of several may have."""
WIDTHS = {"int": 1, "ints": MOST_MILESTONES, "float": 1, "precise": 2}
"""Columns of each form."""


def entry(name: str) -> Schedule:
    """Returns a schedule, or the warmup."""
    return warmup if name == WARMUP else SCHEDULES.get(name)


def kinds(plugins: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the names of all that a table can hold, in the order of their numbers there: a program's plug-ins last."""
    return (WARMUP, *SCHEDULES.names(), *plugins)


def forms(name: str) -> dict[str, str]:
    """Returns the form of each of a schedule's settings: a key of `WIDTHS`."""
    function = entry(name)
    # Remembered, for a study packs a table with every trial; a plug-in may be an object that cannot be hashed.
    of = _forms if isinstance(function, Hashable) else _forms.__wrapped__
    return of(name, function)


@functools.lru_cache(maxsize=1024)
def _forms(name: str, function: Schedule) -> dict[str, str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: _form(name, p) for p in parameters if p.kind is p.KEYWORD_ONLY}


def places(name: str) -> dict[str, int]:
    """Returns the first column of each of a schedule's settings, whole ones and floats counted apart."""
    filled = {"int": 0, "float": 0}
    result = {}
    for setting, form in forms(name).items():
        table = "int" if form in ("int", "ints") else "float"
        result[setting] = filled[table]
        filled[table] += WIDTHS[form]
    return result


def columns(*of: str, plugins: Sequence[str] = ()) -> int:
    """Returns how many columns the settings of some forms need, whatever the schedule."""
    return max(sum(WIDTHS[form] for form in forms(name).values() if form in of) for name in kinds(plugins))


def is_length(setting: str) -> bool:
    """Returns whether a setting is a length, or several."""
    kind = config.kind(setting) if setting in FIELDS else None
    return kind is Length or Length in typing.get_args(kind)


def number_of(setting: str, value: Any) -> Any:
    """Returns a setting's value as a number: the place of a word among its words, bools as 0 and 1."""
    words = choices(FIELDS[setting].metadata["domain"]) if setting in FIELDS else ()
    if isinstance(value, str) and value in words:
        return words.index(value)
    return int(value) if isinstance(value, (bool, np.bool_)) else value


def call(
    name: str,
    step: jax.Array,
    total_steps: jax.Array,
    settings: dict[str, Any],
    *,
    momentum: Any = False,
    reduction: Any = 1.0,
) -> jax.Array:
    """Returns a schedule's factor, with those of the reserved arguments that it takes."""
    function: Callable[..., jax.Array] = entry(name)
    parameters = inspect.signature(function).parameters.values()
    reserved = {"momentum": momentum, "reduction": reduction}
    taken = {p.name: reserved[p.name] for p in parameters if p.name in reserved and p.kind is not p.KEYWORD_ONLY}
    return jnp.asarray(function(step, total_steps, **taken, **settings), jnp.float32)


def read(name: str, ints: jax.Array, floats: jax.Array) -> dict[str, Any]:
    """Returns a schedule's settings from the columns of one row."""
    result: dict[str, Any] = {}
    for setting, form in forms(name).items():
        place = places(name)[setting]
        if form == "int":
            result[setting] = ints[place]
        elif form == "ints":
            result[setting] = ints[place : place + MOST_MILESTONES]
        elif form == "float":
            result[setting] = floats[place]
        else:
            result[setting] = Wide(floats[place], floats[place + 1])
    return result


def write(name: str, settings: dict[str, Any], ints: np.ndarray, floats: np.ndarray) -> None:
    """Puts a schedule's settings, numbers, into the columns of one row; None is -1 or NaN there."""
    for setting, form in forms(name).items():
        place, value = places(name)[setting], settings[setting]
        if form == "int":
            ints[place] = -1 if value is None else value
        elif form == "ints":
            ints[place : place + MOST_MILESTONES] = -1
            ints[place : place + len(value)] = value
        elif form == "float":
            floats[place] = np.nan if value is None else value
        else:
            floats[place] = np.float32(value)
            floats[place + 1] = float(value) - float(np.float32(value))


def _form(name: str, parameter: inspect.Parameter) -> str:
    if parameter.annotation == Precise:
        return "precise"
    if parameter.name not in FIELDS:
        kind: Any = type(parameter.default)
        if kind is str:
            raise ConfigError(f"schedule '{name}' takes '{parameter.name}', a text; expected settings that are numbers")
    else:
        kind = config.kind(parameter.name)
    if typing.get_origin(kind) is tuple:
        return "ints"
    whole = kind in (bool, int, Length) or (parameter.name in FIELDS and choices(FIELDS[parameter.name].metadata["domain"]))
    return "int" if whole else "float"
