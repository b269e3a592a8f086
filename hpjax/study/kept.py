"""The parameters of a study's best trials: kept in memory while it runs, in its folder from its end on."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hpjax import checkpoints
from hpjax.checkpoints import Checkpoints
from hpjax.errors import RunFolderError
from hpjax.lanes import LaneProgram
from hpjax.objective import Evaluation, Objective
from hpjax.study.records import TrialRecord

EVERY = 2**31
"""More checkpoints than there are."""


class Results:
    """What the lanes' trials came to at the end of a round; fetched from the device once, if at all."""

    def __init__(self, arrays: Any, program: LaneProgram | None = None):
        """Takes a pytree of arrays [lanes, ...], which may still be computed by `program`; without one NumPy arrays."""
        self._arrays, self._program = arrays, program
        self._fetched = program is None

    def whole(self) -> Any:
        """Returns the arrays of all lanes, NumPy."""
        if not self._fetched and self._program is not None:
            self._arrays, self._fetched = self._program.fetch(self._arrays), True
        return self._arrays

    def of(self, lane: int) -> Any:
        """Returns those of one lane, in memory of their own."""
        if not self._fetched and self._program is not None and self._program.spans:
            return self._program.fetch_one(self._arrays, lane)
        return jax.tree.map(lambda leaf: np.array(leaf[lane]), self.whole())


class Kept:
    """The parameters of the best trials that have come to their end, and of trials under way that may become such.

    Each trial's are those of the evaluation that its objective stands for, as a single run's result has them. A trial under
    way is in nobody's way: what it may push out is decided at its end, for it may diverge until then.
    """

    def __init__(self, most: int, objective: Objective):
        """Keeps those of at most so many trials that have ended."""
        self._most, self._objective = most, objective
        self._best: dict[int, tuple[float, Any]] = {}
        self._open: dict[int, Any] = {}

    @property
    def best(self) -> dict[int, Any]:
        """What is kept, by trial number, the best first."""
        return {number: self._best[number][1] for number in self._ranked()}

    def evaluated(
        self, record: TrialRecord, seen: Sequence[Evaluation], ends: bool, results: Results | None, lane: int
    ) -> None:
        """Takes the parameters of a trial that was evaluated, where they are the ones to keep.

        Args:
          record: the trial, this evaluation included.
          seen: its evaluations.
          ends: whether it was the last.
          results: what its round's lanes came to.
          lane: its lane.
        """
        if results is None or self._objective.chosen_tick(seen) != seen[-1].tick:
            return
        # Another value than the best is known at the end only.
        if (ends or self._objective.value == "best") and self._is_among_best(record):
            self._open[record.number] = results.of(lane)
        else:
            self._open.pop(record.number, None)

    def ended(self, record: TrialRecord) -> None:
        """Notes that a trial has ended, with the status that its record has."""
        found = self._open.pop(record.number, None)
        if found is None or record.status != "done" or not self._is_among_best(record):
            return
        self._best[record.number] = self._objective.score(record.objective), found
        for number in self._ranked()[self._most :]:
            del self._best[number]

    def restore(self, best: Mapping[int, Any], records: Sequence[TrialRecord]) -> None:
        """Takes up what was kept of trials that have ended."""
        self._best = {n: (self._objective.score(records[n].objective), tree) for n, tree in best.items()}
        for number in self._ranked()[self._most :]:
            del self._best[number]

    def tree(self) -> dict[str, Any]:
        """Returns all that is kept, of trials that have ended and of those that have not, by number."""
        return {str(number): found for number, found in {**self.best, **self._open}.items()}

    def facts(self) -> list[Any]:
        """Returns what `tree` holds, as JSON values: number, whether the trial has ended, shapes and types."""
        shapes = {n: jax.tree.map(lambda leaf: [list(leaf.shape), str(leaf.dtype)], t) for n, t in self.tree().items()}
        return [[int(number), int(number) in self._best, of_trial] for number, of_trial in shapes.items()]

    def load(self, tree: Mapping[str, Any], facts: Sequence[Any], records: Sequence[TrialRecord]) -> None:
        """Takes up `tree` and `facts`."""
        self.restore({number: tree[str(number)] for number, ended, _ in facts if ended}, records)
        self._open = {number: tree[str(number)] for number, ended, _ in facts if not ended}

    def _is_among_best(self, record: TrialRecord) -> bool:
        score = self._objective.score(record.objective)
        if not math.isfinite(score):
            return False
        ranked = self._ranked()
        if len(ranked) < self._most:
            return True
        return (-score, record.number) < (-self._best[ranked[-1]][0], ranked[-1])

    def _ranked(self) -> list[int]:
        return sorted(self._best, key=lambda number: (-self._best[number][0], number))


def like_kept(facts: Sequence[Any]) -> dict[str, Any]:
    """Returns zeros in the structure of a `Kept.tree`, from its facts."""

    def zeros(of_trial: Any) -> Any:
        if isinstance(of_trial, Mapping):
            return {name: zeros(value) for name, value in of_trial.items()}
        return np.zeros(of_trial[0], jax.numpy.dtype(of_trial[1]))

    return {str(number): zeros(of_trial) for number, _, of_trial in facts}


def write(folder: Path, best: Mapping[int, Any], keep: Iterable[int] = ()) -> None:
    """Makes a folder hold these trials' parameters, a checkpoint each, and those of others in `keep` that it has.

    Raises:
      RunFolderError: they cannot be written.
    """
    try:
        store = Checkpoints(folder, keep_newest=EVERY, keep_best=0)
        try:
            there = store.ticks()
            for number in set(there) - {*best, *keep}:
                store.delete(number)
            for number in [number for number in best if number not in there]:
                store.save(number, best[number], {"trial": number}, -math.inf)
            store.wait()
        finally:
            store.close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RunFolderError(f"the best trials' parameters could not be written: {reason}") from None


def read(folder: Path, number: int) -> dict[str, Any]:
    """Returns `Trial.result` of a trial from a study's folder of parameters; raises RunFolderError if it is damaged."""
    found: dict[str, Any] = checkpoints.read(folder / str(number))
    return {"params": found["params"], "collections": found.get("collections") or {}}


def numbers(folder: Path) -> list[int]:
    """Returns the trials whose parameters a folder holds."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())
