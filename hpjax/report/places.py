"""Where a hyperparameter's values stand on an axis of the report."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpjax.study import axes
from hpjax.study.axes import Places, Scale

_GOLDEN = (math.sqrt(5) - 1) / 2


def places(name: str, values: Sequence[Any], scale: Scale) -> Places:
    """Returns where values stand, as a study's pictures have it, but lengths in their order: 0%, 5%, 10%."""
    found = axes.places(name, values, scale)
    if found.labels is None:
        return found
    sizes = [_size(label) for label in found.labels]
    if None in sizes:
        return found
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])  # type: ignore[arg-type, return-value]
    place = np.argsort(order)
    return Places(place[found.of.astype(int)].astype(np.float64), found.scale, [found.labels[i] for i in order])


def axis_name(name: str, place: Places) -> str:
    """Returns what is written at an axis: places may be those of 1 minus the values."""
    return f"1 - {name}" if place.reflected else name


def spread_out(place: Places, width: float = 0.6) -> list[float]:
    """Returns the places, those of one category spread over some width so that they can be told apart."""
    if place.labels is None:
        return [float(one) for one in place.of]
    seen: dict[float, int] = {}
    result = []
    for one in map(float, place.of):
        # Multiples of the golden ratio fill the width evenly, however many there are.
        shift = (seen.get(one, 0) * _GOLDEN + 0.5) % 1 - 0.5
        seen[one] = seen.get(one, 0) + 1
        result.append(one + width * shift)
    return result


def _size(label: str) -> float | None:
    """Returns the number that a label begins with, where nothing but a unit follows; None for others."""
    digits = label.rstrip("%abcdefghijklmnopqrstuvwxyz")
    try:
        return float(digits)
    except ValueError:
        return None
