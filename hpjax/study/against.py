"""The objective against one hyperparameter."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpjax.objective import Objective
from hpjax.schedules.draw import figure_of
from hpjax.study import axes, table
from hpjax.study.axes import BEST, COLOURS, DIVERGED, DONE, INK, STOPPED, Scale
from hpjax.study.records import SettingSummary, TrialRecord

MANY = 200
"""Settings above which their trials and spreads are left out and the dots are small."""

_GOLDEN = (math.sqrt(5) - 1) / 2


def against(
    records: Sequence[TrialRecord],
    summaries: Sequence[SettingSummary],
    objective: Objective,
    name: str,
    scale: Scale = "linear",
) -> Any:
    """Returns a figure of the objective against a hyperparameter.

    A dot is a setting: the value over its seeds and folds, its line their standard deviation, small dots the trials.
    Settings that were stopped, or have not ended, are grey, infeasible ones crosses at the bottom, and the best is a star.

    Args:
      records: a study's trials.
      summaries: its hyperparameter settings.
      objective: what best means.
      name: a varied hyperparameter.
      scale: how its axis is drawn.
    """
    figure, grid = figure_of(1, 1, (7.0, 4.4))
    axis = grid.ravel()[0]
    found = [one for one in summaries if name in one.values]
    place = axes.places(name, [one.values[name] for one in found], scale)
    x = dict(zip((one.setting for one in found), _side_by_side(place).tolist(), strict=True))
    replicated = any(len(one.numbers) > 1 for one in found)
    replicated = replicated and len(found) <= MANY
    trials = [r for r in records if replicated and r.setting in x and math.isfinite(r.objective)]
    _trials(axis, trials, x)
    infeasible = [x[one.setting] for one in found if axes.infeasible(one)]
    feasible = [one for one in found if math.isfinite(one.value)]
    handles = [
        *_settings(axis, [one for one in feasible if one.status != "done"], x, STOPPED, "stopped or not ended", len(found)),
        *_settings(axis, [one for one in feasible if one.status == "done"], x, DONE, "done", len(found)),
        *_infeasible(axis, infeasible),
        *_best(axis, table.best(found, objective), x, name, table.best(summaries, objective)),
    ]
    axes.dress(axis)
    axes.show_places(axis, "x", name, place)
    values = [one.value for one in feasible] + [one.objective for one in trials]
    axes.show_values(axis, values, objective, foot=bool(infeasible))
    axis.set_title(_title(summaries, found, name, replicated), loc="left", fontsize=9)
    axes.legend(figure, handles)
    return figure


def _side_by_side(place: axes.Places) -> np.ndarray:
    """Returns the places, those of one category spread over its width so that they can be told apart."""
    if place.labels is None or len(place.of) <= len(place.labels):
        return place.of
    seen: dict[float, int] = {}
    shifts = []
    for at in place.of.tolist():
        # Multiples of the golden ratio fill the width evenly, however many there are.
        shifts.append((seen.get(at, 0) * _GOLDEN + 0.5) % 1 - 0.5)
        seen[at] = seen.get(at, 0) + 1
    return place.of + 0.6 * np.array(shifts)


def _trials(axis: Any, trials: list[TrialRecord], x: dict[int, float]) -> None:
    at, values = [x[one.setting] for one in trials], [one.objective for one in trials]
    colours = [COLOURS.get(one.status, STOPPED) for one in trials]
    axis.scatter(at, values, s=7, c=colours, alpha=0.45, linewidths=0)


def _settings(axis: Any, own: list[SettingSummary], x: dict[int, float], colour: str, words: str, among: int) -> list[Any]:
    """Draws settings with their spread; returns their mark for the legend, if there are any."""
    if not own:
        return []
    at, values = [x[one.setting] for one in own], [one.value for one in own]
    spread = [one.spread if math.isfinite(one.spread) else 0.0 for one in own]
    size, alpha = (10, 0.45) if among > MANY else (28, 0.9)
    if among <= MANY:
        axis.errorbar(at, values, spread, fmt="none", ecolor=colour, elinewidth=0.9, alpha=0.6 * alpha)
    axis.scatter(at, values, s=size, color=colour, alpha=alpha, linewidths=0, zorder=3)
    return [axes.mark("o", colour, f"{words} ({len(own)})")]


def _infeasible(axis: Any, at: list[float]) -> list[Any]:
    """Draws crosses at the foot of the picture, whatever the objective's range."""
    if not at:
        return []
    foot = np.full(len(at), axes.FOOT / 2)
    axis.scatter(at, foot, transform=axis.get_xaxis_transform(), marker="x", s=26, color=DIVERGED, linewidths=1.2, zorder=4)
    return [axes.mark("x", DIVERGED, f"diverged ({len(at)})")]


def _best(
    axis: Any, best: SettingSummary | None, x: dict[int, float], name: str, winner: SettingSummary | None
) -> list[Any]:
    """Marks the best setting that has the hyperparameter; the study's winner may be one without it."""
    if best is None:
        axis.text(0.5, 0.5, "no setting has a value", transform=axis.transAxes, ha="center", color=INK)
        return []
    axis.scatter(x[best.setting], best.value, s=150, marker="*", color=BEST, edgecolor=INK, zorder=5)
    words = "best" if winner is None or winner.setting == best.setting else f"best with {name}"
    return [axes.mark("*", BEST, f"{words}: {axes.text_of(name, best.values[name])} gives {best.value:.4g}")]


def _title(summaries: Sequence[SettingSummary], found: list[SettingSummary], name: str, replicated: bool) -> str:
    without = len(summaries) - len(found)
    words = [f"{len(found)} settings", f"{without} have no {name}" if without else ""]
    words += ["line: standard deviation over seeds and folds" if replicated else ""]
    return "; ".join(word for word in words if word)
