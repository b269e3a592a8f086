"""What an expression comes to."""

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from hpjax.study.space.source import Refused, shown
from hpjax.study.space.tree import (
    Arithmetic,
    Comparison,
    Conditional,
    Draw,
    Logic,
    Negative,
    Node,
    Number,
    Reference,
    Word,
)


class Absent:
    """What a setting comes to that is not varied at a point."""


ABSENT = Absent()
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclasses.dataclass(frozen=True)
class Scope:
    """What an expression sees.

    Attributes:
      drawn: the values of its distributions, by their place.
      settings: the values of other settings; None of one that has none.
    """

    drawn: Mapping[int, Any]
    settings: Mapping[str, Any]


def evaluate(node: Node, scope: Scope) -> Any:
    """Returns what an expression comes to: a float if it is arithmetic, else what was drawn or written, or `ABSENT`.

    Raises:
      Refused: division by zero, a result that is not finite or not real, or a setting that has no value here.
    """
    match node:
        case Number(_, value) | Word(_, value):
            return value
        case Draw(at):
            return scope.drawn[at]
        case Reference(at, name):
            return _number(at, name, scope)
        case Negative(_, of):
            return -evaluate(of, scope)
        case Arithmetic(at, sign, left, right):
            return apply(at, sign, float(evaluate(left, scope)), float(evaluate(right, scope)))
        case Conditional(_, condition, then, otherwise):
            branch = then if holds(condition, scope) else otherwise
            return ABSENT if branch is None else evaluate(branch, scope)
    raise TypeError(node)


def apply(at: int, sign: str, left: float, right: float) -> float:
    """Returns `left sign right`; raises Refused, at a place, where that is no finite real number."""
    try:
        result = ARITHMETIC[sign](left, right)
    except ZeroDivisionError:
        raise Refused(at, f"{shown(left)} {sign} {shown(right)} divides by zero", "expected a number") from None
    except OverflowError:
        result = math.inf
    if isinstance(result, complex) or not math.isfinite(result):
        raise Refused(at, f"{shown(left)} {sign} {shown(right)} is no finite real number", "expected a number")
    return result


def holds(node: Node, scope: Scope) -> bool:
    """Returns whether a condition is true; raises Refused for a setting that has no value here."""
    match node:
        case Logic(_, "and", parts):
            return all(holds(part, scope) for part in parts)
        case Logic(_, "or", parts):
            return any(holds(part, scope) for part in parts)
        case Logic(_, _, parts):
            return not holds(parts[0], scope)
        case Comparison(at, name, sign, values):
            value = scope.settings[name]
            known = [one.value for one in values]
            if value is None and None not in known:
                raise _no_value(at, name)
            if sign in ("in", "not in"):
                return (value in known) == (sign == "in")
            return COMPARISONS[sign](value, known[0])
    raise TypeError(node)


def _number(at: int, name: str, scope: Scope) -> float:
    value = scope.settings[name]
    if value is None:
        raise _no_value(at, name)
    return float(value)


def _no_value(at: int, name: str) -> Refused:
    return Refused(at, f"'{name}' has no value", f"expected one that is set: give --{name}=VALUE")
