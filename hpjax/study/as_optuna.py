"""A trial as Optuna shows it: parameters with their distributions, a state, and user attributes."""

import enum
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from hpjax.config import FIELDS, to_text
from hpjax.study.records import TrialRecord
from hpjax.study.searched import Choices, Searched

SCALARS = (bool, int, float, str, type(None))
"""Types of a choice that Optuna's storages keep."""


class State(enum.IntEnum):
    """A trial's state, by Optuna's numbers."""

    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAIL = 3
    WAITING = 4


class Parameter(NamedTuple):
    """A value as Optuna stores it.

    Attributes:
      distribution: Optuna's JSON text of the distribution.
      value: the number, or the place among the choices.
    """

    distribution: str
    value: float


class Parameters:
    """Spells settings' values as Optuna's parameters; remembers the texts, for a study asks with every trial."""

    def __init__(self, searched: Mapping[str, Searched]):
        self._searched = dict(searched)
        self._texts = {name: _distribution(name, one) for name, one in searched.items()}

    def of(self, values: Mapping[str, Any]) -> dict[str, Parameter]:
        """Returns the parameters of a trial, without those that no distribution of Optuna's can hold.

        A number beyond the bounds (a trial that was enqueued) widens them for its trial: Optuna refuses it otherwise.
        """
        found = {name: self._one(name, value) for name, value in values.items() if name in self._searched}
        return {name: parameter for name, parameter in found.items() if parameter is not None}

    def _one(self, name: str, value: Any) -> Parameter | None:
        searched = self._searched[name]
        if isinstance(searched, Choices):
            # 1, 1.0 and True are equal, but not the same choice.
            places = (i for i, one in enumerate(searched.values) if type(one) is type(value) and one == value)
            place = next(places, None)
            return None if place is None else Parameter(self._texts[name], place)
        number = isinstance(value, (int, float) if searched.kind == "float" else int) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or (searched.log and value <= 0):
            return None
        if searched.low <= value <= searched.high:
            return Parameter(self._texts[name], float(value))
        wider = searched._replace(low=min(searched.low, value), high=max(searched.high, value))
        return Parameter(_distribution(name, wider), float(value))


def shown(name: str, value: Any) -> bool | float | str | None:
    """Returns a setting's value as a storage keeps it: a scalar as it is, anything else as a flag spells it."""
    if isinstance(value, SCALARS):
        return value
    return to_text(name, value) if name in FIELDS else str(value)


def description(record: TrialRecord, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Returns the user attributes that Optuna shows of a trial that begins: a setting that is no parameter is one."""
    others = {name: shown(name, value) for name, value in record.values.items() if name not in parameters}
    return {"setting": record.setting, "point": list(record.point), **others}


def outcome(record: TrialRecord) -> tuple[State, list[float] | None]:
    """Returns Optuna's state of a trial that ended, and its values; a trial that is infeasible failed."""
    value = float(record.objective)
    if record.status == "diverged" or (record.status == "done" and math.isnan(value)):
        return State.FAIL, None
    return State.COMPLETE if record.status == "done" else State.PRUNED, None if math.isnan(value) else [value]


def conclusion(record: TrialRecord) -> dict[str, Any]:
    """Returns the user attributes that Optuna shows of a trial that ended."""
    attributes: dict[str, Any] = {"status": record.status}
    if record.status == "diverged":
        attributes |= {"infeasible": True, "diverged_at": record.diverged_at}
    if record.curve:
        attributes |= {name: float(value) for name, value in record.curve[-1].numbers.items()}
    return attributes


def _distribution(name: str, searched: Searched) -> str:
    if isinstance(searched, Choices):
        return _named("CategoricalDistribution", {"choices": [shown(name, value) for value in searched.values]})
    kind, low, high, log = searched
    if kind == "int":
        return _named("IntDistribution", {"log": log, "step": 1, "low": int(low), "high": int(high)})
    return _named("FloatDistribution", {"step": None, "low": float(low), "high": float(high), "log": log})


def _named(name: str, attributes: dict[str, Any]) -> str:
    return json.dumps({"name": name, "attributes": attributes})
