"""What the report is made from: a recipe's findings, and the trials of its studies as far as they are there."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpjax import resolve
from hpjax.errors import HpjaxError
from hpjax.objective import Objective
from hpjax.recipe.finding import Table
from hpjax.recipe.folder import STUDIES
from hpjax.runfolder import JOURNAL
from hpjax.study import table
from hpjax.study.axes import Scale
from hpjax.study.records import SettingSummary, TrialRecord
from hpjax.study.space import Space
from hpjax.study.study import Study, load_study

if TYPE_CHECKING:
    from hpjax.recipe.recipe import Tuned

WIDE = 30.0
"""Times its least that a number's most must be to be drawn on a log axis, where its expression is not known."""
SEEDS = ("seed", "data_seed", "fold")


class Trials(NamedTuple):
    """A study as the report shows it.

    Attributes:
      step: the step that made it.
      records: its trials.
      settings: its hyperparameter settings.
      objective: what best means.
      scales: how the axis of each varied hyperparameter is drawn; seeds and folds are left out.
      study: the study itself; None where its folder is not there and its table was read instead.
    """

    step: str
    records: Sequence[TrialRecord]
    settings: Sequence[SettingSummary]
    objective: Objective
    scales: dict[str, Scale]
    study: Study | None = None

    @property
    def best(self) -> SettingSummary | None:
        """The best setting; None if there is none."""
        return table.best(self.settings, self.objective)


def studies(tuned: "Tuned") -> dict[str, Trials]:
    """Returns the studies of a recipe by step: from their folders, or from the findings' tables where those are lost."""
    found = {}
    for step in STUDIES:
        finding = tuned.findings.get(step)
        if finding is None:
            continue
        trials = _of_folder(step, tuned.path / step)
        if trials is None and "trials" in finding.tables:
            trials = of_table(step, finding.tables["trials"], resolve.objective(tuned.config))
        if trials is not None and trials.records:
            found[step] = _evaluated(trials)
    return found


def _evaluated(trials: Trials) -> Trials:
    """Returns a study without the trials that its deadline stopped before they were evaluated: they say nothing."""
    records = [one for one in trials.records if one.status != "stopped" or math.isfinite(one.objective) or one.curve]
    if len(records) == len(trials.records):
        return trials
    aggregate = "mean" if trials.study is None else trials.study.settings.aggregate
    return trials._replace(records=records, settings=table.group(records, trials.objective, aggregate))


def _of_folder(step: str, path: Path) -> Trials | None:
    if not (path / JOURNAL).is_file():
        return None
    try:
        study = load_study(path)
    except (HpjaxError, KeyError):
        return None
    space = Space.parse(study.settings.vary, study.config)
    scales = {name: space.scale(name) for name in space.names}
    return Trials(step, study.records, study.settings_tried, study.objective, scales, study)


def of_table(step: str, columns: Table, objective: Objective) -> Trials:
    """Returns a study from the columns that `table.columns` gave, without its curves."""
    all_names = list(columns)
    names = all_names[all_names.index("status") + 1 : all_names.index("objective")]
    records = []
    for i, number in enumerate(columns["number"]):
        values = {name: columns[name][i] for name in names if columns[name][i] is not None}
        records.append(
            TrialRecord(
                number=number,
                setting=columns["setting"][i],
                values=values,
                status=columns["status"][i],
                objective=columns["objective"][i],
                diverged_at=columns["diverged_at"][i],
                began=0.0,
                ended=columns["seconds"][i],
            )
        )
    scales = {name: _guessed([r.values.get(name) for r in records]) for name in names if name not in SEEDS}
    return Trials(step, records, table.group(records, objective, "mean"), objective, scales)


def _guessed(values: Sequence[Any]) -> Scale:
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if not numbers or len(numbers) < sum(value is not None for value in values):
        return "category"
    return "log" if min(numbers) > 0 and max(numbers) > WIDE * min(numbers) else "linear"


def finite(settings: Sequence[SettingSummary]) -> list[SettingSummary]:
    """Returns the settings that have a value."""
    return [one for one in settings if math.isfinite(one.value)]
