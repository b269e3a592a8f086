"""A picture of the report as data: drawn twice, by plotly on the page and by matplotlib for a repository.

Colours are names (`done`, `diverged`, `rank0`), which the page looks up again when a reader's theme changes.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

LEGEND_ROW = 21
"""Pixels."""


class Axis(NamedTuple):
    """An axis.

    Attributes:
      label: what stands beside it.
      scale: how values are placed.
      labels: names of the places 0, 1, 2, ...; None for numbers.
      ends: the range that is shown; None for that of all marks, with some room.
      ticks: places of the marks, none of an axis that nothing has a place on; None for a few round numbers.
    """

    label: str
    scale: Literal["linear", "log"] = "linear"
    labels: tuple[str, ...] | None = None
    ends: tuple[float, float] | None = None
    ticks: tuple[float, ...] | None = None


class Marks(NamedTuple):
    """Lines, dots or bars of one kind; a gap in a line is None.

    Attributes:
      name: for the legend; empty for none.
      x: places.
      y: places.
      colour: its name.
      style: how it is drawn.
      symbol: of dots.
      size: of dots, pixels.
      width: of lines, pixels.
      opacity: from 0 to 1.
      dash: whether lines are dashed.
      spread: half the length of an error bar along y for each place; None for no bars.
      texts: what hovering says of each; None for its coordinates.
      trials: the trial that each belongs to; None where there is none.
    """

    name: str
    x: Sequence[float | None]
    y: Sequence[float | None]
    colour: str = "done"
    style: Literal["line", "dots", "both", "bars"] = "both"
    symbol: Literal["circle", "circle-open", "x", "star"] = "circle"
    size: float = 7
    width: float = 2
    opacity: float = 1
    dash: bool = False
    spread: Sequence[float] | None = None
    texts: Sequence[str] | None = None
    trials: Sequence[int | None] | None = None


class Rule(NamedTuple):
    """An upright line across the picture, or a level one.

    Attributes:
      at: where.
      name: for the legend.
      colour: its name.
      dash: how it is dashed.
      level: whether it is level.
    """

    at: float
    name: str
    colour: str = "ink"
    dash: Literal["solid", "dash", "dot", "dashdot"] = "dash"
    level: bool = False


class Label(NamedTuple):
    """A few characters in the picture."""

    x: float
    y: float
    text: str
    anchor: Literal["left", "center", "right"] = "center"


class Surface(NamedTuple):
    """Values over a grid of places.

    Attributes:
      x: places of the columns.
      y: places of the rows.
      values: [rows][columns]; None where nothing is known.
      name: what they are.
      smooth: whether lines of equal value are drawn; else each cell is filled.
      colours: `rank` for a scale from bad to good, `count` for one from none to many.
      reverse: whether less is better.
      texts: what stands in each cell; None for nothing.
    """

    x: Sequence[float]
    y: Sequence[float]
    values: Sequence[Sequence[float | None]]
    name: str
    smooth: bool = True
    colours: Literal["rank", "count"] = "rank"
    reverse: bool = False
    texts: Sequence[Sequence[str]] | None = None


class Chart(NamedTuple):
    """A picture.

    Attributes:
      key: its file's name.
      title: what it shows, a few words.
      x: the level axis.
      y: the upright axis; one with labels runs downwards, as a list does.
      marks: what is drawn, the last in front.
      rules: lines across.
      unstable: where, along x, a region begins that is shaded; None for none.
      labels: texts.
      surface: values behind the marks.
      caption: a sentence below.
      height: pixels.
      square: whether it is as wide as it is high.
      study: the step whose trials are hovered over; empty for none.
      brush: whether dragging along a row of the y axis leaves only the trials that pass there.
    """

    key: str
    title: str
    x: Axis
    y: Axis
    marks: tuple[Marks, ...] = ()
    rules: tuple[Rule, ...] = ()
    unstable: float | None = None
    labels: tuple[Label, ...] = ()
    surface: Surface | None = None
    caption: str = ""
    height: int = 380
    square: bool = False
    study: str = ""
    brush: bool = False


def ends(chart: Chart, which: Literal["x", "y"]) -> tuple[float, float]:
    """Returns the range of an axis: its own, or all of the marks and rules with some room; (1, 0) runs backwards."""
    axis: Axis = getattr(chart, which)
    if axis.ends is not None:
        return axis.ends
    if axis.labels is not None:
        found = (-0.6, max(len(axis.labels), 1) - 0.4)
        return found if which == "x" else (found[1], found[0])
    rules = [rule.at for rule in chart.rules if rule.level == (which == "y")]
    values = [value for marks in chart.marks for value in getattr(marks, which)]
    if which == "y":
        bars = [(y, by) for marks in chart.marks for y, by in zip(marks.y, marks.spread or (), strict=False)]
        values += [y + sign * by for y, by in bars if y is not None for sign in (-1, 1)]
    if any(marks.style == "bars" for marks in chart.marks) and axis.scale == "linear":
        values.append(0.0)
    if chart.surface is not None:
        values += list(getattr(chart.surface, which))
    return room([*values, *rules], axis.scale)


def room(values: Iterable[float | None], scale: str) -> tuple[float, float]:
    """Returns the range of some values with a little room on both sides; what has no place on the axis is left out."""
    log = scale == "log"
    found = [value for value in values if value is not None and math.isfinite(value) and (value > 0 or not log)]
    if not found:
        return (0.1, 10.0) if log else (0.0, 1.0)
    low, high = (math.log10(end) if log else end for end in (min(found), max(found)))
    more = 0.05 * (high - low) or (0.5 if log else 0.05 * abs(high) or 0.5)
    if log:
        return 10 ** (low - more), 10 ** (high + more)
    # Nothing below 0 where there is nothing below 0: a loss, a share, seconds.
    return (0.0 if low >= 0 > low - more else low - more), high + more


def positive(values: Iterable[float | None]) -> bool:
    """Returns whether a log axis can show some values: there are some, and all that are finite are above 0."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    return bool(found) and min(found) > 0
