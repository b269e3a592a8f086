"""How much of what the trials differ in two hyperparameters explain together, beyond what each explains alone.

Optuna's fANOVA has each hyperparameter's own share only. These are the shares of pairs over the same kind of forest.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hpjax.report.chart import Axis, Chart, Marks
from hpjax.report.material import Trials
from hpjax.report.places import places
from hpjax.study import axes
from hpjax.study.records import ENDED

LEAST = 30
"""Settings that ended below which nothing is said: a forest of fewer finds interactions in noise."""
MOST_SETTINGS, MOST_NAMES = 512, 5
"""Settings that the trees are grown on, and hyperparameters whose pairs are looked at: the most important ones."""
TREES, SEED = 64, 0
POINTS, BACKGROUNDS = 12, 128
"""Places of a hyperparameter, and places of the others that are averaged over at each."""
MOST_SHOWN = 6
NOTEWORTHY = 0.02
"""Share below which a pair is not worth a word."""


class Interactions(NamedTuple):
    """What pairs of hyperparameters explain.

    Attributes:
      shares: share of the forest's variance by pair, the largest first; empty where nothing can be said.
      said: how it was found, or why nothing can be said.
    """

    shares: dict[tuple[str, str], float]
    said: str


def interactions(trials: Trials, importance: Mapping[str, float]) -> Interactions:
    """Returns what pairs of the most important hyperparameters explain together, beyond what each does alone.

    Trees split by one hyperparameter at a time: of a pure product they find about two thirds (measured).

    Args:
      trials: the study.
      importance: share of the variance by hyperparameter, the largest first.

    Source: Hooker, Generalized Functional ANOVA Diagnostics (2007), section 2, for the decomposition; Hutter, Hoos and
      Leyton-Brown (2014) for taking it of a random forest.
    """
    ended = [one for one in trials.settings if one.status in ENDED and math.isfinite(one.value)]
    names = [name for name in importance if name in trials.scales][:MOST_NAMES]
    if len(names) < 2:
        return Interactions({}, "without importance there are no pairs to look at")
    if len(ended) < LEAST:
        return Interactions({}, f"{len(ended)} settings ended with a value: too few to tell an interaction from noise")
    sample = [ended[i] for i in np.linspace(0, len(ended) - 1, min(len(ended), MOST_SETTINGS)).astype(int)]
    columns = [_unit(name, [one.values[name] for one in sample], trials) for name in names]
    shown = axes.span([one.value for one in sample], trials.objective)
    values = np.clip([one.value for one in sample], shown.low, shown.high)
    # Imported here: a report without a search need not wait for it.
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(TREES, min_samples_leaf=3, random_state=SEED).fit(np.stack(columns, 1), values)
    levels = [_levels(column, trials.scales[name]) for name, column in zip(names, columns, strict=True)]
    found = pair_shares(forest.predict, levels)
    shares = {(names[i], names[j]): share for (i, j), share in found.items()}
    which = f"the {MOST_NAMES} most important hyperparameters" if len(importance) > MOST_NAMES else "all hyperparameters"
    said = f"Functional ANOVA of a forest of {TREES} trees over {len(sample)} settings, pairs of {which}, seed {SEED}"
    return Interactions(dict(sorted(shares.items(), key=lambda one: -one[1])), said)


def pair_shares(function: Callable[[np.ndarray], np.ndarray], levels: Sequence[np.ndarray]) -> dict[tuple[int, int], float]:
    """Returns the share of a function's variance that each pair of its arguments explains beyond each alone.

    Args:
      function: takes points [points, arguments], returns values [points].
      levels: the places that each argument may have, sorted, equally likely; those of numbers lie in [0, 1].
    """
    rng = np.random.default_rng(SEED)
    grid = [_middles(level) for level in levels]
    others = np.stack([rng.choice(level, BACKGROUNDS) for level in grid], 1)
    total = float(np.var(function(np.stack([rng.choice(level, 4096) for level in grid], 1))))
    found = {}
    for i, j in itertools.combinations(range(len(grid)), 2):
        rows, columns = len(grid[i]), len(grid[j])
        points = np.broadcast_to(others, (rows, columns, *others.shape)).copy()
        points[..., i] = grid[i][:, None, None]
        points[..., j] = grid[j][None, :, None]
        mean = function(points.reshape(-1, len(grid))).reshape(rows, columns, -1).mean(-1)
        # What is left of the two together when each one's own effect is taken off.
        beyond = mean - mean.mean(1, keepdims=True) - mean.mean(0, keepdims=True) + mean.mean()
        found[i, j] = float(np.var(beyond)) / total if total > 0 else 0.0
    return found


def _middles(level: np.ndarray) -> np.ndarray:
    """Returns some of an argument's places, each in the middle of an equal part of them."""
    count = min(len(level), POINTS)
    return level[((np.arange(count) + 0.5) / count * len(level)).astype(int)]


def chart(step: str, found: Interactions) -> Chart:
    """Returns the picture of what `interactions` found."""
    shown = list(found.shares.items())[:MOST_SHOWN]
    names, values = [f"{one}, {other}" for (one, other), _ in shown], [share for _, share in shown]
    words = "of the variance, beyond what each explains"
    texts = [f"{pair}\n{share:.1%} {words}" for pair, share in zip(names, values, strict=True)]
    marks = Marks("", values, list(range(len(names))), "second", "bars", texts=texts)
    x = Axis("share of the variance beyond each alone", ends=(0.0, max(1.05 * max(values), 0.1)))
    caption = f"{found.said}."
    if max(values) < NOTEWORTHY:
        caption = f"No pair explains more than {NOTEWORTHY:.0%} beyond what each does: tune them one by one. {caption}"
    height = 120 + 30 * len(names)
    return Chart(
        f"{step}_interactions", "Interactions", x, Axis("", labels=tuple(names)), (marks,), caption=caption, height=height
    )


def _levels(column: np.ndarray, scale: str) -> np.ndarray:
    return np.unique(column) if scale == "category" else np.linspace(0, 1, 20 * POINTS + 1)


def _unit(name: str, values: Sequence[object], trials: Trials) -> np.ndarray:
    """Returns values as shares of their axis; of categories their numbers."""
    place = places(name, values, trials.scales[name])
    at = np.log(place.of) if place.scale == "log" and place.labels is None else place.of
    return (at - at.min()) / max(float(np.ptp(at)), 1e-12)
