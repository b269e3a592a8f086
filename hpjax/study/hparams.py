"""TensorBoard's HParams tab of a study: what is varied and measured, and a session a trial, grouped by setting."""

import math
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpjax.objective import Objective
from hpjax.runfolder import explained
from hpjax.study.as_optuna import shown
from hpjax.study.records import ENDED, SettingSummary, TrialRecord
from hpjax.study.searched import Range, Searched
from hpjax.tensorboard import HParamsPluginData, RecordWriter, api_pb2, event_pb2, summary_pb2

MOST_SETTINGS = 500
"""Settings that the tab has; TensorBoard's page is slow with more."""

OBJECTIVE = "objective"
"""The metric that holds what counts of a trial."""

_FLOAT64, _STRING, _BOOL = (api_pb2.DataType.Value(f"DATA_TYPE_{name}") for name in ("FLOAT64", "STRING", "BOOL"))
_SUCCESS, _FAILURE = (api_pb2.Status.Value(f"STATUS_{name}") for name in ("SUCCESS", "FAILURE"))


class HParams:
    """Writes the tab: the schema once, then a folder with an event file for each trial that ended.

    Up to `MOST_SETTINGS` settings are written as they end. Of more the best and an even sample stay in the end: `finish`
    chooses them.
    """

    def __init__(self, folder: Path, searched: Mapping[str, Searched], metrics: Sequence[str], most: int = MOST_SETTINGS):
        """Names what there is; writes nothing yet.

        Args:
          folder: where TensorBoard looks (`tb` of the study's folder).
          searched: what was searched, by hyperparameter, seed and fold left out.
          metrics: numbers of an evaluation, `val/loss` for example.
          most: settings that are shown.
        """
        self._folder, self._searched, self._metrics, self._most = Path(folder), dict(searched), tuple(metrics), most
        self._types = {name: _type(name, one) for name, one in searched.items()}
        self._written: set[int] = set()

    def declare(self) -> None:
        """Writes the schema; raises RunFolderError where it cannot be written. A resumed study does it again."""
        experiment = api_pb2.Experiment(
            hparam_infos=[_described(name, one) for name, one in self._searched.items()],
            metric_infos=[_metric(OBJECTIVE), *map(_metric, self._metrics)],
        )
        with explained(self._folder):
            self._write("study", [_summary("experiment", HParamsPluginData(experiment=experiment))])
            trials = self._folder / "trials"
            self._written = {int(one.name) for one in trials.iterdir()} if trials.is_dir() else set()

    def ended(self, records: Iterable[TrialRecord]) -> None:
        """Writes the sessions of trials that ended, as long as their settings are among the first `most`.

        Raises:
          RunFolderError: it cannot be written.
        """
        with explained(self._folder):
            for record in records:
                if record.setting < self._most and record.status in ENDED:
                    self._session(record)

    def finish(self, records: Sequence[TrialRecord], summaries: Sequence[SettingSummary], objective: Objective) -> None:
        """Makes the tab hold the chosen settings, all of them or the best and an even sample, and no others.

        Args:
          records: the study's trials.
          summaries: its settings.
          objective: what best means.

        Raises:
          RunFolderError: it cannot be written.
        """
        settings = chosen(summaries, objective, self._most)
        keep = {record.number: record for record in records if record.setting in settings and record.status in ENDED}
        with explained(self._folder):
            for number in self._written - keep.keys():
                shutil.rmtree(self._folder / _name(number))
            self._written &= keep.keys()
            for number in sorted(keep.keys() - self._written):
                self._session(keep[number])

    def _session(self, record: TrialRecord) -> None:
        start, end = HParamsPluginData(), HParamsPluginData()
        start.session_start_info.group_name = f"setting {record.setting:05d}"
        for name in self._searched:
            if name in record.values:
                value = _as(self._types[name], shown(name, record.values[name]))
                _put(start.session_start_info.hparams[name], value)
        end.session_end_info.status = _FAILURE if record.status == "diverged" else _SUCCESS
        last = record.curve[-1].step if record.curve else 0
        objective = [(last, {OBJECTIVE: record.objective})]
        curve = [(measured.step, measured.numbers) for measured in record.curve]
        scalars = [(step, _scalars(numbers)) for step, numbers in curve + objective]
        summaries = [_summary("session_start_info", start), *scalars, _summary("session_end_info", end)]
        self._write(_name(record.number), summaries)
        self._written.add(record.number)

    def _write(self, name: str, summaries: Iterable[Any]) -> None:
        """Writes an event file, to a temporary name that TensorBoard does not read, then renamed."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        new, now = folder / "new", time.time()
        writer = RecordWriter(str(new))
        writer.write(event_pb2.Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for summary in summaries:
            step, content = summary if isinstance(summary, tuple) else (0, summary)
            writer.write(event_pb2.Event(wall_time=now, step=step, summary=content).SerializeToString())
        writer.close()
        # One name, always: a file that is written again takes the place of the one before.
        os.replace(new, folder / "events.out.tfevents.0.hpjax")


def chosen(summaries: Sequence[SettingSummary], objective: Objective, most: int) -> set[int]:
    """Returns the numbers of at most `most` settings: all, or the better half of them the best and the rest an even sample.

    Args:
      summaries: a study's settings.
      objective: what best means.
      most: how many.
    """
    if len(summaries) <= most:
        return {one.setting for one in summaries}
    ranked = sorted(summaries, key=lambda one: (-objective.score(one.value), one.setting))
    best, others = ranked[: most - most // 2], sorted(one.setting for one in ranked[most - most // 2 :])
    count = most // 2
    # The middle of each of `count` equal parts of the rest, in the order in which they were tried.
    even = (others[(2 * i + 1) * len(others) // (2 * count)] for i in range(count))
    return {one.setting for one in best} | set(even)


def _name(number: int) -> str:
    return f"trials/{number:05d}"


def _scalars(numbers: Mapping[str, float]) -> Any:
    # The page cannot show what is not finite.
    finite = ((name, float(value)) for name, value in numbers.items() if math.isfinite(value))
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=n, simple_value=v) for n, v in finite])


def _metric(name: str) -> Any:
    return api_pb2.MetricInfo(name=api_pb2.MetricName(tag=name))


def _described(name: str, searched: Searched) -> Any:
    """Returns a hyperparameter's type and domain."""
    info = api_pb2.HParamInfo(name=name)
    if isinstance(searched, Range):
        info.type = _FLOAT64
        info.domain_interval.min_value, info.domain_interval.max_value = searched.low, searched.high
        return info
    info.type = _type(name, searched)
    info.domain_discrete.extend([_as(info.type, shown(name, value)) for value in searched.values])
    return info


def _type(name: str, searched: Searched) -> int:
    if isinstance(searched, Range):
        return _FLOAT64
    types = {type(shown(name, value)) for value in searched.values}
    return _BOOL if types == {bool} else _FLOAT64 if types <= {int, float} else _STRING


def _as(kind: int, value: Any) -> Any:
    """Returns a value as the type that its hyperparameter has in the schema; what does not fit there as text."""
    if kind == _FLOAT64 and isinstance(value, (int, float)):
        return float(value)
    if kind == _BOOL and isinstance(value, bool):
        return value
    return "none" if value is None else str(value)


def _summary(tag: str, content: Any) -> Any:
    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    metadata = summary_pb2.SummaryMetadata(plugin_data=plugin)
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=f"_hparams_/{tag}", metadata=metadata)])


def _put(place: Any, value: Any) -> None:
    """Sets a protocol buffer's value of any type."""
    if isinstance(value, bool):
        place.bool_value = value
    elif isinstance(value, float):
        place.number_value = value
    else:
        place.string_value = value
