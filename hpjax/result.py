"""What a run came to, and how it is closed: the test split read once, with the parameters the objective stands for."""

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any

from hpjax.checkpoints import Checkpoints
from hpjax.config import Config
from hpjax.logs import RunLog, read_history
from hpjax.loop import Loop
from hpjax.runfolder import CHECKPOINTS, RunFolder

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
    diverged_at: int | None
    params: Any
    history: list[dict[str, Any]]
    seconds: float


FACTS = ("step", "chosen_tick", "diverged_at", "objective", "best", "test", "seconds")
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
    test = loop.evaluate("test") if status == "done" else {}
    if test:
        log.write(step, **test)
        test = {name: value for name, value in test.items() if math.isfinite(value)}
    objective = loop.objective.of_run(loop.evaluations)
    facts: dict[str, Any] = {
        "objective": None if math.isnan(objective) else objective,
        "best": None if best is None else {"step": loop.step_of(best.tick), "value": best.value},
        "test": test,
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
        history=read_history(folder.path),
    )


def finished(folder: RunFolder, config: Config) -> Result:
    """Returns the result of a run that had ended before."""
    facts = folder.metadata()
    with contextlib.closing(Checkpoints(folder.path / CHECKPOINTS, config.keep_newest, config.keep_best)) as checkpoints:
        chosen = facts["chosen_tick"]
        params = None if chosen is None else checkpoints.restore_params(chosen)
    return Result(
        config=config,
        run_dir=folder.path,
        status=facts["status"],
        objective=math.nan if facts["objective"] is None else facts["objective"],
        best=facts["best"],
        test=facts["test"],
        seconds=facts["seconds"],
        diverged_at=facts["diverged_at"],
        params=params,
        history=read_history(folder.path),
    )
