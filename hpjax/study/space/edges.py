"""Whether a value lies at the edge of what was searched, and how a picture draws its axis."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hpjax.study.space.expressions import Scope, evaluate, holds
from hpjax.study.space.leaves import Leaf
from hpjax.study.space.tree import Arithmetic, Conditional, Draw, Negative, Node, Number, Reference, nodes, tails

Scale = Literal["log", "reflected", "linear", "category"]
EDGE = 0.05
"""Share of a continuous range that is its edge."""


def edge(tree: Node, leaves: Mapping[int, Leaf], scope: Scope, value: Any) -> str | None:
    """Returns `lowest` or `highest` if a value lies at that end of what its expression can come to, else None.

    Args:
      tree: the expression.
      leaves: its leaves by place.
      scope: the values of the settings that its conditions look at.
      value: the setting's value.
    """
    while isinstance(tree, Conditional):
        branch = tree.then if holds(tree.condition, scope) else tree.otherwise
        if branch is None:
            return None
        tree = branch
    parts = list(nodes(tree))
    drawn = [part.at for part in parts if isinstance(part, Draw)]
    if len(drawn) != 1 or any(isinstance(part, (Reference, Conditional)) for part in parts) or not _is_number(value):
        return None
    leaf = leaves[drawn[0]]
    if leaf.count is None:
        ends = [leaf.value(u) for u in (0, EDGE, 1 - EDGE, 1)]
    else:
        # First and last of a choice say nothing: least and most do.
        ends = list(leaf.values) if leaf.kind == "choice" else [leaf.at(0), leaf.at(leaf.count - 1)]
    if not all(map(_is_number, ends)):
        return None
    found = sorted(evaluate(tree, Scope({drawn[0]: one}, {})) for one in ends)
    low, high = (found[1], found[-2]) if leaf.count is None else (found[0], found[-1])
    if low == high:
        return None
    return _end(value, low, high)


def end_of(tried: Sequence[Any], value: Any) -> str | None:
    """Returns `lowest` or `highest` if a number is that of those that were tried, else None."""
    numbers = [one for one in (*tried, value) if _is_number(one)]
    return _end(value, min(numbers), max(numbers)) if _is_number(value) and min(numbers) < max(numbers) else None


def _end(value: float, low: float, high: float) -> str | None:
    return "lowest" if value <= low else "highest" if value >= high else None


def scale(name: str, trees: Mapping[str, Node], leaves: Mapping[str, Mapping[int, Leaf]]) -> Scale:
    """Returns how an axis of a setting's values is drawn; category where they are no numbers, or a choice of a few.

    Args:
      name: the setting.
      trees: the expressions of all varied settings.
      leaves: their leaves, by setting and place.
    """

    def shape(tree: Node, of: str) -> Scale | float:  # noqa: PLR0911
        """Returns a scale, or the number that a constant is."""
        match tree:
            case Number(_, value):
                return value
            case Draw(at):
                return _of_leaf(leaves[of][at])
            case Reference(_, other):
                return scale(other, trees, leaves)
            case Negative(_, part):
                inner = shape(part, of)
                return inner if inner == "category" else "linear" if isinstance(inner, str) else -inner
            case Arithmetic(at, sign, left, right):
                first, second = shape(left, of), shape(right, of)
                if not isinstance(first, str) and not isinstance(second, str):
                    return float(evaluate(Arithmetic(at, sign, Number(at, first), Number(at, second)), Scope({}, {})))
                return _joined(sign, first, second)
            case Conditional():
                return _of_tails([shape(tail, of) for tail in tails(tree) if tail is not None])
        return "category"

    return _of_tails([shape(trees[name], name)])


def _of_leaf(leaf: Leaf) -> Scale:
    if leaf.kind == "choice" or not all(map(_is_number, leaf.values)):
        return "category"
    if leaf.kind != "grid":
        return "log" if leaf.kind == "log" else "linear"
    values = sorted(leaf.values)
    if values[0] <= 0 or values[-1] < 10 * values[0]:
        return "linear"
    steps = [b - a for a, b in itertools.pairwise(values)]
    ratios = [math.log(b / a) for a, b in itertools.pairwise(values)]
    return "log" if max(ratios) / min(ratios) <= max(steps) / min(steps) else "linear"


def _joined(sign: str, first: Scale | float, second: Scale | float) -> Scale:
    """Returns the scale of two parts, one of them no constant."""
    parts = {first, second}
    if "category" in parts:
        return "category" if any(not isinstance(one, str) for one in parts) or len(parts) == 1 else "linear"
    if any(not isinstance(one, str) and one <= 0 for one in parts):
        return "linear"
    if sign == "-" and first == 1 and second == "log":
        return "reflected"
    if sign in ("*", "/"):
        return "log" if "log" in parts else "linear"
    if sign == "**":
        # 10 ** uniform(-4, 0), or log(...) ** 2.
        return "log" if not isinstance(first, str) or first == "log" else "linear"
    return "linear"


def _of_tails(shapes: list[Scale | float]) -> Scale:
    found = {one for one in shapes if isinstance(one, str)}
    if not found or "category" in found:
        return "category"
    if found == {"reflected"} and len(set(shapes)) == 1:
        return "reflected"
    return "log" if found == {"log"} and all(isinstance(one, str) or one > 0 for one in shapes) else "linear"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
