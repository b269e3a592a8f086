"""From settings back to a point of the unit cube: how a space sees trials of another study, or of a person."""

import math
from collections.abc import Mapping
from typing import Any

from hpjax.errors import ConfigError
from hpjax.study.space.expressions import Scope, evaluate, holds
from hpjax.study.space.leaves import Leaf
from hpjax.study.space.program import Program
from hpjax.study.space.source import Refused
from hpjax.study.space.tree import Arithmetic, Conditional, Draw, Negative, Node, nodes

CLOSE = 1e-9
"""Relative difference of numbers that are the same but for rounding on the way back."""


class NoPoint(Exception):
    """Values that no point, or no single one, comes to."""


def solve(program: Program, values: Mapping[str, Any]) -> dict[tuple[str, int], float]:
    """Returns the places of the leaves that the values come of, by the leaf's setting and place in its text.

    Args:
      program: the expressions.
      values: settings by name.

    Raises:
      NoPoint: a value lies outside of what is searched, is missing, or its expression has several leaves.
    """
    scope = program.scope(values)
    found: dict[tuple[str, int], float] = {}
    for name, tree in program.trees.items():
        taken: Node | None = tree
        try:
            while isinstance(taken, Conditional):
                taken = taken.then if holds(taken.condition, scope) else taken.otherwise
            if (taken is None) is (name in values):
                raise NoPoint
            if taken is not None:
                place = _solved(taken, values[name], program.leaves[name], scope)
                found |= {(name, at): u for at, u in place.items()}
        except (ConfigError, Refused, ArithmeticError, ValueError, TypeError):
            raise NoPoint from None
    return found


def agrees(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Returns whether settings are the same, numbers but for rounding."""
    return found.keys() == wanted.keys() and all(_close(found[name], wanted[name]) for name in wanted)


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=CLOSE)
    return bool(one == other)


def _solved(node: Node, target: Any, leaves: Mapping[int, Leaf], scope: Scope) -> dict[int, float]:
    """Returns the place of the one leaf of an expression that comes to `target`; empty if it has none."""
    match node:
        case Draw(at):
            return {at: _nearest(leaves[at], target)}
        case Negative(_, of):
            return _solved(of, -target, leaves, scope)
        case Arithmetic(_, sign, left, right):
            drawn = [any(isinstance(part, Draw) for part in nodes(side)) for side in (left, right)]
            if all(drawn):
                raise NoPoint
            if drawn[0]:
                return _solved(left, _left(sign, float(target), float(evaluate(right, scope))), leaves, scope)
            if drawn[1]:
                return _solved(right, _right(sign, float(target), float(evaluate(left, scope))), leaves, scope)
    if any(isinstance(part, Draw) for part in nodes(node)):
        raise NoPoint
    return {}


def _left(sign: str, target: float, right: float) -> float:
    """Returns x of `x sign right = target`."""
    match sign:
        case "+":
            return target - right
        case "-":
            return target + right
        case "*":
            return target / right
        case "/":
            return target * right
    return math.pow(target, 1 / right)


def _right(sign: str, target: float, left: float) -> float:
    """Returns x of `left sign x = target`."""
    match sign:
        case "+":
            return target - left
        case "-":
            return left - target
        case "*":
            return target / left
        case "/":
            return left / target
    return math.log(target) / math.log(left)


def _nearest(leaf: Leaf, value: Any) -> float:
    """Returns the place of a value, of the nearest one where the way back has rounded it."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return leaf.unit(value)
    for one in leaf.values:
        if _close(float(value), one) or value == one:
            return leaf.unit(one)
    if leaf.kind == "int":
        return leaf.unit(round(value) if _close(float(round(value)), value) else value)
    for end in (leaf.low, leaf.high):
        if end is not None and _close(end, value):
            return leaf.unit(end)
    if leaf.count is not None and leaf.low is not None and leaf.high is not None:
        log = leaf.kind == "log"
        share = (
            math.log(value / leaf.low) / math.log(leaf.high / leaf.low)
            if log
            else (value - leaf.low) / (leaf.high - leaf.low)
        )
        near = leaf.at(min(max(round(share * (leaf.count - 1)), 0), leaf.count - 1))
        return leaf.unit(near if _close(near, value) else value)
    return leaf.unit(value)
