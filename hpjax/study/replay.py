"""Reading `study.journal` back, exactly, for a study that goes on or is looked at."""

import enum
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpjax.errors import RunFolderError
from hpjax.study.records import Measured, TrialRecord

OURS = "hpjax"
"""The key of what is ours alone in a line."""


class Operation(enum.IntEnum):
    """What a line does, by Optuna's numbers."""

    CREATE_STUDY = 0
    SET_STUDY_SYSTEM_ATTRIBUTE = 3
    CREATE_TRIAL = 4
    SET_PARAMETER = 5
    SET_STATE = 6
    SET_INTERMEDIATE_VALUE = 7
    SET_ATTRIBUTE = 8


def read(path: Path, size: int | None = None) -> list[TrialRecord]:
    """Returns the trials of a journal, by number, every float as it was; those that had not ended are `running`, or
    `waiting` where they had no lane yet.

    Args:
      path: the journal.
      size: bytes to read; None reads all.

    Raises:
      RunFolderError: the file is missing, ends within a line, or has a line that is damaged.
    """
    records: dict[int, TrialRecord] = {}
    for line, log in logs(Path(path), size):
        ours = log.get(OURS)
        if not ours:
            continue
        try:
            _apply(records, log, ours)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise damaged(path, line) from None
    return [records[number] for number in sorted(records)]


def _apply(records: dict[int, TrialRecord], log: dict[str, Any], ours: dict[str, Any]) -> None:
    if "number" in ours:
        records[ours["number"]] = TrialRecord(
            number=ours["number"],
            setting=ours["setting"],
            values={name: restored(value) for name, value in ours["values"].items()},
            point=tuple(ours["point"]),
            status=ours.get("status", "running"),
            began=ours["began"],
        )
    elif "began" in ours:
        record = records[log["trial_id"]]
        record.status, record.began = "running", ours["began"]
    elif "tick" in ours:
        # The same few names a hundred thousand times: one text each.
        numbers = {sys.intern(name): value for name, value in ours["numbers"].items()}
        records[log["trial_id"]].curve.append(Measured(ours["tick"], log["step"], log["intermediate_value"], numbers))
    else:
        record = records[log["trial_id"]]
        record.status, record.objective = ours["status"], ours["objective"]
        record.diverged_at, record.ended = ours["diverged_at"], ours["ended"]


def restored(value: Any) -> Any:
    """Returns a setting's value from JSON, which has no tuples."""
    return tuple(map(restored, value)) if isinstance(value, list) else value


def logs(path: Path, size: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Returns the lines' numbers, from 1, and their contents."""
    left = math.inf if size is None else size
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if left <= 0:
                    break
                left -= len(line)
                if left < 0 or not line.endswith(b"\n"):
                    raise RunFolderError(f"'{path}' ends within line {number}; expected whole lines of a study's journal")
                try:
                    log = json.loads(line)
                    log["op_code"]
                except (ValueError, TypeError, KeyError):
                    raise damaged(path, number) from None
                yield number, log
    except OSError as error:
        raise RunFolderError(f"'{path}' cannot be read: {(error.strerror or str(error)).lower()}") from None


def damaged(path: Path, line: int) -> RunFolderError:
    """Returns the error for a line that cannot be read."""
    return RunFolderError(f"'{path}', line {line} is damaged; expected a line of a study's journal")
