"""Parallel coordinates: every setting a line through the rows of its hyperparameters, down to what it gave.

The rows lie below each other, so that they have room for their names on a phone; the lines are in groups by rank, which the
legend shows and hides, and which a few wild values do not flatten. Plotly's own picture of this kind has none of that, nor
says which trial is pointed at; its brushing is done by the page's script.
"""

import math
from typing import NamedTuple

import numpy as np

from hpjax.report.chart import Axis, Chart, Label, Marks
from hpjax.report.material import Trials, finite
from hpjax.report.places import places, spread_out
from hpjax.report.ticks import short
from hpjax.study import axes
from hpjax.study.records import SettingSummary

GROUPS = ((0.05, "best 5 %", "rank4"), (0.25, "to 25 %", "rank2"), (0.5, "to half", "rank1"), (1.0, "the rest", "stopped"))
ROW = 66
"""Pixels."""


class _Row(NamedTuple):
    name: str
    of: dict[int, float]
    marks: list[tuple[float, str]]


def parallel(trials: Trials) -> Chart | None:
    """Returns the picture of a study; None with a single setting or hyperparameter."""
    if len(trials.scales) < 2 or len(trials.settings) < 2:
        return None
    rows = [row for name in trials.scales if (row := _row(trials, name)) is not None]
    rows.append(_values(trials))
    score = trials.objective.score
    ranked = sorted(finite(trials.settings), key=lambda one: (-score(one.value), one.setting))
    marks = []
    begun = 0
    for share, words, colour in GROUPS:
        end = math.ceil(share * len(ranked))
        if own := ranked[begun:end]:
            opacity = 0.9 if share == GROUPS[0][0] else 0.45
            marks.append(_lines(own, rows, f"{words} ({len(own)})", colour, opacity))
        begun = max(begun, end)
    diverged = [one for one in trials.settings if axes.infeasible(one)]
    if diverged:
        marks.append(_lines(diverged, rows, f"diverged ({len(diverged)})", "diverged", 0.6)._replace(dash=True))
    marks.reverse()
    if (best := trials.best) is not None:
        marks.append(_lines([best], rows, f"best: {best.value:.4g}", "best", 1.0)._replace(style="both", width=3))
    labels = [Label(at, i + 0.1, text) for i, row in enumerate(rows) for at, text in row.marks]
    return Chart(
        f"{trials.step}_parallel",
        "Parallel coordinates",
        Axis("", ends=(-0.06, 1.06), labels=()),
        Axis("", labels=tuple(row.name for row in rows), ends=(len(rows) - 0.45, -0.3)),
        tuple(marks),
        labels=tuple(labels),
        caption="Every line is a setting; a click on the legend shows and hides a group. Drag along a row with the mouse to "
        "keep the settings that pass there, along others to narrow it down; a double click brings all back.",
        height=90 + ROW * len(rows),
        study=trials.step,
        brush=True,
    )


def _row(trials: Trials, name: str) -> _Row | None:
    found = [one for one in trials.settings if name in one.values]
    if not found:
        return None
    place = places(name, [one.values[name] for one in found], trials.scales[name])
    # Less wide than in a slice: the lines of one category should stay together.
    at = np.array(spread_out(place, 0.15))
    inner = np.log(at) if place.scale == "log" else at
    low, high = (float(inner.min()), float(inner.max())) if place.labels is None else (0.0, len(place.labels) - 1.0)
    unit = (inner - low) / (high - low) if high > low else np.full(len(inner), 0.5)
    if place.labels is not None:
        step = max(-(-len(place.labels) // 6), 1)
        marks = [(i / max(high, 1) if high else 0.5, place.labels[i]) for i in range(0, len(place.labels), step)]
    else:
        ends = (0.0, 0.5, 1.0) if high > low else (0.5,)
        back = [low + share * (high - low) for share in ends]
        values = [math.exp(b) if place.scale == "log" else b for b in back]
        if place.reflected:
            # The larger to the right, as everywhere.
            unit = 1 - unit
            marks = [(1 - share, f"{1 - _two(value):.4g}") for share, value in zip(ends, values, strict=True)]
        else:
            marks = [(share, short(_two(value))) for share, value in zip(ends, values, strict=True)]
    return _Row(name, dict(zip((one.setting for one in found), map(float, unit), strict=True)), marks)


def _values(trials: Trials) -> _Row:
    """Returns the row of the objective, the better to the right."""
    values = {one.setting: one.value for one in finite(trials.settings)}
    shown = axes.span(values.values(), trials.objective)
    # What lies beyond the range, which are the worst, stands at its end.
    values = {setting: min(max(value, shown.low), shown.high) for setting, value in values.items()}
    low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
    ends = (low, high) if trials.objective.maximise else (high, low)
    of = {setting: abs(value - ends[0]) / (high - low) if high > low else 0.5 for setting, value in values.items()}
    shares = (0.0, 0.5, 1.0) if high > low else (0.5,) if values else ()
    marks = [(share, f"{ends[0] + share * (ends[1] - ends[0]):.4g}") for share in shares]
    return _Row(trials.objective.name, of, marks)


def _lines(own: list[SettingSummary], rows: list[_Row], words: str, colour: str, opacity: float) -> Marks:
    x: list[float | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    for one in own:
        # A setting that a condition left out has no place in its row.
        x += [*(row.of.get(one.setting) for row in rows), None]
        y += [*range(len(rows)), None]
        numbers += [one.numbers[0]] * (len(rows) + 1)
    return Marks(words, x, y, colour, "line", width=1.2, size=6, opacity=opacity, trials=numbers)


def _two(value: float) -> float:
    return float(f"{value:.2g}")
