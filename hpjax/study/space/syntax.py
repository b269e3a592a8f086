"""An expression as Python's parser reads it, with places in characters, and its one spelling."""

import ast
import keyword
import re
import warnings

from hpjax.study.space.source import Refused, Source

WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}
"""Words that are not texts."""

MOST_NESTED = 100
"""Depth of an expression."""

QUOTES = "a text that is no plain word goes in quotes, '3epochs'"
EXAMPLES = f"expected for example log(1e-4,1), 1-log(1e-3,0.5), choice(1,2); {QUOTES}"
# What follows a conditional that has no `else`: Python needs one.
_NO_ELSE = " else ..."


def read(source: Source) -> ast.expr:
    """Returns Python's tree of an expression; the last conditional, where it has no `else`, has `...` there.

    Raises:
      Refused: Python cannot read it, or something stands behind it.
    """
    errors = []
    for text in (source.expression, source.expression + _NO_ELSE):
        try:
            with warnings.catch_warnings():
                # `1if x` is a warning to Python.
                warnings.simplefilter("ignore")
                body = ast.parse(text, mode="eval").body
        except SyntaxError as error:
            errors.append(error)
            continue
        except (RecursionError, MemoryError, ValueError):
            raise Refused(source.start, "an expression that cannot be read", "expected a simpler one") from None
        # Python drops a comment.
        rest = text[_characters(text, body.end_col_offset or 0) :].lstrip(" )")
        if rest:
            raise Refused(source.start + len(text) - len(rest), f"'{rest}' is not read", "expected the end of the text")
        _check_depth(source, body)
        return body
    raise _unreadable(source, errors[-1] if "'else'" in errors[0].msg else errors[0])


def place(source: Source, node: ast.expr | ast.keyword) -> int:
    """Returns the place of a node's first character in the whole text, from 1."""
    return source.start + _characters(source.expression, node.col_offset)


def words(source: Source, node: ast.expr) -> str:
    """Returns a node as it is written, in quotes."""
    text = ast.get_source_segment(source.expression, node) or ast.unparse(node)
    return text if text[0] in "'\"" else f"'{text}'"


def has_no_else(source: Source, node: ast.IfExp) -> bool:
    """Returns whether a conditional was written without `else`."""
    return node.orelse.col_offset >= len(source.expression.encode())


def is_plain(word: str) -> bool:
    """Returns whether a text needs no quotes where words are allowed."""
    known = word in WORDS or word in ("nan", "inf")
    return word.isascii() and word.isidentifier() and not keyword.iskeyword(word) and not known


def normal(body: ast.expr) -> str:
    """Returns an expression's one spelling: spaces, quotes, parentheses and zeros do not make it another."""
    return ast.unparse(_Normal().visit(body)).removesuffix(_NO_ELSE)


class _Normal(ast.NodeTransformer):
    """Whole numbers without a fraction, quotes only where they are needed, true, false and none in small letters."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, bool) or node.value is None:
            return ast.Name(str(node.value).lower())
        if isinstance(node.value, float) and node.value.is_integer() and abs(node.value) < 1e15:
            return ast.Constant(int(node.value))
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        node.args = [self._word(one) for one in node.args]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        node.comparators = [self._word(one) for one in node.comparators]
        return node

    def _word(self, node: ast.expr) -> ast.expr:
        if isinstance(node, (ast.Tuple, ast.List)):
            return ast.Tuple([self._word(one) for one in node.elts])
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_plain(node.value):
            return ast.Name(node.value)
        result: ast.expr = self.visit(node)
        return result


def _check_depth(source: Source, body: ast.expr) -> None:
    """Raises Refused before anything that calls itself would go too deep."""
    level: list[ast.AST] = [body]
    for _ in range(MOST_NESTED):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise Refused(source.start, f"an expression nested deeper than {MOST_NESTED}", "expected a simpler one")


def _unreadable(source: Source, error: SyntaxError) -> Refused:
    # What stands in quotes is no parenthesis and no sign.
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", lambda quoted: "_" * len(quoted[0]), source.expression)
    open_at = []
    for index, character in enumerate(bare):
        if character in "([{":
            open_at.append(index)
        elif character in ")]}" and open_at:
            open_at.pop()
    if open_at:
        return Refused(source.start + open_at[-1], "a parenthesis that is never closed", "expected ')'")
    single = re.search(r"(?<![=!<>])=(?!=)", bare)
    if single:
        return Refused(
            source.start + single.start(), "a single '='", "expected '==' in a condition, '=' behind the name only"
        )
    # Python says 0 where it came to the end.
    index = min(error.offset - 1 if error.offset else len(source.expression), len(source.expression))
    rest = source.expression[index:]
    came = f"'{rest}' cannot be read" if rest else "the expression ends too early"
    return Refused(source.start + index, came, EXAMPLES)


def _characters(text: str, offset: int) -> int:
    """Returns an index of characters from Python's, which counts bytes."""
    return len(text.encode()[:offset].decode())
