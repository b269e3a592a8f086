"""The report's pictures as PNG: a study's as a study draws them, the others from their charts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpjax.report.chart import Chart
from hpjax.report.material import Trials
from hpjax.report.still import figure
from hpjax.runfolder import explained
from hpjax.schedules.draw import save
from hpjax.study.pictures import against, heat_map, learning_curves

UNITS = 0.1
"""What a picture takes, at most, in multiples of the time for which a program compiles."""


def draw(
    charts: list[Chart], studies: dict[str, Trials], folder: Path, enough: Callable[[float], bool] = lambda units: True
) -> dict[str, str]:
    """Writes a PNG of each chart, as far as there is time.

    Args:
      charts: what the report shows.
      studies: the trials of each step.
      folder: where they go; made if need be, what else it holds is left.
      enough: whether there is time for so many units.

    Returns:
      The files' names by the charts' keys.

    Raises:
      RunFolderError: the folder cannot be made.
      ConfigError: a picture cannot be written.
    """
    with explained(folder):
        folder.mkdir(exist_ok=True)
    names = {chart.key: re.sub(r"[^A-Za-z0-9_-]", "-", chart.key) + ".png" for chart in charts}
    for chart in charts:
        if not enough(UNITS):
            del names[chart.key]
            continue
        save(_figure(chart, studies.get(chart.study)), str(folder / names[chart.key]))
    return names


def _figure(chart: Chart, trials: Trials | None) -> Any:
    if trials is None:
        return figure(chart)
    if chart.key == f"{trials.step}_curves":
        return learning_curves(trials.records, trials.settings, trials.objective)
    if chart.key == f"{trials.step}_map":
        return heat_map(trials.settings, trials.objective, chart.x.label, chart.y.label, trials.scales)
    for name, scale in trials.scales.items():
        if chart.key == f"{trials.step}_{name}":
            return against(trials.records, trials.settings, trials.objective, name, scale)
    return figure(chart)
