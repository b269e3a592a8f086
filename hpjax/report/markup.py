"""Pieces of HTML: texts, names and tables, with everything in them escaped."""

import html
import math
import re
from collections.abc import Sequence
from typing import Any

from hpjax.recipe.finding import Table
from hpjax.study.axes import text_of


def text(content: object) -> str:
    """Returns a text as HTML shows it."""
    # A number stays with its sign.
    return html.escape(str(content)).replace(" %", "&nbsp;%")


def identifier(name: str) -> str:
    """Returns a name that an element may have."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def table(columns: Table) -> str:
    """Returns a table that a click on a column's head sorts."""
    kinds = [' class="n">' if _numbers(values) else ">" for values in columns.values()]
    head = "".join(f"<th{kind}{text(name)}</th>" for kind, name in zip(kinds, columns, strict=True))
    rows = zip(*([_cell(name, value) for value in values] for name, values in columns.items()), strict=True)
    body = "".join(
        "<tr>" + "".join(f"<td{kind}{text(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value)
    if name == "seconds":
        return f"{value:.1f}"
    if isinstance(value, int) and name not in ("seed", "number", "setting"):
        return f"{value:,}"
    return text_of(name, value)


def _numbers(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values)
