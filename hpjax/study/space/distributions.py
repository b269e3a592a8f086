"""The functions of the vary language: each call is one sampled coordinate."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from hpjax.study.space.leaves import Leaf, twice
from hpjax.study.space.source import Refused, shown
from hpjax.study.space.tree import Number, Word

SIGNATURES = {
    "log": "log(low,high) or log(low,high,number)",
    "uniform": "uniform(low,high) or uniform(low,high,number)",
    "int": "int(low,high)",
    "choice": "choice(value,value,...)",
    "grid": "grid(value,value,...)",
    "range": "range(number)",
}
MOST_VALUES = 1_000_000
"""Values that one coordinate may list, and points that a grid may have."""

_LARGEST_WHOLE = 2**32


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A distribution as it is written.

    Attributes:
      name: its function.
      at: its place.
      leaf: the coordinate.
      places: the places of its arguments.
    """

    name: str
    at: int
    leaf: Leaf
    places: tuple[int, ...]


def create(setting: str, name: str, at: int, arguments: Sequence[Number | Word]) -> Drawn:
    """Returns a distribution.

    Args:
      setting: the setting that it is drawn for.
      name: one of `SIGNATURES`.
      at: its place.
      arguments: what stands in the parentheses; numbers, but for choice.

    Raises:
      Refused: a wrong number of arguments, an empty or reversed range, a bound that the function does not take, values
        that are listed twice or in no order.
    """
    places = tuple(one.at for one in arguments)
    counts = {"log": (2, 3), "uniform": (2, 3), "int": (2,), "range": (1,)}.get(name)
    if len(arguments) not in counts if counts else not arguments:
        number = {0: "no argument", 1: "one argument"}.get(len(arguments), f"{len(arguments)} arguments")
        raise Refused(at, f"{name} has {number}", f"expected {SIGNATURES[name]}")
    if name in ("choice", "grid"):
        return Drawn(name, at, _listed(setting, name, arguments), places)
    numbers = [one for one in arguments if isinstance(one, Number)]
    if name == "range":
        count = _whole(name, "number", numbers[0], 1, MOST_VALUES)
        return Drawn(name, at, Leaf(setting, "int", 0.0, count - 1.0, count), places)
    if name == "int":
        low, high = (
            _whole(name, which, one, -_LARGEST_WHOLE, _LARGEST_WHOLE)
            for which, one in zip(("lower bound", "upper bound"), numbers, strict=True)
        )
        if high < low:
            raise _reversed(name, numbers)
        return Drawn(name, at, Leaf(setting, "int", float(low), float(high), high - low + 1), places)
    return Drawn(name, at, _between(setting, name, numbers), places)


def _between(setting: str, name: str, numbers: list[Number]) -> Leaf:
    low, high = numbers[0].value, numbers[1].value
    for which, one in zip(("lower", "upper"), numbers, strict=False):
        if name == "log" and one.value <= 0:
            raise Refused(one.at, f"log's {which} bound is {shown(one.value)}", "expected a number > 0")
    if high <= low or high - low == float("inf"):
        raise _reversed(name, numbers)
    count = _whole(name, "number of values", numbers[2], 2, MOST_VALUES) if len(numbers) == 3 else None
    leaf = Leaf(setting, "log" if name == "log" else "uniform", low, high, count)
    if count and leaf.at(0) == leaf.at(1):
        raise Refused(numbers[2].at, f"{name} has {count} values in a range too narrow for them", "expected fewer")
    return leaf


def _listed(setting: str, name: str, arguments: Sequence[Number | Word]) -> Leaf:
    values = tuple(_plain(one) for one in arguments)
    again = twice(values)
    if again is not None:
        raise Refused(arguments[again].at, f"{name} has {shown(values[again])} twice", "expected each value once")
    if name == "choice":
        return Leaf(setting, "choice", None, None, len(values), values)
    for one in arguments:
        if isinstance(one, Word):
            raise Refused(one.at, f"grid has {shown(one.value)}", "expected a number; choice(...) takes words")
    steps = [after > before for before, after in itertools.pairwise(values)]
    if len(set(steps)) > 1:
        at = arguments[steps.index(not steps[0]) + 1].at
        raise Refused(at, "grid's values are in no order", "expected them rising or falling; choice(...) takes any order")
    return Leaf(setting, "grid", float(min(values)), float(max(values)), len(values), values)


def _plain(one: Number | Word) -> Any:
    """Returns a listed value: a whole number as an int."""
    if isinstance(one, Number) and one.value.is_integer() and abs(one.value) < 2**53:
        return int(one.value)
    return one.value


def _whole(name: str, which: str, one: Number, least: int, most: int) -> int:
    if not one.value.is_integer() or not least <= one.value <= most:
        raise Refused(one.at, f"{name}'s {which} is {shown(one.value)}", f"expected a whole number in [{least}, {most}]")
    return int(one.value)


def _reversed(name: str, numbers: list[Number]) -> Refused:
    low, high = numbers[0].value, numbers[1].value
    what = "empty" if low == high else "reversed" if high < low else "too wide"
    return Refused(
        numbers[0].at, f"{name}'s range is {what}, {shown(low)} to {shown(high)}", f"expected {name}(low,high), low < high"
    )
