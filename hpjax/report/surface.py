"""The objective over the two hyperparameters that matter most, smoothed between the settings that were tried."""

import math

import numpy as np

from hpjax.report.chart import Axis, Chart, Marks, Surface, room
from hpjax.report.material import Trials, finite
from hpjax.report.places import axis_name, places, spread_out
from hpjax.report.searches import MANY, setting_text
from hpjax.study import axes
from hpjax.study.axes import Places
from hpjax.study.heat import telling_pair

LEAST = 8
"""Settings with a value that a map needs."""
CELLS = 44
"""Along each axis of numbers."""
FAR = 3.0
"""Widths of the smoothing beyond which a place is left empty."""


def surface(trials: Trials, importance: dict[str, float]) -> Chart | None:
    """Returns the map of a study; None with fewer than two hyperparameters or too few settings.

    Args:
      trials: the study.
      importance: share of the variance by hyperparameter, the largest first; where it is empty, the pair is the one whose
        cells tell most.

    Source: Nadaraya, On Estimating Regression (1964), for the mean weighted by a Gaussian of the distance.
    """
    known = finite(trials.settings)
    if len(trials.scales) < 2 or len(known) < LEAST:
        return None
    pair = [name for name in importance if name in trials.scales][:2]
    x, y = pair if len(pair) == 2 else telling_pair(trials.settings, trials.objective, trials.scales)
    found = [one for one in trials.settings if x in one.values and y in one.values]
    # A category goes upwards, where its names have room.
    across, up = (places(name, [one.values[name] for one in found], trials.scales[name]) for name in (x, y))
    if across.labels is not None and up.labels is None:
        x, y, across, up = y, x, up, across
    has_value = np.array([math.isfinite(one.value) for one in found])
    if has_value.sum() < LEAST:
        return None
    shown = axes.span([one.value for one in found], trials.objective)
    values = np.clip([one.value for one in found if math.isfinite(one.value)], shown.low, shown.high)
    columns, rows = _centres(across), _centres(up)
    cells = _smooth(_unit(across, across.of[has_value]), _unit(up, up.of[has_value]), values, (across, up), (columns, rows))
    numbers = across.labels is None and up.labels is None
    at = spread_out(across), spread_out(up)
    best = trials.best
    marks = []
    kinds = (
        ("tried", "paper", "circle", 5 if len(known) <= MANY else 3, [i for i, one in enumerate(found) if has_value[i]]),
        ("diverged", "diverged", "x", 7, [i for i, one in enumerate(found) if axes.infeasible(one)]),
        ("best", "best", "star", 17, [i for i, one in enumerate(found) if best is not None and one.setting == best.setting]),
    )
    for words, colour, symbol, size, own in kinds:
        if own:
            at_own = ([at[0][i] for i in own], [at[1][i] for i in own])
            texts = [setting_text(found[i], trials) for i in own]
            first = [found[i].numbers[0] for i in own]
            look = {"opacity": 0.6} if words == "tried" else {}
            name = f"{words} ({len(own)})" if words != "best" else words
            marks.append(Marks(name, *at_own, colour, "dots", symbol, size, texts=texts, trials=first, **look))  # type: ignore[arg-type]
    axis_y = _axis(y, up)
    if up.labels is not None:
        axis_y = axis_y._replace(ends=(-0.6, len(up.labels) - 0.4))
    return Chart(
        f"{trials.step}_map",
        f"{trials.objective.name} over {x} and {y}",
        _axis(x, across),
        axis_y,
        tuple(marks),
        surface=Surface(columns, rows, cells, axes.better(trials.objective), numbers, reverse=not trials.objective.maximise),
        caption="Smoothed between the settings that were tried; empty where there are none near.",
        height=440,
        study=trials.step,
    )


def _axis(name: str, place: Places) -> Axis:
    if place.labels is not None:
        return Axis(name, labels=tuple(place.labels))
    return Axis(axis_name(name, place), place.scale, ends=room(map(float, place.of), place.scale))


def _centres(place: Places) -> list[float]:
    """Returns the middles of a map's cells along an axis."""
    if place.labels is not None:
        return [float(i) for i in range(len(place.labels))]
    low, high = float(place.of.min()), float(place.of.max())
    if low == high:
        return [low]
    return [float(one) for one in (np.geomspace if place.scale == "log" else np.linspace)(low, high, CELLS)]


def _unit(place: Places, at: np.ndarray) -> np.ndarray:
    """Returns places as shares of their axis; categories a whole axis apart, so that none smooths another."""
    if place.labels is not None:
        return 10.0 * at
    inner, all_of = (np.log(one) if place.scale == "log" else one for one in (at, place.of))
    return (inner - all_of.min()) / max(float(np.ptp(all_of)), 1e-12)


def _smooth(
    x: np.ndarray, y: np.ndarray, values: np.ndarray, along: tuple[Places, Places], centres: tuple[list[float], list[float]]
) -> list[list[float | None]]:
    """Returns the weighted mean at each centre, [rows][columns]; None where no setting is near."""
    # Scott's rule for two dimensions, on axes where the settings spread over about a third of their length.
    width = 0.3 * len(values) ** (-1 / 6) / 1.5
    across, up = (_unit(place, np.array(at)) for place, at in zip(along, centres, strict=True))
    distance = (across[None, :, None] - x) ** 2 + (up[:, None, None] - y) ** 2
    weight = np.exp(-0.5 * distance / width**2)
    mean = (weight * values).sum(-1) / np.maximum(weight.sum(-1), 1e-300)
    far = distance.min(-1) > (FAR * width) ** 2
    return [[None if out else float(one) for one, out in zip(*row, strict=True)] for row in zip(mean, far, strict=True)]
