"""What the pictures of a study share: colours, scales, and a range that a few wild values do not flatten."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from hpjax.objective import Objective
from hpjax.study.as_optuna import shown
from hpjax.study.records import ENDED, SettingSummary

Scale = Literal["log", "reflected", "linear", "category"]
"""How a hyperparameter's axis is drawn; `reflected`: by the logarithm of 1 minus the value, as momentum is searched."""

# Okabe and Ito's palette, which people with any colour vision can tell apart.
DONE, DIVERGED, BEST, STOPPED, INK = "#0072B2", "#D55E00", "#E69F00", "#8a8f98", "#222222"
COLOURS = {"done": DONE, "stopped": STOPPED, "diverged": DIVERGED}
FOOT = 0.08
"""Room for marks without a value, as a share of the objective's range."""
CLIPPED_BEYOND = 5.0
"""Times the distance from the median to the best that the worst may lie beyond the median without being cut off."""


class Span(NamedTuple):
    """A range of the objective that a picture shows.

    Attributes:
      low: its lower end.
      high: its upper end.
      outside: how many values lie beyond it.
    """

    low: float
    high: float
    outside: int


def span(values: Iterable[float], objective: Objective) -> Span:
    """Returns the range to show: all values, or, where the worst are wild, those up to a few times the best's distance."""
    found = np.array([value for value in values if math.isfinite(value)], np.float64)
    if not len(found):
        return Span(0.0, 1.0, 0)
    low, high, middle = float(found.min()), float(found.max()), float(np.median(found))
    best, worst = (high, low) if objective.maximise else (low, high)
    reach = abs(best - middle)
    if reach and abs(worst - middle) > CLIPPED_BEYOND * reach:
        worst = middle + math.copysign(CLIPPED_BEYOND * reach, worst - middle)
        low, high = min(best, worst), max(best, worst)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return Span(low - room, high + room, int(((found < low) | (found > high)).sum()))


def show_values(axis: Any, values: Sequence[float], objective: Objective, *, said: bool = True, foot: bool = False) -> None:
    """Sets the upright axis to the objective: range, label, and a note on what lies beyond the range.

    Args:
      axis: the axes.
      values: what is drawn along it.
      objective: what best means.
      said: whether there is to be a note.
      foot: whether room is left at the bottom for marks that have no value.
    """
    found = span(values, objective)
    axis.set_ylim(found.low - (FOOT * (found.high - found.low) if foot else 0.0), found.high)
    if foot:
        axis.axhline(found.low, color=STOPPED, linewidth=0.6, linestyle=(0, (2, 3)))
    axis.set_ylabel(better(objective))
    if not any(map(math.isfinite, values)):
        axis.set_yticks([])
    if found.outside and said:
        axis.set_title(f"{found.outside} values beyond the range", loc="right", fontsize=8)


def better(objective: Objective) -> str:
    """Returns the objective's name with the direction that is better."""
    return f"{objective.name} ({'more' if objective.maximise else 'less'} is better)"


def infeasible(one: SettingSummary) -> bool:
    """Returns whether a setting has come to no value."""
    return not math.isfinite(one.value) and one.status in ENDED


def mark(marker: str, colour: str, label: str, line: bool = False) -> Any:
    """Returns a legend's mark."""
    from matplotlib.lines import Line2D

    edge = INK if marker == "*" else colour
    return Line2D(
        [], [], color=colour, marker=marker or None, linestyle="-" if line else "none", label=label, markeredgecolor=edge
    )


def legend(figure: Any, handles: list[Any]) -> None:
    """Puts the legend below the picture, where it hides nothing."""
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)


def text_of(name: str, value: Any) -> str:
    """Returns a setting's value in a few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(shown(name, value))


class Places(NamedTuple):
    """Where a hyperparameter's values stand on an axis.

    Attributes:
      of: a place for each value.
      scale: `log`, or `linear`.
      labels: a label for each whole place where the values are categories; None for numbers.
      reflected: whether a place is 1 minus the value.
    """

    of: np.ndarray
    scale: Literal["log", "linear"]
    labels: list[str] | None
    reflected: bool = False


def places(name: str, values: Sequence[Any], scale: Scale) -> Places:
    """Returns where values stand: numbers at themselves, anything else side by side."""
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if scale != "category" and numbers:
        of = np.array(values, np.float64)
        if scale == "reflected" and bool((of < 1).all()):
            return Places(1 - of, "log", None, reflected=True)
        # An enqueued 0 has no place on a log axis.
        return Places(of, "log" if scale == "log" and bool((of > 0).all()) else "linear", None)
    # Numbers by size, the rest in the order in which it comes.
    kinds = list(dict.fromkeys((type(value), value) for value in values))
    kinds = sorted(kinds, key=lambda one: one[1]) if numbers else kinds
    place = {kind: i for i, kind in enumerate(kinds)}
    labels = [text_of(name, value) for _, value in kinds]
    return Places(np.array([place[type(value), value] for value in values], np.float64), "linear", labels)


def show_places(axis: Any, which: Literal["x", "y"], name: str, found: Places) -> None:
    """Sets an axis' scale, ticks and label."""
    scale = f" (log scale of 1 - {name})" if found.reflected else " (log scale)" if found.scale == "log" else ""
    getattr(axis, f"set_{which}label")(name + scale)
    if found.labels is None:
        if len(found.of):
            low, high = _limits(found)
            getattr(axis, f"set_{which}scale")(found.scale)
            getattr(axis, f"set_{which}lim")(*((high, low) if found.reflected else (low, high)))
            if found.scale == "log":
                _log_ticks(getattr(axis, f"{which}axis"), high / low < 1000, found.reflected)
        return
    getattr(axis, f"set_{which}lim")(-0.6, max(len(found.labels), 1) - 0.4)
    # Long names, or many, would run into each other.
    slanted = which == "x" and sum(map(len, found.labels)) > 60
    rotation = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    getattr(axis, f"set_{which}ticks")(range(len(found.labels)), found.labels, **rotation)


def _limits(found: Places) -> tuple[float, float]:
    """Returns the ends of an axis with some room: marks that stand at its foot do not widen it by themselves."""
    at = np.log(found.of) if found.scale == "log" else found.of
    low, high = float(at.min()), float(at.max())
    room = 0.05 * (high - low) or (0.5 if found.scale == "log" else 0.1 * abs(high) or 0.5)
    ends = np.array([low - room, high + room])
    return tuple(np.exp(ends) if found.scale == "log" else ends)


def _log_ticks(axis: Any, short: bool, reflected: bool) -> None:
    """Labels whole powers of ten alone, or, on an axis too short for that, 1, 2 and 5 times those, as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_minor_formatter(NullFormatter())
    if short:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    if reflected:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{1 - value:.6g}"))


def dress(axis: Any) -> None:
    """Gives an axis the look that all pictures have."""
    axis.grid(color=STOPPED, alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
