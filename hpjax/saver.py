"""Checkpoints of a run as it goes on: what is written beside the state, what is not worth keeping, errors in one line."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hpjax.checkpoints import Checkpoints
from hpjax.errors import HpjaxError, RunFolderError
from hpjax.logs import RunLog
from hpjax.objective import Evaluation, Objective
from hpjax.state import TrialState


class Saver:
    """Saves a run's states."""

    def __init__(self, checkpoints: Checkpoints, log: RunLog, objective: Objective):
        self.checkpoints, self._log, self._objective = checkpoints, log, objective

    def save(
        self,
        tick: int,
        state: TrialState,
        evaluations: list[Evaluation],
        progress: Mapping[str, Any],
        regular: bool = True,
    ) -> bool:
        """Begins to save a state in the background.

        Args:
          tick: ticks done.
          state: the trial, NumPy arrays.
          evaluations: the objective so far.
          progress: more JSON values of the record.
          regular: whether a run that is not interrupted saves here too.

        Returns:
          Whether the state is worth keeping; one whose parameters are not finite is not, and nothing is saved.

        Raises:
          RunFolderError: a file could not be written, now or at the save before.
        """
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params)):
            return False
        record = {
            "tick": tick,
            "evaluations": [list(evaluation) for evaluation in evaluations],
            **progress,
            "sizes": self._log.sizes(),
        }
        newest = evaluations[-1] if evaluations and regular else None
        score = self._objective.score(newest.value) if newest is not None and newest.tick == tick else -float("inf")
        try:
            self.checkpoints.save(tick, state, record, score, regular)
        except Exception as error:
            raise _explained(error) from error
        return True

    def wait(self) -> None:
        """Waits until everything is on the disk; raises RunFolderError if it cannot be."""
        try:
            self.checkpoints.wait()
        except Exception as error:
            raise _explained(error) from error


def _explained(error: Exception) -> HpjaxError:
    """Returns one line for whatever Orbax and TensorStore raised."""
    if isinstance(error, HpjaxError):
        return error
    text = " ".join(str(error).split())
    if "No space left on device" in text:
        text = "the disk is full"
    return RunFolderError(f"a checkpoint could not be written: {text[:300]}")
