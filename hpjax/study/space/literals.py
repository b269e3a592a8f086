"""Numbers, words and quoted texts: what stands in a choice and on the right of a comparison."""

import ast
import math

from hpjax.study.space.expressions import ARITHMETIC, apply
from hpjax.study.space.source import Refused, Source
from hpjax.study.space.syntax import QUOTES, WORDS, place, words
from hpjax.study.space.tree import Number, Word

SIGNS: dict[type, str] = dict(zip((ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow), ARITHMETIC, strict=True))


def literal(source: Source, node: ast.expr, *, bare: bool) -> Number | Word:
    """Returns a number, a quoted text, true, false or none; with `bare` a word without quotes too.

    Raises:
      Refused: it is none of these, an empty text, or not finite.
    """
    at = place(source, node)
    match node:
        case ast.Constant(value=None | bool()):
            return Word(at, node.value)  # type: ignore[arg-type]
        case ast.Constant(value=str() as text):
            if not text:
                raise Refused(at, "an empty text", "expected a number, a word or a text in quotes")
            return Word(at, text)
        case ast.Constant(value=int() | float() as value):
            return Number(at, _finite(source, node, value))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float() as value)):
            if not isinstance(value, bool):
                value = _finite(source, node, value)
                return Number(at, -value if isinstance(node.op, ast.USub) else value)
        case ast.Name(id=("nan" | "inf") as name):
            raise Refused(at, f"'{name}' is no finite number", "expected a number, or in a choice none for no limit")
        case ast.Name(id=name) if name in WORDS:
            return Word(at, WORDS[name])
        case ast.Name(id=name) if bare:
            return Word(at, name)
    raise Refused(at, f"{words(source, node)} is no number and no plain word", f"expected for example choice(1,2); {QUOTES}")


def constant(source: Source, node: ast.expr, expected: str) -> float:
    """Returns the number that an expression without settings and distributions comes to: `2**-10`, for example.

    Args:
      source: the text.
      node: the expression.
      expected: what messages say was expected.

    Raises:
      Refused: it is none, or not finite.
    """
    at = place(source, node)
    match node:
        case ast.UnaryOp(op=ast.USub()):
            return -constant(source, node.operand, expected)
        case ast.BinOp() if type(node.op) in SIGNS:
            left, right = (constant(source, side, expected) for side in (node.left, node.right))
            return apply(at, SIGNS[type(node.op)], left, right)
        case ast.Constant() | ast.UnaryOp() | ast.Name(id="nan" | "inf"):
            found = literal(source, node, bare=False)
            if isinstance(found, Number):
                return found.value
    raise Refused(at, f"{words(source, node)} is no number", expected)


def _finite(source: Source, node: ast.expr, value: int | float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Refused(place(source, node), f"{words(source, node)} is no finite number", "expected a smaller one")
    return number
