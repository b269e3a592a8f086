"""A map of the objective over two hyperparameters."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpjax.objective import Objective
from hpjax.schedules.draw import figure_of
from hpjax.study import axes, table
from hpjax.study.axes import BEST, DIVERGED, INK, Places, Scale
from hpjax.study.records import SettingSummary

MOST_VALUES = 12
"""Values of a hyperparameter that have a cell each; more are put into bins of equal width."""


def heat_map(summaries: Sequence[SettingSummary], objective: Objective, x: str, y: str, scales: Mapping[str, Scale]) -> Any:
    """Returns a figure of the objective's median over settings, in cells of two hyperparameters.

    Every setting is a dot, infeasible ones are crosses, and the best is a star; a cell without settings is empty.

    Args:
      summaries: a study's hyperparameter settings.
      objective: what best means.
      x: a varied hyperparameter.
      y: another.
      scales: how their axes are drawn.
    """
    figure, grid = figure_of(1, 1, (6.4, 5.0))
    axis = grid.ravel()[0]
    found = [one for one in summaries if x in one.values and y in one.values]
    values = np.array([one.value for one in found], np.float64)
    across = axes.places(x, [one.values[x] for one in found], scales.get(x, "linear"))
    up = axes.places(y, [one.values[y] for one in found], scales.get(y, "linear"))
    finite = np.isfinite(values)
    if finite.any():
        edges = [_edges(place, int(finite.sum())) for place in (across, up)]
        cells = _medians(across.of[finite], up.of[finite], values[finite], *edges)
        shown = axes.span(values, objective)
        colours = "viridis" if objective.maximise else "viridis_r"
        low, high = max(shown.low, float(np.nanmin(cells))), min(shown.high, float(np.nanmax(cells)))
        mesh = axis.pcolormesh(*edges, cells.T, cmap=colours, vmin=low, vmax=high)
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
        beyond = extend[bool(np.nanmin(cells) < low), bool(np.nanmax(cells) > high)]
        figure.colorbar(mesh, ax=axis, label=axes.better(objective), extend=beyond)
        size, width = (9, 0.5) if len(found) <= 200 else (3, 0.3)
        axis.scatter(across.of[finite], up.of[finite], s=size, color="white", edgecolor=INK, linewidths=width)
    if (~finite).any():
        axis.scatter(across.of[~finite], up.of[~finite], s=24, marker="x", color=DIVERGED, linewidths=1.2)
    best = table.best(found, objective)
    if best is not None:
        at = found.index(best)
        axis.scatter(across.of[at], up.of[at], s=170, marker="*", color=BEST, edgecolor=INK, zorder=5)
    axes.show_places(axis, "x", x, across)
    axes.show_places(axis, "y", y, up)
    winner = table.best(summaries, objective)
    among = "" if best is None or winner is None or winner.setting == best.setting else " of these"
    marks = f"star: best{among}" + ("; crosses: without a value" if (~finite).any() else "")
    axis.set_title(f"{len(found)} settings, median in each cell; {marks}", loc="left", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def telling_pair(summaries: Sequence[SettingSummary], objective: Objective, scales: Mapping[str, Scale]) -> tuple[str, str]:
    """Returns the two hyperparameters whose cells tell most of the objective's variance, by rank against outliers."""
    finite = [one for one in summaries if math.isfinite(one.value)]
    ranks = {one.setting: float(i) for i, one in enumerate(sorted(finite, key=lambda one: objective.score(one.value)))}

    def told(name: str) -> float:
        """Returns the share of the variance that lies between a hyperparameter's cells."""
        own = [one for one in finite if name in one.values]
        if len(own) < 2:
            return 0.0
        place = axes.places(name, [one.values[name] for one in own], scales[name])
        edges = _edges(place, len(own), most=5)
        cell = np.clip(np.searchsorted(edges, place.of, side="right") - 1, 0, len(edges) - 2)
        rank = np.array([ranks[one.setting] for one in own])
        means = np.array([rank[cell == c].mean() for c in cell])
        return float(means.var() / max(rank.var(), 1e-12))

    told_by = {name: told(name) for name in scales}
    return max(itertools.combinations(scales, 2), key=lambda pair: told_by[pair[0]] + told_by[pair[1]])


def _edges(place: Places, count: int, most: int = MOST_VALUES) -> np.ndarray:
    """Returns the borders of the cells: around each value where there are few, else of equal width on the axis' scale."""
    if place.labels is not None:
        return np.arange(len(place.labels) + 1) - 0.5
    log = place.scale == "log"
    at = np.log(place.of) if log else place.of
    values = np.unique(at)
    if len(values) == 1:
        edges = np.array([values[0] - 0.5, values[0] + 0.5])
    elif len(values) <= most:
        middle = (values[1:] + values[:-1]) / 2
        edges = np.concatenate([[1.5 * values[0] - 0.5 * values[1]], middle, [1.5 * values[-1] - 0.5 * values[-2]]])
    else:
        # About three settings a cell, were they even.
        bins = int(np.clip(round(math.sqrt(count / 3)), 3, most))
        edges = np.linspace(values[0], values[-1], bins + 1)
    return np.exp(edges) if log else edges


def _medians(x: np.ndarray, y: np.ndarray, values: np.ndarray, across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Returns the cells' medians, [across, up]; NaN where there is nothing."""
    column = np.clip(np.searchsorted(across, x, side="right") - 1, 0, len(across) - 2)
    row = np.clip(np.searchsorted(up, y, side="right") - 1, 0, len(up) - 2)
    cells = np.full((len(across) - 1, len(up) - 1), np.nan)
    for c, r in set(zip(column.tolist(), row.tolist(), strict=True)):
        cells[c, r] = np.median(values[(column == c) & (row == r)])
    return cells
