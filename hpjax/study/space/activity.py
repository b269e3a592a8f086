"""Whether a setting with a condition is varied at any point of a space."""

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hpjax.study.space.leaves import BELOW_1, Leaf
from hpjax.study.space.order import order
from hpjax.study.space.tree import Comparison, Draw, Node, Number, nodes, tails

if TYPE_CHECKING:
    from hpjax.study.space.program import Program

_MOST = 4096
"""Points that are looked at; where there are more to tell, it is not told."""


def never(program: "Program", name: str) -> bool:
    """Returns whether a setting is varied at no point; False where that would take too many points to tell.

    Args:
      program: the expressions.
      name: one of its settings.
    """
    if None not in tails(program.trees[name]):
        return False
    names = order(program.trees, (name,))
    # Its own leaves change nothing about whether it is varied.
    leaves = {(one, at): leaf for one in names for at, leaf in program.leaves[one].items()}
    axes = [_first(leaf) if one == name else _telling(program, one, at) for (one, at), leaf in leaves.items()]
    told = [axis for axis in axes if axis is not None]
    if len(told) < len(axes) or math.prod(map(len, told)) > _MOST:
        return False
    for combination in itertools.product(*told):
        drawn: dict[str, dict[int, Any]] = {one: {} for one in names}
        for (one, at), value in zip(leaves, combination, strict=True):
            drawn[one][at] = value
        if name in program.values(drawn, names):
            return False
    return True


def _first(leaf: Leaf) -> list[Any]:
    return [leaf.value(0.0)]


def _telling(program: "Program", name: str, at: int) -> list[Any] | None:
    """Returns values of a leaf between which no condition changes; None where that cannot be told."""
    leaf, tree = program.leaves[name][at], program.trees[name]
    if leaf.count is not None:
        return [leaf.at(index) for index in range(leaf.count)] if leaf.count <= _MOST else None
    if not isinstance(tree, Draw):
        return None
    low, high = leaf.value(0.0), leaf.value(BELOW_1)
    beside = [near for bound in _bounds(program, name) for near in (bound, _after(bound, -1), _after(bound, 1))]
    return [low, *(one for one in beside if low < one < high), high]


def _bounds(program: "Program", name: str) -> Iterator[float]:
    """Yields the numbers that conditions compare a setting with."""
    parts: Iterator[Node] = itertools.chain.from_iterable(map(nodes, program.trees.values()))
    for part in parts:
        if isinstance(part, Comparison) and part.name == name:
            yield from (one.value for one in part.values if isinstance(one, Number))


def _after(number: float, way: int) -> float:
    return math.nextafter(number, way * math.inf)
