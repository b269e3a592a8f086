"""What process 0 alone has of a run, its folder, log and checkpoints, as all its processes see it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from hpjax.checkpoints import Checkpoints
from hpjax.logs import RunLog
from hpjax.processes.team import Alone
from hpjax.runfolder import RunFolder

AT_ONCE = 2**26
"""Numbers of four bytes that are sent over the devices at the same time."""


class SharedFolder(RunFolder):
    """A run's folder: process 0 has it open, the others know what it holds."""

    def __init__(self, team: Alone, own: RunFolder | None, path: str, resumed: bool):
        self._team, self._own = team, own
        self.path, self.resumed = Path(path), resumed

    def write(self, name: str, text: str) -> None:
        """Writes a whole file, by process 0."""
        if self._own is not None:
            self._own.write(name, text)

    def metadata(self) -> dict[str, Any]:
        """Returns the content of metadata.json; all processes must ask."""
        return self._team.agreed(None if self._own is None else self._own.metadata(), "metadata")

    def update_metadata(self, **changes: Any) -> None:
        """Writes metadata.json with some entries changed, by process 0."""
        if self._own is not None:
            self._own.update_metadata(**changes)

    def history(self) -> list[dict[str, Any]]:
        """Returns the log points; all processes must ask."""
        return self._team.agreed(None if self._own is None else self._own.history(), "history")

    def close(self) -> None:
        """Gives the folder back."""
        if self._own is not None:
            self._own.close()


class SharedCheckpoints(Checkpoints):
    """A run's checkpoints: process 0 writes and reads them, the others are sent what it has read."""

    def __init__(self, team: Alone, own: Checkpoints | None):
        self._team, self._own = team, own

    def save(self, tick: int, state: Any, record: dict[str, Any], score: float, regular: bool = True) -> None:
        """Begins to save, in process 0."""
        if self._own is not None:
            self._own.save(tick, state, record, score, regular)

    def wait(self) -> None:
        """Waits until the save under way is on the disk, in process 0."""
        if self._own is not None:
            self._own.wait()

    def restore(self, tick: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Returns the state and the record of a checkpoint; all processes must ask."""
        state, record = (like, None) if self._own is None else self._own.restore(tick, like)
        # Only now: an error in process 0 must find the others waiting here, not in a collective.
        record = self._team.agreed(record, "record")
        return _sent(state), record

    def record(self, tick: int) -> dict[str, Any]:
        """Returns the record of a checkpoint; all processes must ask."""
        return self._team.agreed(None if self._own is None else self._own.record(tick), "record alone")

    def newest_first(self) -> Iterator[tuple[int, str | None]]:
        """Yields checkpoints, newest first, with what is wrong with them; all processes must ask."""
        found = None if self._own is None else [list(pair) for pair in self._own.newest_first()]
        yield from map(tuple, self._team.agreed(found, "newest"))

    def delete(self, tick: int) -> None:
        """Deletes a checkpoint, in process 0."""
        if self._own is not None:
            self._own.delete(tick)

    def ticks(self) -> list[int]:
        """Returns the ticks of the checkpoints that are kept; all processes must ask."""
        return self._team.agreed(None if self._own is None else self._own.ticks(), "ticks")

    def close(self) -> None:
        """Waits for the save under way, in process 0."""
        if self._own is not None:
            self._own.close()


class NoLog(RunLog):
    """The log of a process that writes none."""

    def __init__(self) -> None:
        pass

    def write(self, step: int, **values: float) -> None:
        """Writes nothing."""

    def inspected(self, step: int, values: Mapping[str, float], histograms: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def hyperparameters(self, settings: Mapping[str, Any], metrics: Any) -> None:
        """Writes nothing."""

    def sizes(self) -> dict[str, int]:
        """Returns nothing: the record is process 0's."""
        return {}

    def close(self) -> None:
        """Closes nothing."""


def same(team: Alone, facts: Mapping[str, Any]) -> str | None:
    """Returns in what the processes differ that must be alike in all, or None.

    Args:
      team: the processes.
      facts: JSON values by name.
    """
    all_facts = team.gathered(json.loads(json.dumps(facts)), "facts")
    for id_, other in enumerate(all_facts):
        for name, value in all_facts[0].items():
            if other.get(name) != value:
                return f"{name} is {other.get(name)} in process {id_}, {value} in process 0; expected the same in all"
    return None


def _sent(state: Any) -> Any:
    """Returns process 0's arrays, bit for bit, in all processes, which give arrays of the same shapes."""
    leaves, structure = jax.tree.flatten(state)
    parts = [np.ascontiguousarray(leaf).reshape(-1).view(np.uint8) for leaf in leaves]
    size = sum(part.size for part in parts)
    # As whole numbers: a sum with the others' zeros would make 0.0 of -0.0.
    sent = np.concatenate([*parts, np.zeros(-size % 4, np.uint8)]).view(np.uint32)
    pieces = [sent[begin : begin + AT_ONCE] for begin in range(0, len(sent), AT_ONCE)]
    came = np.concatenate([np.asarray(multihost_utils.broadcast_one_to_all(piece)) for piece in pieces]).view(np.uint8)
    ends = np.cumsum([part.size for part in parts])
    made = [
        came[end - part.size : end].copy().view(np.asarray(leaf).dtype).reshape(np.shape(leaf))
        for leaf, part, end in zip(leaves, parts, ends, strict=True)
    ]
    return jax.tree.unflatten(structure, made)
