"""`study.journal`: a study's trials in the file format of Optuna's journal storage.

Optuna opens the file (`JournalStorage(JournalFileBackend(path))`), and so does its dashboard. The lines are written here,
not through Optuna: its storage keeps every trial in memory and replays what it wrote. What Optuna has no place for (a point,
every number of an evaluation) stands under the key `hpjax` of the line that it belongs to: Optuna reads over it, and
`replay.read` needs nothing else.
"""

import datetime
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hpjax.errors import RunFolderError
from hpjax.runfolder import explained
from hpjax.study.as_optuna import Parameter, Parameters, State, conclusion, description, outcome
from hpjax.study.records import Measured, TrialRecord
from hpjax.study.replay import OURS, Operation, logs
from hpjax.study.searched import Searched

# Optuna's numbers for the directions.
MINIMISE, MAXIMISE = 1, 2

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Journal:
    """Collects what happens to a study's trials and appends it to the journal, a chunk at a time."""

    def __init__(
        self,
        path: Path,
        study_name: str,
        maximise: bool,
        size: int | None,
        *,
        searched: Mapping[str, Searched] | None = None,
        metric: str | None = None,
    ):
        """Opens the file.

        Args:
          path: the journal.
          study_name: what Optuna calls the study.
          maximise: whether more of the objective is better.
          size: bytes at the checkpoint that is resumed; the rest is cut off. None begins anew.
          searched: what was searched, by setting; a setting that is not here becomes a user attribute.
          metric: the objective's name, which the dashboard shows.

        Raises:
          RunFolderError: the file cannot be written, is shorter than `size`, is damaged before it, or has trials that
            another program added.
        """
        self._path = Path(path)
        self._parameters = Parameters(searched or {})
        self._lines: list[str] = []
        self._next = 0
        self._skipped: set[int] = set()
        self._waiting: set[int] = set()
        if size:
            _cut_back(self._path, size)
            for number, log in logs(self._path, None):
                self._count(number, log)
        with explained(self._path):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | (0 if size else os.O_TRUNC)
            self._file = os.open(self._path, flags, 0o644)
        if not size:
            self._write(Operation.CREATE_STUDY, study_name=study_name, directions=[MAXIMISE if maximise else MINIMISE])
            if metric is not None:
                self._write(Operation.SET_STUDY_SYSTEM_ATTRIBUTE, study_id=0, system_attr={"study:metric_names": [metric]})

    def begin(self, records: Iterable[TrialRecord]) -> None:
        """Notes new trials, those that wait for a lane as waiting.

        A trial's number in Optuna is its place in the file: a number that was passed over holds its place, waiting.

        Raises:
          ValueError: a trial that began before.
        """
        now = _now()
        for record in records:
            while self._next < record.number:
                self._write(Operation.CREATE_TRIAL, study_id=0, datetime_start=None, state=State.WAITING, **{OURS: {}})
                self._skipped.add(self._next)
                self._next += 1
            if record.number == self._next:
                self._create(record, now)
            elif record.number in self._skipped:
                self._fill(record, now)
            else:
                raise ValueError(f"trial {record.number} began before")

    def running(self, records: Iterable[TrialRecord]) -> None:
        """Notes those trials that waited and have taken their lanes."""
        now = _now()
        for record in records:
            if record.number in self._waiting and not math.isnan(record.began):
                state = {"state": State.RUNNING, "values": None, "datetime_start": now, OURS: {"began": record.began}}
                self._write(Operation.SET_STATE, trial_id=record.number, **state)
                self._waiting.remove(record.number)

    def evaluated(self, measured: Iterable[tuple[int, Measured]]) -> None:
        """Notes evaluations: a trial's number and what was measured."""
        for number, (tick, step, value, numbers) in measured:
            ours = {"tick": tick, "numbers": {name: float(one) for name, one in numbers.items()}}
            intermediate = {"trial_id": number, "step": step, "intermediate_value": float(value)}
            self._write(Operation.SET_INTERMEDIATE_VALUE, **intermediate, **{OURS: ours})

    def end(self, records: Iterable[TrialRecord]) -> None:
        """Notes trials that are done, stopped or diverged, with the numbers of their last evaluation."""
        now = _now()
        for record in records:
            ours = {
                "status": record.status,
                "objective": record.objective,
                "diverged_at": record.diverged_at,
                "ended": record.ended,
            }
            state, values = outcome(record)
            self._attributes(record.number, conclusion(record))
            finish = {"state": state, "values": values, "datetime_complete": now}
            self._write(Operation.SET_STATE, trial_id=record.number, **finish, **{OURS: ours})
            self._waiting.discard(record.number)

    def flush(self) -> None:
        """Puts what was noted onto the disk: one append, one fsync.

        Raises:
          RunFolderError: it cannot be written; the file is then as it was.
        """
        if not self._lines:
            return
        text = memoryview(("\n".join(self._lines) + "\n").encode())
        with explained(self._path):
            before = os.fstat(self._file).st_size
            try:
                while text:
                    text = text[os.write(self._file, text) :]
                os.fsync(self._file)
            except OSError:
                # A line that is cut off would make the whole file unloadable after the next append.
                os.ftruncate(self._file, before)
                raise
        self._lines.clear()

    def size(self) -> int:
        """Returns the file's bytes, everything noted so far included and on the disk."""
        self.flush()
        with explained(self._path):
            return os.fstat(self._file).st_size

    def close(self) -> None:
        """Writes what is left and closes the file."""
        try:
            self.flush()
        finally:
            os.close(self._file)

    def _write(self, operation: int, **fields: Any) -> None:
        self._lines.append(_encode({"op_code": operation, "worker_id": OURS, **fields}))

    def _create(self, record: TrialRecord, now: str) -> None:
        parameters, attributes, ours = self._described(record)
        distributions = {name: one.distribution for name, one in parameters.items()}
        values = {name: one.value for name, one in parameters.items()}
        described = {"distributions": distributions, "params": values, "user_attrs": attributes, OURS: ours}
        self._write(Operation.CREATE_TRIAL, study_id=0, **self._state(record, now), **described)
        self._next += 1

    def _fill(self, record: TrialRecord, now: str) -> None:
        """Begins a trial whose place was held."""
        parameters, attributes, ours = self._described(record)
        for name, (distribution, value) in parameters.items():
            place = {"param_name": name, "param_value_internal": value, "distribution": distribution}
            self._write(Operation.SET_PARAMETER, trial_id=record.number, **place)
        self._attributes(record.number, attributes)
        state = {**self._state(record, now), "values": None, OURS: ours}
        self._write(Operation.SET_STATE, trial_id=record.number, **state)
        self._skipped.remove(record.number)

    def _state(self, record: TrialRecord, now: str) -> dict[str, Any]:
        """Returns a new trial's state and when it began, for Optuna; remembers one that waits."""
        if record.status != "waiting":
            return {"state": State.RUNNING, "datetime_start": now}
        self._waiting.add(record.number)
        return {"state": State.WAITING, "datetime_start": None}

    def _described(self, record: TrialRecord) -> tuple[dict[str, Parameter], dict[str, Any], dict[str, Any]]:
        """Returns a trial's parameters and user attributes, and what is ours alone."""
        parameters = self._parameters.of(record.values)
        ours = {
            "number": record.number,
            "setting": record.setting,
            "values": record.values,
            "point": record.point,
            "began": record.began,
            "status": "waiting" if record.status == "waiting" else "running",
        }
        return parameters, description(record, parameters), ours

    def _attributes(self, number: int, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            self._write(Operation.SET_ATTRIBUTE, trial_id=number, user_attr={name: value})

    def _count(self, line: int, log: dict[str, Any]) -> None:
        """Counts a trial that a resumed journal has already."""
        if log["op_code"] == Operation.CREATE_TRIAL:
            if OURS not in log:
                raise RunFolderError(
                    f"'{self._path}', line {line}: another program added a trial; expected this study's trials alone"
                )
            if not log[OURS]:
                self._skipped.add(self._next)
            elif log.get("state") == State.WAITING:
                self._waiting.add(self._next)
            self._next += 1
        elif log["op_code"] == Operation.SET_STATE:
            self._skipped.discard(log["trial_id"])
            self._waiting.discard(log["trial_id"])
            if log["state"] == State.WAITING:
                self._waiting.add(log["trial_id"])


def _cut_back(path: Path, size: int) -> None:
    if not path.exists() or path.stat().st_size < size:
        raise RunFolderError(f"'{path}' is shorter than the study left it; expected --overwrite or a new name")
    with explained(path):
        os.truncate(path, size)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
