"""The files of a run that grow: metrics.jsonl and TensorBoard events; both are cut back to a checkpoint on resume."""

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from hpjax.errors import RunFolderError
from hpjax.inspection.histograms import Histogram, proto
from hpjax.runfolder import EVENTS, METRICS, explained
from hpjax.tensorboard import RecordWriter, event_pb2, hparams, register_writer_factory, summary_pb2


class _Appending:
    """tensorboardX's hook for other kinds of files: a record file that is appended to, not begun anew."""

    @staticmethod
    def open(path: str) -> IO[bytes]:
        return Path(path.partition(":")[2]).open("ab")

    @staticmethod
    def directory_check(path: str) -> None:
        Path(path.partition(":")[2]).parent.mkdir(parents=True, exist_ok=True)


register_writer_factory("append", _Appending)


class RunLog:
    """Writes log points to metrics.jsonl and, if asked to, to one TensorBoard event file."""

    def __init__(self, folder: Path, tensorboard: bool, sizes: Mapping[str, int] | None = None):
        """Opens the files.

        Args:
          folder: the run's folder.
          tensorboard: whether to write events.
          sizes: bytes of each file at the checkpoint that is resumed; the rest is cut off. None begins anew.
        """
        self._folder = folder
        self._events: RecordWriter | None = None
        self._event_path: Path | None = None
        with explained(folder), contextlib.ExitStack() as files:
            self._cut_back(sizes or {})
            self._metrics = files.enter_context((folder / METRICS).open("a"))
            if tensorboard:
                self._open_events(files)
            self._files = files.pop_all()

    def write(self, step: int, **values: float) -> None:
        """Writes one log point: a line, and a scalar for each value with a name that has a split (`val/loss`)."""
        line = {name: _number(value) for name, value in values.items()}
        with explained(self._folder):
            self._metrics.write(json.dumps({"step": step, **line}) + "\n")
            self._metrics.flush()
            if self._events is not None:
                scalars = [summary_pb2.Summary.Value(tag=n, simple_value=v) for n, v in values.items() if "/" in n]
                self._event(summary_pb2.Summary(value=scalars), step)
                self._events._writer.flush()

    def inspected(self, step: int, values: Mapping[str, float], histograms: Mapping[str, Histogram]) -> None:
        """Writes what was found inside: values as `write` does, all of them as scalars too, histograms as events."""
        with explained(self._folder):
            if values:
                line = {name: _number(value) for name, value in values.items()}
                self._metrics.write(json.dumps({"step": step, **line}) + "\n")
                self._metrics.flush()
            if self._events is not None:
                found = [summary_pb2.Summary.Value(tag=n, simple_value=v) for n, v in values.items()]
                found += [summary_pb2.Summary.Value(tag=n, histo=proto(h)) for n, h in histograms.items()]
                self._event(summary_pb2.Summary(value=found), step)
                self._events._writer.flush()

    def hyperparameters(self, settings: Mapping[str, Any], metrics: Iterable[str]) -> None:
        """Writes TensorBoard's HParams records: the settings, and the names of the metrics they led to."""
        if self._events is None:
            return
        with explained(self._folder):
            for summary in hparams(dict(settings), dict.fromkeys(metrics, 0.0)):
                self._event(summary, 0)

    def sizes(self) -> dict[str, int]:
        """Returns the bytes of each file, everything written so far included and on the disk."""
        with explained(self._folder):
            self._metrics.flush()
            os.fsync(self._metrics.fileno())
            result = {METRICS: self._metrics.tell()}
            if self._events is not None and self._event_path is not None:
                self._events.flush()
                with self._event_path.open("rb") as events:
                    os.fsync(events.fileno())
                result[f"{EVENTS}/{self._event_path.name}"] = self._event_path.stat().st_size
        return result

    def close(self) -> None:
        """Closes the files."""
        with explained(self._folder):
            self._files.close()

    def _cut_back(self, sizes: Mapping[str, int]) -> None:
        files = {self._folder / METRICS, *(self._folder / EVENTS).glob("events.*"), *map(self._folder.joinpath, sizes)}
        for path in files:
            size = sizes.get(path.relative_to(self._folder).as_posix(), 0)
            short = not path.exists() or path.stat().st_size < size
            if size == 0 or (short and path.parent.name == EVENTS):
                # Events that were damaged are begun anew: they are a copy of what metrics.jsonl has.
                path.unlink(missing_ok=True)
            elif short:
                raise RunFolderError(f"'{path}' is shorter than the run left it; expected --overwrite or a new name")
            else:
                os.truncate(path, size)

    def _open_events(self, files: contextlib.ExitStack) -> None:
        old = sorted((self._folder / EVENTS).glob("events.*"))
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._event_path = old[0] if old else self._folder / EVENTS / name
        self._event_path.parent.mkdir(exist_ok=True)
        self._events = RecordWriter(f"append:{self._event_path}")
        files.callback(self._events.close)
        if not old:
            self._events.write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def _event(self, summary: Any, step: int) -> None:
        assert self._events is not None
        event = event_pb2.Event(wall_time=time.time(), step=step, summary=summary)
        self._events.write(event.SerializeToString())


def _number(value: float) -> float | None:
    return value if isinstance(value, int) or math.isfinite(value) else None
