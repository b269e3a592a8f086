"""What a run came to, and how it is closed: the test split read once, with the parameters the objective stands for."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpjax.checkpoints import Checkpoints
from hpjax.config import Config
from hpjax.logs import RunLog
from hpjax.loop import Loop
from hpjax.runfolder import RunFolder
from hpjax.state import TrialState

Evaluated = Callable[[TrialState], Any]

FINISHED = ("done", "diverged")
"""`status` in the metadata of a run that goes on no more."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
      config: the config, resolved.
      run_dir: the run's folder.
      status: `done` or `diverged`.
      objective: the run's objective (best, last or smoothed); NaN if there was no evaluation.
      best: the best evaluation: its `step` and `value`; None if there was none.
      test: loss and metrics of the chosen parameters over the test split; empty if there is none.
      tables: metrics that are no single number (a confusion matrix, values of each class), by split and name.
      stopped_at: the step at which early stopping ended the run, or None.
      diverged_at: the step whose loss was not finite; None if it always was.
      params: the chosen parameters, a pytree of NumPy arrays; None if a diverged run has no finite ones to keep.
      history: the log points, dicts with `step`.
      seconds: training time.
    """

    config: Config
    run_dir: Path
    status: str
    objective: float
    best: dict[str, float] | None
    test: dict[str, float]
    tables: dict[str, dict[str, Any]]
    stopped_at: int | None
    diverged_at: int | None
    params: Any
    history: list[dict[str, Any]]
    seconds: float


FACTS = ("step", "chosen_tick", "diverged_at", "stopped_at", "objective", "best", "test", "tables", "seconds")
"""What the metadata of such a run holds beside."""


def is_finished(folder: RunFolder) -> bool:
    """Returns whether a run folder's metadata says, undamaged, that the run goes on no more."""
    facts = folder.metadata()
    return facts.get("status") in FINISHED and all(name in facts for name in FACTS)


def finish(loop: Loop, folder: RunFolder, log: RunLog) -> Result:
    """Reads the test split once, with the parameters the objective stands for, and closes the books."""
    status = "done" if loop.diverged_at is None else "diverged"
    step = loop.step
    best = loop.objective.best([evaluation for evaluation in loop.evaluations if not math.isnan(evaluation.value)])
    chosen = loop.chosen_tick()
    if chosen is not None:
        loop.go_back(chosen)
    test, tables = loop.evaluate("test") if status == "done" else ({}, {})
    all_tables = {"val": loop.evaluate("val")[1], "test": tables} if tables else {}
    if test:
        log.write(step, **test)
        test = {name: value for name, value in test.items() if math.isfinite(value)}
    objective = loop.objective.of_run(loop.evaluations)
    facts: dict[str, Any] = {
        "objective": None if math.isnan(objective) else objective,
        "best": None if best is None else {"step": loop.step_of(best.tick), "value": best.value},
        "test": test,
        "tables": all_tables,
        "stopped_at": None if loop.stopped_at is None else loop.step_of(loop.stopped_at),
        "seconds": loop.seconds,
    }
    folder.update_metadata(status=status, step=step, chosen_tick=chosen, diverged_at=loop.diverged_at, error=None, **facts)
    return Result(
        config=loop.run.config,
        run_dir=folder.path,
        status=status,
        **{**facts, "objective": objective},
        diverged_at=loop.diverged_at,
        params=None if chosen is None else loop.params(),
        history=folder.history(),
    )


def finished(
    folder: RunFolder, config: Config, checkpoints: Checkpoints, like: Callable[[], TrialState], evaluated: Evaluated
) -> Result:
    """Returns the result of a run that had ended before.

    Args:
      folder: its folder.
      config: its config.
      checkpoints: its checkpoints, which are closed.
      like: returns arrays in the structure of its states.
      evaluated: the parameters of a state that are the result.
    """
    facts = folder.metadata()
    with contextlib.closing(checkpoints):
        chosen = facts["chosen_tick"]
        params = None if chosen is None else evaluated(checkpoints.restore(chosen, like())[0])
    return Result(
        config=config,
        run_dir=folder.path,
        status=facts["status"],
        objective=math.nan if facts["objective"] is None else facts["objective"],
        best=facts["best"],
        test=facts["test"],
        tables=facts["tables"],
        stopped_at=facts["stopped_at"],
        seconds=facts["seconds"],
        diverged_at=facts["diverged_at"],
        params=params,
        history=folder.history(),
    )
