"""The learning curves of a study."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpjax.objective import Objective
from hpjax.schedules.draw import figure_of
from hpjax.study import axes, table
from hpjax.study.axes import BEST, COLOURS, INK
from hpjax.study.records import SettingSummary, TrialRecord

_WORDS = {"stopped": "stopped or not ended", "diverged": "diverged", "done": "done"}


def learning_curves(records: Sequence[TrialRecord], summaries: Sequence[SettingSummary], objective: Objective) -> Any:
    """Returns a figure of every trial's evaluations, the best setting's in front; a cross is where a trial diverged.

    Args:
      records: a study's trials.
      summaries: its hyperparameter settings.
      objective: what best means.
    """
    figure, grid = figure_of(1, 1, (8.0, 4.6))
    axis = grid.ravel()[0]
    best = table.best(summaries, objective)
    front = set() if best is None else set(best.numbers)
    handles = []
    for status, words in _WORDS.items():
        own = [record for record in records if _fate(record) == status]
        _behind(axis, [_curve(record) for record in own if record.number not in front], status, len(records))
        if own:
            handles.append(
                axes.mark("x" if status == "diverged" else "", COLOURS[status], f"{words} ({len(own)})", line=True)
            )
    for record in records:
        if record.number in front:
            curve = _curve(record).T
            axis.plot(*curve, color=INK, linewidth=3.0, zorder=4)
            axis.plot(*curve, color=BEST, linewidth=1.7, marker="o", markersize=3, zorder=5)
    if best is not None:
        handles.append(axes.mark("o", BEST, f"best: setting {best.setting}, {best.value:.4g}", line=True))
    axes.dress(axis)
    axis.set_xlim(0, 1.02 * max((one.step for record in records for one in record.curve), default=1))
    axes.show_values(axis, [one.value for record in records for one in record.curve], objective, said=False)
    axis.set_xlabel("step")
    axis.set_title(f"{len(records)} trials", loc="left", fontsize=9)
    axes.legend(figure, handles)
    return figure


def _fate(record: TrialRecord) -> str:
    return record.status if record.status in ("done", "diverged") else "stopped"


def _behind(axis: Any, curves: list[np.ndarray], status: str, among: int) -> None:
    """Draws curves as one collection: a line each would take minutes for ten thousand."""
    from matplotlib.collections import LineCollection

    colour, alpha = COLOURS[status], float(np.clip(30 / max(among, 1), 0.015, 0.7))
    lines = [curve for curve in curves if len(curve) > 1]
    axis.add_collection(LineCollection(lines, colors=colour, linewidths=0.8, alpha=alpha), autolim=False)
    # One evaluation alone is no line.
    marked = [curve[-1] for curve in curves if len(curve) == 1 or (len(curve) and status == "diverged")]
    if marked:
        marker, width = ("x", 1.0) if status == "diverged" else (".", 0.0)
        axis.scatter(*np.array(marked).T, marker=marker, s=18, color=colour, alpha=min(1.0, 4 * alpha), linewidths=width)


def _curve(record: TrialRecord) -> np.ndarray:
    """Returns steps and values, [evaluations, 2], without what is not finite."""
    points = [(measured.step, measured.value) for measured in record.curve if math.isfinite(measured.value)]
    return np.array(points, np.float64).reshape(-1, 2)
