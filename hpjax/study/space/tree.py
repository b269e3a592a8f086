"""Expressions of the vary language as trees."""

import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Node:
    """A part of an expression; `at` is the place of its first character in the text, from 1."""

    at: int


@dataclasses.dataclass(frozen=True)
class Number(Node):
    """A number."""

    value: float


@dataclasses.dataclass(frozen=True)
class Word(Node):
    """A text, true, false or none."""

    value: str | bool | None


@dataclasses.dataclass(frozen=True)
class Draw(Node):
    """A distribution; which one is kept beside the tree, by its place."""


@dataclasses.dataclass(frozen=True)
class Reference(Node):
    """Another setting's value."""

    name: str


@dataclasses.dataclass(frozen=True)
class Negative(Node):
    """Minus an expression."""

    of: Node


@dataclasses.dataclass(frozen=True)
class Arithmetic(Node):
    """Two expressions joined by + - * / or **."""

    sign: str
    left: Node
    right: Node


@dataclasses.dataclass(frozen=True)
class Comparison(Node):
    """A setting compared with a number or word, or (`in`, `not in`) with several."""

    name: str
    sign: str
    values: tuple[Number | Word, ...]


@dataclasses.dataclass(frozen=True)
class Logic(Node):
    """Conditions joined by `and` or `or`, or one turned round by `not`."""

    sign: str
    parts: tuple[Node, ...]


@dataclasses.dataclass(frozen=True)
class Conditional(Node):
    """One of two expressions; where `otherwise` is None the setting is not varied when the condition is false."""

    condition: Node
    then: Node
    otherwise: Node | None


def nodes(node: Node) -> Iterator[Node]:
    """Yields a tree's nodes from left to right, as written: a conditional's value before its condition."""
    yield node
    match node:
        case Negative(_, of):
            yield from nodes(of)
        case Arithmetic(_, _, left, right):
            yield from nodes(left)
            yield from nodes(right)
        case Logic(_, _, parts):
            for part in parts:
                yield from nodes(part)
        case Conditional(_, condition, then, otherwise):
            yield from nodes(then)
            yield from nodes(condition)
            if otherwise is not None:
                yield from nodes(otherwise)


def tails(tree: Node | None) -> Iterator[Node | None]:
    """Yields what a tree may come to: itself, or a conditional's branches; None where the setting is not varied."""
    if isinstance(tree, Conditional):
        yield from tails(tree.then)
        yield from tails(tree.otherwise)
    else:
        yield tree
