"""From the text of an expression to its tree: numbers, settings, distributions, arithmetic and conditions; nothing else."""

import ast
import dataclasses

from hpjax.errors import listed
from hpjax.study.space import distributions
from hpjax.study.space.distributions import Drawn
from hpjax.study.space.literals import SIGNS, constant, literal
from hpjax.study.space.source import Refused, Source
from hpjax.study.space.syntax import WORDS, has_no_else, normal, place, read, words
from hpjax.study.space.tree import Arithmetic, Comparison, Conditional, Draw, Logic, Negative, Node, Number, Reference, Word

_COMPARED: dict[type, str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A text of `--vary`, read.

    Attributes:
      source: the text.
      tree: its expression.
      drawn: the distributions in it, by their place.
      text: the text as it is written to flags.
    """

    source: Source
    tree: Node
    drawn: dict[int, Drawn]
    text: str


def parse(text: str) -> Parsed:
    """Returns what a text `name=expression` says.

    Raises:
      ConfigError: it is not of the language; one line that points at the character.
    """
    source = Source.split(text)
    try:
        body = read(source)
        builder = _Builder(source)
        tree = builder.value(body, tail=True)
        return Parsed(source, tree, builder.drawn, f"{source.name}={normal(body)}")
    except Refused as refused:
        raise source.error(refused) from None


class _Builder:
    """Makes our tree of Python's, and keeps the distributions that it comes across."""

    def __init__(self, source: Source):
        self.source = source
        self.drawn: dict[int, Drawn] = {}

    def value(self, node: ast.expr, tail: bool) -> Node:  # noqa: PLR0911
        """Returns the tree of an expression; `tail`: it is what the setting comes to, not a part of arithmetic."""
        at = place(self.source, node)
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None) | ast.Name(id="nan" | "inf"):
                return self._literal(node, tail)
            case ast.Name(id=name):
                return self._literal(node, tail) if name in WORDS else Reference(at, name)
            case ast.UnaryOp(op=ast.USub()):
                return Negative(at, self.value(node.operand, False))
            case ast.UnaryOp(op=ast.UAdd()):
                return self.value(node.operand, False)
            case ast.BinOp() if type(node.op) in SIGNS:
                left, right = (self.value(side, False) for side in (node.left, node.right))
                return Arithmetic(at, SIGNS[type(node.op)], left, right)
            case ast.IfExp():
                then = self.value(node.body, tail)
                condition = self.condition(node.test)
                ends = has_no_else(self.source, node)
                return Conditional(at, condition, then, None if ends else self.value(node.orelse, tail))
            case ast.Call():
                return self._call(node, at, tail)
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                raise Refused(at, f"{self._words(node)} is a condition", "expected VALUE if CONDITION else VALUE")
        if isinstance(node, (ast.Tuple, ast.List)):
            raise Refused(at, f"{self._words(node)} is a list", "expected grid(...) of numbers in order, or choice(...)")
        what = f"expected numbers, settings, + - * / **, {', '.join(distributions.SIGNATURES)}"
        raise Refused(at, f"{self._words(node)} is not part of the language", what)

    def condition(self, node: ast.expr) -> Node:
        """Returns the tree of a condition."""
        at = place(self.source, node)
        match node:
            case ast.BoolOp(op=op, values=parts):
                sign = "and" if isinstance(op, ast.And) else "or"
                return Logic(at, sign, tuple(self.condition(part) for part in parts))
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return Logic(at, "not", (self.condition(part),))
            case ast.Compare(ops=[_, _, *_]):
                raise Refused(
                    at, f"{self._words(node)} compares twice", "expected one comparison at a time, joined by 'and'"
                )
            case ast.Compare(left=ast.Name(id=name), ops=[op], comparators=[right]) if type(op) in _COMPARED:
                several = isinstance(op, (ast.In, ast.NotIn))
                if several and not isinstance(right, (ast.Tuple, ast.List)):
                    found = f"{self._words(right)} stands after '{_COMPARED[type(op)]}'"
                    raise Refused(place(self.source, right), found, "expected values in parentheses: (a,b), or (a,) of one")
                values = right.elts if isinstance(right, (ast.Tuple, ast.List)) and several else [right]
                known = tuple(literal(self.source, value, bare=True) for value in values)
                return Comparison(at, name, _COMPARED[type(op)], known)
        raise Refused(at, f"{self._words(node)} is no condition", "expected for example optimizer==adam or batch_size>=64")

    def _call(self, node: ast.Call, at: int, tail: bool) -> Draw:
        known = distributions.SIGNATURES
        name = node.func.id if isinstance(node.func, ast.Name) else self._words(node.func).strip("'")
        if name not in known:
            raise Refused(at, f"function '{name}' is unknown", listed(name, known).removeprefix("; "))
        if node.keywords:
            came = f"{name} has a keyword argument, '{node.keywords[0].arg or '**'}'"
            raise Refused(place(self.source, node.keywords[0]), came, f"expected {known[name]}")
        arguments: list[Number | Word]
        if name in ("choice", "grid"):
            arguments = [literal(self.source, one, bare=True) for one in node.args]
        else:
            expected = f"expected {known[name]}"
            arguments = [Number(place(self.source, one), constant(self.source, one, expected)) for one in node.args]
        self.drawn[at] = distributions.create(self.source.name, name, at, arguments)
        for one in arguments:
            if isinstance(one, Word) and not tail:
                raise self._in_arithmetic(one.at, f"{one.value!r}")
        return Draw(at)

    def _literal(self, node: ast.expr, tail: bool) -> Node:
        found = literal(self.source, node, bare=False)
        if isinstance(found, Word) and not tail:
            raise self._in_arithmetic(found.at, self._words(node))
        return found

    def _in_arithmetic(self, at: int, what: str) -> Refused:
        return Refused(at, f"{what} stands in arithmetic", "expected a number")

    def _words(self, node: ast.expr) -> str:
        return words(self.source, node)
