"""Pictures of a study: the objective against each hyperparameter, the learning curves, and maps of two hyperparameters."""

import importlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hpjax.objective import Objective
from hpjax.runfolder import explained
from hpjax.schedules.draw import save
from hpjax.study.against import against
from hpjax.study.axes import Scale
from hpjax.study.curves import learning_curves
from hpjax.study.heat import heat_map, telling_pair
from hpjax.study.records import SettingSummary, TrialRecord

MOST_MAPPED = 3
"""Hyperparameters of which every pair has its map; of more only the pair that tells most."""

__all__ = ["against", "draw_all", "heat_map", "learning_curves", "prepare"]


def prepare() -> None:
    """Loads what drawing needs, which takes most of a second: to be done while programs compile."""
    importlib.import_module("matplotlib.backends.backend_agg")
    importlib.import_module("matplotlib.collections")


def draw_all(
    records: Sequence[TrialRecord],
    summaries: Sequence[SettingSummary],
    objective: Objective,
    scales: Mapping[str, Scale],
    folder: Path,
) -> list[Path]:
    """Writes every picture of a study as PNG.

    Args:
      records: its trials.
      summaries: its hyperparameter settings.
      objective: what best means.
      scales: how each varied hyperparameter's axis is drawn.
      folder: where the pictures go; made if need be.

    Returns:
      The files: `curves.png`, `against_NAME.png` and `map_NAME_NAME.png`.

    Raises:
      RunFolderError: the folder cannot be made.
      ConfigError: a picture cannot be written.
    """
    folder = Path(folder)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    pairs = list(itertools.combinations(scales, 2))
    if len(scales) > MOST_MAPPED:
        pairs = [telling_pair(summaries, objective, scales)]
    figures: dict[str, Callable[[], Any]] = {
        "curves": partial(learning_curves, records, summaries, objective),
        **{f"against_{n}": partial(against, records, summaries, objective, n, scales[n]) for n in scales},
        **{f"map_{x}_{y}": partial(heat_map, summaries, objective, x, y, scales) for x, y in pairs},
    }
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        save(figure(), str(path))
    return paths
