"""A chart as matplotlib draws it, for a repository."""

import math
from typing import Any

from hpjax.report.chart import Axis, Chart, Marks, ends
from hpjax.report.ticks import log_ticks, short
from hpjax.schedules.draw import figure_of
from hpjax.study import axes

COLOURS = {
    **{"done": axes.DONE, "diverged": axes.DIVERGED, "best": axes.BEST, "stopped": axes.STOPPED, "ink": axes.INK},
    **{"muted": "#5b626b", "second": "#009E73", "third": "#CC79A7", "paper": "#ffffff"},
    **dict(
        zip((f"rank{i}" for i in range(6)), ("#440154", "#3b528b", "#21918c", "#3fa85b", "#8cb93a", "#c9b72b"), strict=True)
    ),
}
"""Okabe and Ito's palette, and viridis for what has an order: any colour vision tells them apart, in print too."""
_SYMBOLS = {"circle": "o", "circle-open": "o", "x": "x", "star": "*"}
_BEHIND = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.8}
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def figure(chart: Chart) -> Any:
    """Returns a matplotlib figure."""
    wide = (4.8 if chart.square else 7.0, max(chart.height / 90, 2.0))
    drawn, grid = figure_of(1, 1, wide)
    axis = grid.ravel()[0]
    axes.dress(axis)
    if chart.surface is not None:
        _cells(axis, chart)
    handles = [_marks(axis, marks) for marks in chart.marks]
    for rule in chart.rules:
        line = axis.axhline if rule.level else axis.axvline
        look = {"color": COLOURS[rule.colour], "linestyle": _DASHES[rule.dash], "linewidth": 1.2}
        handles.append(line(rule.at, label=_text(rule.name), **look))
    for which in ("x", "y"):
        _axis(axis, getattr(chart, which), ends(chart, which), which)  # type: ignore[arg-type]
    if chart.unstable is not None:
        axis.axvspan(chart.unstable, ends(chart, "x")[1], color=COLOURS["diverged"], alpha=0.1, linewidth=0)
    for one in chart.labels:
        axis.text(one.x, one.y, _text(one.text), ha=one.anchor, va="top", fontsize=7, color=COLOURS["muted"], bbox=_BEHIND)
    axis.set_title(_text(chart.title), loc="left", fontsize=9)
    named = [handle for handle in handles if handle is not None and not str(handle.get_label()).startswith("_")]
    if named:
        drawn.legend(handles=named, loc="outside lower center", ncols=min(len(named), 3), fontsize=8, frameon=False)
    return drawn


def _marks(axis: Any, marks: Marks) -> Any:
    name = _text(marks.name) or "_"
    x, y = ([math.nan if value is None else value for value in values] for values in (marks.x, marks.y))
    colour = COLOURS[marks.colour]
    if marks.style == "bars":
        return axis.barh(y, x, height=0.62, color=colour, label=name)
    look: dict[str, Any] = {"color": colour, "alpha": marks.opacity, "label": name}
    look["linestyle"] = "none" if marks.style == "dots" else "--" if marks.dash else "-"
    if marks.style != "line":
        look |= {"marker": _SYMBOLS[marks.symbol], "markersize": 0.7 * marks.size}
        look["markeredgecolor"] = COLOURS["ink"] if marks.symbol == "star" else colour
        look["markerfacecolor"] = "none" if marks.symbol == "circle-open" else colour
    if marks.spread is not None:
        axis.errorbar(x, y, marks.spread, fmt="none", ecolor=colour, elinewidth=0.9)
    return axis.plot(x, y, linewidth=0.8 * marks.width, **look)[0]


def _cells(axis: Any, chart: Chart) -> None:
    assert chart.surface is not None
    from matplotlib.colors import LinearSegmentedColormap

    cells = [[math.nan if value is None else value for value in row] for row in chart.surface.values]
    colours = LinearSegmentedColormap.from_list("count", [COLOURS["paper"], COLOURS["done"]])
    axis.imshow(cells, cmap=colours, aspect="auto")
    axis.grid(visible=False)
    most = max((value for row in cells for value in row), default=0)
    for r, row in enumerate(chart.surface.texts or ()):
        for c, text in enumerate(row):
            axis.text(
                c, r, text, ha="center", va="center", fontsize=7, color="white" if cells[r][c] > most / 2 else axes.INK
            )


def _axis(axis: Any, given: Axis, span: tuple[float, float], which: str) -> None:
    getattr(axis, f"set_{which}label")(_text(given.label))
    getattr(axis, f"set_{which}scale")(given.scale)
    getattr(axis, f"set_{which}lim")(*span)
    if given.labels is not None:
        slanted = which == "x" and sum(map(len, given.labels)) > 60
        rotation = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        getattr(axis, f"set_{which}ticks")(range(len(given.labels)), map(_text, given.labels), fontsize=8, **rotation)
    elif given.scale == "log":
        places = given.ticks or log_ticks(*span)
        getattr(axis, f"set_{which}ticks")(places, [short(place) for place in places])
        getattr(axis, f"set_{which}ticks")([], minor=True)


def _text(text: str) -> str:
    """Returns a text in which matplotlib finds no formulas."""
    return text.replace("$", r"\$")
