"""A study as a table: one row a trial (trials.csv, a data frame), and its settings over their seeds and folds."""

import csv
import io
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hpjax.config import FIELDS, to_text
from hpjax.errors import ConfigError
from hpjax.objective import Objective
from hpjax.runfolder import explained
from hpjax.study.records import Measured, SettingSummary, TrialRecord

SEED_LIKE = ("seed", "data_seed", "fold")
"""Settings that repeat a hyperparameter setting rather than change it."""


def columns(
    records: Sequence[TrialRecord], objective: Objective, names: Sequence[str] | None = None
) -> dict[str, list[Any]]:
    """Returns the table's columns by name, one value a trial, None where a trial has none.

    number, setting, status, the varied settings, objective, best_step (the step of the best evaluation), every number of the
    last evaluation by its name, every number of the best one as `best/NAME`, diverged_at, and seconds from the trial's
    beginning to its end.

    Args:
      records: a study's trials.
      objective: what best means.
      names: the varied settings; None: those that the trials have.
    """
    names = varied(records) if names is None else names
    best = [best_evaluation(record, objective) for record in records]
    measured = list(dict.fromkeys(name for record in records for one in record.curve[-1:] for name in one.numbers))
    last = [record.curve[-1].numbers if record.curve else {} for record in records]
    return {
        "number": [record.number for record in records],
        "setting": [record.setting for record in records],
        "status": [record.status for record in records],
        **{name: [record.values.get(name) for record in records] for name in names},
        "objective": [record.objective for record in records],
        "best_step": [None if one is None else one.step for one in best],
        **{name: [numbers.get(name) for numbers in last] for name in measured},
        **{f"best/{name}": [None if one is None else one.numbers.get(name) for one in best] for name in measured},
        "diverged_at": [record.diverged_at for record in records],
        "seconds": [record.ended - record.began for record in records],
    }


def write_csv(path: Path, records: Sequence[TrialRecord], objective: Objective, names: Sequence[str] | None = None) -> None:
    """Writes the table, to a temporary name that is then renamed.

    Floats are written in full, so that they are read back bit for bit; what is not a number is `nan`, what a trial does not
    have is empty.

    Args:
      path: the file.
      records: a study's trials.
      objective: what best means.
      names: the varied settings; None: those that the trials have.

    Raises:
      RunFolderError: the file cannot be written.
    """
    table = columns(records, objective, names)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*([_cell(name, one) for one in values] for name, values in table.items()), strict=True))
    path, new = Path(path), Path(f"{path}.new")
    with explained(new):
        try:
            with new.open("w", newline="") as file:
                file.write(text.getvalue())
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise


def dataframe(records: Sequence[TrialRecord], objective: Objective, names: Sequence[str] | None = None) -> Any:
    """Returns the table as a data frame of pandas; raises ConfigError where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise ConfigError(
            "dataframe needs pandas, which is not installed; expected `pip install pandas`, or columns() or trials.csv"
        ) from None
    return pandas.DataFrame(columns(records, objective, names))


def varied(records: Iterable[TrialRecord]) -> list[str]:
    """Returns the names of the settings that trials have, in the order in which they come."""
    return list(dict.fromkeys(name for record in records for name in record.values))


def best_evaluation(record: TrialRecord, objective: Objective) -> Measured | None:
    """Returns the first evaluation that no other beats, or None if none has a value."""
    known = (one for one in record.curve if not math.isnan(one.value))
    return max(known, key=lambda one: (objective.score(one.value), -one.tick), default=None)


def group(
    records: Iterable[TrialRecord],
    objective: Objective,
    aggregate: str,
    seed_like: Sequence[str] = SEED_LIKE,
) -> list[SettingSummary]:
    """Returns the hyperparameter settings over their trials, by number.

    Args:
      records: a study's trials.
      objective: what best means.
      aggregate: what counts of a setting's trials: mean or median.
      seed_like: settings that differ between the trials of one hyperparameter setting.
    """
    trials: dict[int, list[TrialRecord]] = {}
    for record in records:
        trials.setdefault(record.setting, []).append(record)
    return [_summary(setting, trials[setting], aggregate, seed_like) for setting in sorted(trials)]


def best(summaries: Iterable[SettingSummary], objective: Objective) -> SettingSummary | None:
    """Returns the setting that no other beats, or None if none has a value.

    A setting whose trials are all done comes before any other: a value at a part of the budget is no match for one at the
    whole. The infeasible is never the best; of equals it is the one with the lowest number.
    """
    feasible = (one for one in summaries if not math.isnan(one.value))
    return max(feasible, key=lambda one: (one.status == "done", objective.score(one.value), -one.setting), default=None)


def _summary(setting: int, trials: list[TrialRecord], aggregate: str, seed_like: Sequence[str]) -> SettingSummary:
    trials = sorted(trials, key=lambda record: record.number)
    values = [math.nan if record.status == "diverged" else record.objective for record in trials]
    value = spread = math.nan
    if all(map(math.isfinite, values)):
        value = statistics.fmean(values) if aggregate == "mean" else statistics.median(values)
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return SettingSummary(
        setting=setting,
        values={name: one for name, one in trials[0].values.items() if name not in seed_like},
        numbers=[record.number for record in trials],
        value=value,
        spread=spread,
        status=next((record.status for record in trials if record.status != "done"), "done"),
    )


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float):
        return repr(float(value))
    if value is None:
        return ""
    return to_text(name, value) if name in FIELDS else str(value)
