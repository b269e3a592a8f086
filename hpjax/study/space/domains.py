"""Whether the values of a space are values of its settings: looked at before anything runs."""

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hpjax.errors import ConfigError
from hpjax.study.space.distributions import Drawn
from hpjax.study.space.grammar import Parsed
from hpjax.study.space.leaves import BELOW_1, Leaf, twice
from hpjax.study.space.settings import is_number, kind_of, typed
from hpjax.study.space.source import Refused, shown

_MOST_CHECKED = 4096
"""Values of one leaf, and points of several, that are looked at."""

_INSIDE = (3 - math.sqrt(5)) / 2
"""A place that is no end and no middle: a whole number at both ends need not be one between."""


def settle(parsed: Parsed, drawn: Drawn) -> Leaf:
    """Returns the leaf of a distribution that is all that its setting comes to, its values as the setting's type.

    The upper end of a continuous range need not be a value of the setting: it is never drawn.

    Raises:
      ConfigError: a value or end that the setting cannot have; the line points at it.
    """
    name, leaf, places = parsed.source.name, drawn.leaf, drawn.places

    def checked(value: Any, place: int) -> Any:
        try:
            return typed(name, value)
        except ConfigError as error:
            raise parsed.source.error(refused(str(error), place)) from None

    if leaf.values:
        values = tuple(checked(value, place) for value, place in zip(leaf.values, places, strict=True))
        # '64,64' and '64, 64', for example.
        again = twice(values)
        if again is not None:
            came = f"{drawn.name} has {shown(values[again])} twice"
            raise parsed.source.error(Refused(places[again], came, "expected each value once"))
        return dataclasses.replace(leaf, values=values)
    if leaf.count is None and kind_of(name) is not float:
        what = "a whole number" if is_number(name) else "no number"
        expected = "expected int(low,high), grid(...) or choice(...)" if is_number(name) else "expected choice(...)"
        raise parsed.source.error(Refused(drawn.at, f"{name} is {what}, {drawn.name} draws others", expected))
    if leaf.count is not None:
        # Where a value lies is known for the first and the last only.
        for index in _some(leaf.count):
            checked(leaf.at(index), places[-1] if drawn.name == "range" else places[0] if index == 0 else places[1])
        return leaf
    checked(leaf.low, places[0])
    try:
        typed(name, leaf.high)
    except ConfigError:
        below = float(np.nextafter(np.float32(leaf.high), np.float32(-np.inf)))
        if not below > (leaf.low or 0.0) or not _is_value(name, below):
            checked(leaf.high, places[1])
        return dataclasses.replace(leaf, most=below)
    return leaf


def refused(message: str, place: int) -> Refused:
    """Returns a message of `typed` with a place."""
    came, _, expected = message.partition("; ")
    return Refused(place, came, expected or "expected another value")


def points(leaves: Mapping[Any, Leaf]) -> Iterator[dict[Any, Any]]:
    """Yields points to look at: all ends and listed values in every combination, or some of them if there are many.

    Args:
      leaves: leaves by any key.

    Yields:
      Values by key.
    """
    axes = [[leaf.value(u) for u in _places(leaf)] for leaf in leaves.values()]
    if math.prod(map(len, axes)) <= _MOST_CHECKED:
        combinations: Iterator[tuple[Any, ...]] = itertools.product(*axes)
    else:
        # The same ones each time; first each value of each axis.
        generator = random.Random(0)
        drawn = (tuple(generator.choice(axis) for axis in axes) for _ in range(_MOST_CHECKED))
        longest = max(map(len, axes))
        combinations = itertools.chain((tuple(axis[i % len(axis)] for axis in axes) for i in range(longest)), drawn)
    for combination in combinations:
        yield dict(zip(leaves, combination, strict=True))


def _places(leaf: Leaf) -> list[float]:
    if leaf.count is None:
        return [0.0, _INSIDE, BELOW_1]
    indices = range(leaf.count) if leaf.kind == "choice" or leaf.count <= 8 else [0, 1, leaf.count // 2, leaf.count - 1]
    return [(index + 0.5) / leaf.count for index in indices]


def _some(count: int) -> list[int]:
    """Returns indices below `count`, the first and the last among them."""
    if count <= _MOST_CHECKED:
        return list(range(count))
    return [0, *sorted(random.Random(0).sample(range(1, count - 1), _MOST_CHECKED)), count - 1]


def _is_value(name: str, value: Any) -> bool:
    try:
        typed(name, value)
    except ConfigError:
        return False
    return True
