"""What was searched of a setting: a range or some choices."""

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from hpjax.study.space import Space

_MOST_CORNERS, _MOST_VALUES, _BETWEEN = 8, 1000, 256
"""Leaves whose corners are all looked at, values of a leaf, and points between."""


class Range(NamedTuple):
    """Numbers between two bounds, both included.

    Attributes:
      kind: of which type the values are.
      low: the lower bound.
      high: the upper bound.
      log: whether equal ratios, not equal differences, are equally likely.
    """

    kind: Literal["float", "int"]
    low: float
    high: float
    log: bool = False


class Choices(NamedTuple):
    """Some values without an order."""

    values: tuple[Any, ...]


Searched = Range | Choices
"""What was searched of one setting."""


def of_space(space: Space) -> dict[str, Searched]:
    """Returns what was searched of every varied setting, seed and fold included.

    An expression's bounds are those of its values at the corners of the unit cube and some points between; what lies beyond
    them a storage takes as a wider range.

    Args:
      space: what the study varies.
    """
    seen: dict[str, dict[Any, None]] = {}
    for found in itertools.chain(space.replicas, map(space.values, _points(space))):
        for name, value in found.items():
            seen.setdefault(name, {})[type(value), value] = None
    names = [name for name in (*space.names, *space.replicated) if name in seen]
    return {name: _searched(space, name, [value for _, value in seen[name]]) for name in names}


def _points(space: Space) -> Iterator[tuple[float, ...]]:
    count = len(space.leaves)
    rng = random.Random(0)
    if count <= _MOST_CORNERS:
        yield from itertools.product((0.0, 1.0), repeat=count)
    # Every value of a discrete leaf, the others anywhere.
    for i, leaf in enumerate(space.leaves):
        for cell in range(min(leaf.count or 0, _MOST_VALUES)):
            point = [rng.random() for _ in range(count)]
            yield (*point[:i], (cell + 0.5) / (leaf.count or 1), *point[i + 1 :])
    for _ in range(_BETWEEN):
        yield tuple(rng.choice((0.0, 1.0, rng.random())) for _ in range(count))


def _searched(space: Space, name: str, values: list[Any]) -> Searched:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    scale = "linear" if name in space.replicated else space.scale(name)
    if scale == "category" or not numbers:
        given = [value for leaf in space.leaves if leaf.setting == name for value in leaf.values]
        # In the order in which they were given, where that is known.
        return Choices(tuple(sorted(values, key=lambda one: given.index(one) if one in given else len(given))))
    ends = [end for leaf in space.leaves if leaf.setting == name for end in (leaf.low, leaf.high) if end is not None]
    low, high = (_whole(bound, ends) for bound in (min(values), max(values)))
    kind: Literal["int", "float"] = "int" if all(isinstance(value, int) for value in values) else "float"
    return Range(kind, low, high, scale == "log")


def _whole(bound: float, ends: list[float]) -> float:
    """Returns the end that was asked for, where a value comes within rounding of it."""
    return next((end for end in ends if math.isclose(bound, end, rel_tol=1e-9)), bound)
