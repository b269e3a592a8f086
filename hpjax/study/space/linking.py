"""A tree put in its place among the other settings: names found, constants filled in, branches never taken left out."""

from collections.abc import Mapping
from typing import Any

from hpjax.config import FIELDS, Config
from hpjax.errors import ConfigError, did_you_mean, listed
from hpjax.study.space import words
from hpjax.study.space.distributions import SIGNATURES
from hpjax.study.space.expressions import Scope, holds
from hpjax.study.space.grammar import Parsed
from hpjax.study.space.settings import is_number, typed
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
    nodes,
    tails,
)

_EQUALS = ("==", "!=", "in", "not in")


class Linker:
    """Links trees.

    Args:
      varied: the texts of the hyperparameters by name.
      replicated: the names of settings that repeat a hyperparameter setting.
      base: the config that is varied.
    """

    def __init__(self, varied: Mapping[str, Parsed], replicated: tuple[str, ...], base: Config):
        self.varied, self.replicated, self.base = varied, replicated, base

    def check_names(self, tree: Node) -> None:
        """Raises Refused for a name that is no setting, in branches too that are never taken."""
        for node in nodes(tree):
            if isinstance(node, (Reference, Comparison)):
                self._base(node.at, node.name)

    def link(self, tree: Node) -> Node | None:
        """Returns a tree that names varied settings only; None if it never comes to anything.

        Raises:
          Refused: an unknown setting, one that has no value or is no number, or a comparison that cannot be made.
        """
        match tree:
            case Reference(at, name):
                value = self._base(at, name)
                if not is_number(name):
                    raise Refused(at, f"'{name}' is no number", "expected a setting that is one, or a text in quotes")
                return tree if name in self.varied else Number(at, float(_set(at, name, value)))
            case Negative(at, of):
                return Negative(at, self._part(of))
            case Arithmetic(at, sign, left, right):
                return Arithmetic(at, sign, self._part(left), self._part(right))
            case Conditional(at, condition, then, otherwise):
                return self._conditional(at, condition, then, otherwise)
        return tree

    def condition(self, node: Node) -> Node | bool:
        """Returns a condition with typed values, or what it comes to where nothing in it varies; raises Refused."""
        if isinstance(node, Comparison):
            node = self._comparison(node)
            return node if node.name in self.varied else holds(node, Scope({}, {node.name: getattr(self.base, node.name)}))
        assert isinstance(node, Logic)
        if node.sign == "not":
            part = self.condition(node.parts[0])
            return not part if isinstance(part, bool) else Logic(node.at, "not", (part,))
        decides, left = node.sign == "or", []
        for part in map(self.condition, node.parts):
            if part is decides:
                # Like Python: what stands behind is not looked at.
                return decides
            if not isinstance(part, bool):
                left.append(part)
        return Logic(node.at, node.sign, tuple(left)) if left else not decides

    def _part(self, tree: Node) -> Node:
        linked = self.link(tree)
        # The grammar lets only the end of a text go without `else`.
        assert linked is not None
        return linked

    def _conditional(self, at: int, condition: Node, then: Node, otherwise: Node | None) -> Node | None:
        linked = self.condition(condition)
        if isinstance(linked, bool):
            taken = then if linked else otherwise
            return None if taken is None else self.link(taken)
        first, second = self.link(then), None if otherwise is None else self.link(otherwise)
        if first is None and second is not None:
            linked, first, second = Logic(linked.at, "not", (linked,)), second, None
        return None if first is None else Conditional(at, linked, first, second)

    def _base(self, at: int, name: str) -> Any:
        """Returns the base's value of a setting; raises Refused for one that is unknown or replicated."""
        if name in self.replicated:
            raise Refused(at, f"'{name}' repeats every point", "expected a hyperparameter, the same in all repetitions")
        if name not in FIELDS:
            if name in SIGNATURES:
                raise Refused(at, f"'{name}' has no arguments", f"expected {SIGNATURES[name]}")
            near = did_you_mean(name, FIELDS).removeprefix("; ") or "expected a setting, a number or a distribution"
            raise Refused(at, f"setting '{name}' is unknown", near)
        return getattr(self.base, name)

    def _comparison(self, node: Comparison) -> Comparison:
        value = self._base(node.at, node.name)
        if node.sign not in _EQUALS and not is_number(node.name):
            raise Refused(node.at, f"'{node.name}' is no number", f"expected ==, != or in, not {node.sign}")
        values = tuple(self._compared(node, one) for one in node.values)
        if node.name not in self.varied and None not in [one.value for one in values]:
            _set(node.at, node.name, value)
        return Comparison(node.at, node.name, node.sign, values)

    def _compared(self, node: Comparison, one: Number | Word) -> Number | Word:
        """Returns what a setting is compared with as the setting's type."""
        name, nothing = node.name, isinstance(one, Word) and one.value is None
        if is_number(name):
            # Any number: a threshold may lie outside of the domain.
            if isinstance(one, Word) and not (nothing and node.sign in _EQUALS):
                raise Refused(one.at, f"'{name}' is compared with {shown(one.value)}", "expected a number")
        else:
            try:
                one = Word(one.at, typed(name, one.value))
            except ConfigError as error:
                came, _, expected = str(error).partition("; ")
                raise Refused(one.at, came, expected) from None
        possible = self._possible(name) if node.sign in _EQUALS else None
        if possible is not None and one.value not in possible:
            near = listed(str(one.value), [str(v) if isinstance(v, str) else shown(v) for v in possible], "expected one of")
            raise Refused(one.at, f"'{name}' is never {shown(one.value)}", near.removeprefix("; "))
        if possible is None and (unknown := words.unknown(name, one.value)) is not None:
            word, known = unknown
            near = did_you_mean(word, known) or f"expected one of {', '.join(known)}"
            raise Refused(one.at, f"'{name}' is never {shown(word)}", near.removeprefix("; "))
        return one

    def _possible(self, name: str) -> list[Any] | None:
        """Returns all values of a varied setting, if its text lists them."""
        result: list[Any] = []
        for tail in tails(self.varied[name].tree) if name in self.varied else [Reference(0, name)]:
            match tail:
                case None:
                    result.append(getattr(self.base, name))
                case Draw(at) if self.varied[name].drawn[at].leaf.values:
                    result += self.varied[name].drawn[at].leaf.values
                case Number(_, value) | Word(_, value):
                    result.append(value)
                case _:
                    return None
        return [_typed_or(name, value) for value in result]


def _set(at: int, name: str, value: Any) -> Any:
    if value is None:
        raise Refused(at, f"'{name}' is not set", f"expected a value: give --{name}=VALUE, or vary it")
    return value


def _typed_or(name: str, value: Any) -> Any:
    """Returns a value as its setting's type, or as it is: what is wrong with it its own text says."""
    try:
        return typed(name, value)
    except ConfigError:
        return value
