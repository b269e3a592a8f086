"""A chart as plotly draws it: plain values, whose colours the page's script looks up (`@done`)."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from hpjax.report.chart import LEGEND_ROW, Axis, Chart, Marks, Rule, Surface, ends
from hpjax.report.ticks import log_ticks, rounded, short

HIGHLIGHT = {"mode": "lines+markers", "line": {"color": "@ink", "width": 3}, "marker": {"color": "@ink", "size": 6}}
"""The trial that is pointed at; the page's script moves it."""
RANKS = [[i / 5, f"@rank{i}"] for i in range(6)]
COUNTS = [[0.0, "@paper"], [1.0, "@done"]]


def figure(chart: Chart) -> dict[str, Any]:
    """Returns plotly's `data` and `layout`."""
    data = [_surface(chart.surface)] if chart.surface is not None else []
    spans = {which: ends(chart, which) for which in ("x", "y")}  # type: ignore[arg-type]
    data += [_trace(marks, chart) for marks in chart.marks]
    data += [_rule(rule, spans["y"] if not rule.level else spans["x"]) for rule in chart.rules]
    if chart.study:
        data.append({"x": [], "y": [], "showlegend": False, "hoverinfo": "skip", "name": "highlight", **HIGHLIGHT})
    named = [one for one in data if one.get("showlegend")]
    layout: dict[str, Any] = {
        "xaxis": _axis(chart.x, spans["x"], "x"),
        "yaxis": _axis(chart.y, spans["y"], "y"),
        "shapes": _shapes(chart, spans["x"]),
        "annotations": [_label(one) for one in chart.labels],
        "showlegend": bool(named),
        "height": chart.height + LEGEND_ROW * math.ceil(len(named) / 2),
    }
    if chart.brush:
        layout["meta"] = {"brush": True}
    return {"data": data, "layout": layout}


def plain(values: Iterable[Any]) -> list[Any]:
    """Returns numbers as JSON can hold them, with as many digits as a screen shows."""
    return [None if one is None or not math.isfinite(one) else float(f"{one:.6g}") for one in values]


def escaped(text: str) -> str:
    """Returns a text that plotly, which reads some tags, shows as it is."""
    return html.escape(text, quote=False)


def _trace(marks: Marks, chart: Chart) -> dict[str, Any]:
    colour = f"@{marks.colour}"
    trace: dict[str, Any] = {
        "type": "bar" if marks.style == "bars" else "scatter",
        "x": plain(marks.x),
        "y": plain(marks.y),
        "name": escaped(marks.name),
        "showlegend": bool(marks.name),
        "opacity": marks.opacity,
        "hovertemplate": _hover(marks, chart),
        "marker": {"color": colour},
    }
    if marks.style == "bars":
        said = [rounded(value or 0) for value in marks.x]
        trace |= {"orientation": "h", "width": 0.62, "text": said, "textposition": "auto", "textangle": 0}
        # At the bar's beginning: other marks lie at its end.
        trace["insidetextanchor"] = "start"
    else:
        trace["mode"] = {"line": "lines", "dots": "markers", "both": "lines+markers"}[marks.style]
        trace["line"] = {"color": colour, "width": marks.width, "dash": "dash" if marks.dash else "solid"}
        # Of open circles the edge is all there is: it has the marks' own colour.
        edge = {"star": {"color": "#1d2127", "width": 1.2}, "circle-open": {"width": 1.4}}.get(marks.symbol, {"width": 0})
        if marks.colour == "paper":
            edge = {"color": "@ink", "width": 0.8}
        trace["marker"] |= {"symbol": marks.symbol, "size": marks.size, "line": edge}
    if marks.spread is not None:
        trace["error_y"] = {"array": plain(marks.spread), "color": colour, "thickness": 1.2, "width": 3}
    if marks.texts is not None:
        trace["hovertext"] = [escaped(text).replace("\n", "<br>") for text in marks.texts]
    if marks.trials is not None:
        trace["customdata"] = list(marks.trials)
    return trace


def _hover(marks: Marks, chart: Chart) -> str:
    if marks.texts is not None:
        return "%{hovertext}<extra></extra>"
    lines = ["trial %{customdata}"] if marks.trials is not None else []
    for which, axis in (("x", chart.x), ("y", chart.y)):
        if axis.label:
            lines.append(f"{escaped(axis.label).replace('%', '')}: %{{{which}:.4g}}")
    return f"{'<br>'.join(lines)}<extra>{escaped(marks.name)}</extra>"


def _rule(rule: Rule, across: tuple[float, float]) -> dict[str, Any]:
    """Returns a rule as a line of its own, which the legend names and hovering finds."""
    along, at = list(across), [rule.at, rule.at]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": along if rule.level else at,
        "y": at if rule.level else along,
        "name": escaped(rule.name),
        "showlegend": True,
        "line": {"color": f"@{rule.colour}", "width": 1.6, "dash": rule.dash},
        "hovertemplate": f"{escaped(rule.name)}<extra></extra>",
    }


def _surface(surface: Surface) -> dict[str, Any]:
    rank = surface.colours == "rank"
    trace: dict[str, Any] = {
        "type": "contour" if surface.smooth else "heatmap",
        "x": plain(surface.x),
        "y": plain(surface.y),
        "z": [plain(row) for row in surface.values],
        "colorscale": RANKS if rank else COUNTS,
        "reversescale": rank and surface.reverse,
        "showscale": rank,
        "colorbar": {"title": {"text": escaped(surface.name), "side": "right"}, "thickness": 12, "outlinewidth": 0},
        "hoverinfo": "skip" if rank else "all",
        "showlegend": False,
    }
    if surface.smooth:
        trace |= {"contours": {"coloring": "fill"}, "line": {"width": 0.5, "color": "@paper"}, "ncontours": 14}
    if surface.texts is not None:
        trace |= {"text": [list(row) for row in surface.texts], "texttemplate": "%{text}", "xgap": 1, "ygap": 1}
        trace |= {"hovertemplate": "labelled %{y}<br>taken for %{x}<br>%{z} examples<extra></extra>"}
    return trace


def _axis(axis: Axis, span: Sequence[float], which: str) -> dict[str, Any]:
    found: dict[str, Any] = {"title": {"text": escaped(axis.label)}, "type": axis.scale}
    if axis.labels is not None:
        names = [escaped(_cut(label)) for label in axis.labels]
        found |= {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": which == "y", "ticks": ""}
        found["range"] = list(span)
    elif axis.scale == "log":
        places = axis.ticks or log_ticks(*span)
        found |= {"tickvals": list(places), "ticktext": [short(place) for place in places]}
        found["range"] = [math.log10(end) for end in span]
    else:
        found |= {"range": list(span), "nticks": 7} | ({} if axis.ticks is None else {"tickvals": list(axis.ticks)})
    return found


def _cut(label: str, most: int = 26) -> str:
    """Returns a name with its middle left out where it is long."""
    return label if len(label) <= most else f"{label[: most // 2 - 1]}…{label[-(most // 2) :]}"


def _shapes(chart: Chart, span: tuple[float, float]) -> list[dict[str, Any]]:
    if chart.unstable is None:
        return []
    place = {"xref": "x", "yref": "paper", "x0": chart.unstable, "x1": span[1], "y0": 0, "y1": 1}
    return [{"type": "rect", **place, "fillcolor": "@diverged", "opacity": 0.1, "line": {"width": 0}, "layer": "below"}]


def _label(label: Any) -> dict[str, Any]:
    place = {"x": label.x, "y": label.y, "text": escaped(label.text), "xanchor": label.anchor, "yanchor": "top"}
    look = {"bgcolor": "@paper", "opacity": 0.85, "borderpad": 1, "font": {"size": 10, "color": "@ink"}}
    return {**place, **look, "showarrow": False}
