"""A study as Python and a notebook show it: a line, and a table of its best settings."""

import html
import math
from collections import Counter
from typing import TYPE_CHECKING

from hpjax.study.axes import text_of

if TYPE_CHECKING:
    from hpjax.study.study import Study

MOST = 5
"""Settings that the table has."""


def line(study: "Study") -> str:
    """Returns what a study is and has found, in a line."""
    counts = Counter(record.status for record in study.records)
    kinds = ", ".join(f"{count} {status}" for status, count in counts.items()) or "none"
    words = f"Study {study.path}: {len(study.records)} trials ({kinds})"
    if (best := study.best) is None:
        return f"{words}, no value yet"
    values = ", ".join(f"{name} {text_of(name, value)}" for name, value in best.values.items())
    return f"{words}, best {study.objective.name} {best.value:.4g} at {values}"


def as_html(study: "Study") -> str:
    """Returns the line and a table of the best settings, as HTML."""
    ranked = sorted(
        (one for one in study.settings_tried if not math.isnan(one.value)),
        key=lambda one: (one.status != "done", -study.objective.score(one.value), one.setting),
    )[:MOST]
    names = list(dict.fromkeys(name for one in ranked for name in one.values))
    rows = [
        [
            one.setting,
            *(text_of(name, one.values[name]) if name in one.values else "" for name in names),
            f"{one.value:.4g}",
            "" if math.isnan(one.spread) else f"{one.spread:.2g}",
            len(one.numbers),
        ]
        for one in ranked
    ]
    head = _row("th", ["setting", *names, study.objective.name, "spread", "trials"])
    return f"<p>{html.escape(line(study))}</p><table>{head}{''.join(_row('td', row) for row in rows)}</table>"


def _row(kind: str, cells: list[object]) -> str:
    return f"<tr>{''.join(f'<{kind}>{html.escape(str(cell))}</{kind}>' for cell in cells)}</tr>"
