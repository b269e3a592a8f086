"""The host's side of a single run: chunk after chunk, evaluation, logs, checkpoints, stop and resume.

The host is one boundary behind the device: it reads the results of a chunk while the next one runs.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from hpjax.build import SingleRun
from hpjax.checkpoints import Checkpoints
from hpjax.errors import HpjaxError, RunFolderError
from hpjax.interrupt import Interrupt
from hpjax.logs import RunLog
from hpjax.objective import Evaluation, Objective
from hpjax.progress import ProgressView
from hpjax.resolve import Lengths
from hpjax.trial import RUNNING, TrialState

SECONDS_BETWEEN_LOOKS = 1.0
"""A chunk is cut so that the host looks this often; where it is cut does not change a bit."""

SCALARS = {
    "learning_rate": "optimizer/learning_rate",
    "gradient_norm": "norm/gradient",
    "parameter_norm": "norm/parameters",
    "update_norm": "norm/update",
}
"""Names of the report's scalars in the logs; losses and metrics are `train/NAME`."""


class _Boundary(NamedTuple):
    """Where a chunk ended, and what the device was asked for there: arrays that may still be computed."""

    tick: int
    report: Mapping[str, jax.Array]
    evaluation: Mapping[str, jax.Array] | None
    snapshot: TrialState | None


class Loop:
    """Trains one trial from its tick to its end.

    Attributes:
      tick: ticks done by the device.
      evaluations: the objective so far.
      seconds: training time so far, earlier sittings included.
      diverged_at: the step whose loss was not finite, or None.
    """

    def __init__(
        self,
        run: SingleRun,
        lengths: Lengths,
        objective: Objective,
        splits: Mapping[str, tuple[int, int]],
        log: RunLog,
        checkpoints: Checkpoints,
    ):
        self.run, self.objective = run, objective
        self.tick = 0
        self.evaluations: list[Evaluation] = []
        self.seconds = 0.0
        self.diverged_at: int | None = None
        self._accumulation = run.config.batch_size // (run.config.micro_batch_size or run.config.batch_size)
        self._lengths, self._splits, self._log, self._checkpoints = lengths, splits, log, checkpoints
        self._states: Any = None
        self._handled = 0
        self._ticks_per_second = 0.0

    @property
    def step(self) -> int:
        """Optimizer steps done by the device."""
        return self.tick // self._accumulation

    def step_of(self, tick: int) -> int:
        """Returns the optimizer steps done at a tick."""
        return tick // self._accumulation

    @property
    def finished(self) -> bool:
        """Whether the trial has come to its end or diverged."""
        return self.tick >= self.end or self.diverged_at is not None

    @property
    def end(self) -> int:
        """Ticks of the whole run."""
        return self._lengths.train_steps * self._accumulation

    def restore(self, state: TrialState, record: Mapping[str, Any]) -> None:
        """Takes up the run at a checkpoint's state and record."""
        self._states = self.run.program.put(self.run.init(), 0, state)
        self.tick = self._handled = record["tick"]
        self.evaluations = [Evaluation(*pair) for pair in record["evaluations"]]
        self.seconds = record["seconds"]
        self.diverged_at = record["diverged_at"]

    def train(self, interrupt: Interrupt, view: ProgressView) -> None:
        """Trains until the end, divergence or a signal; the state reached is saved.

        Raises:
          RunFolderError: a file could not be written.
        """
        self._compile()
        pending: _Boundary | None = None
        self._clock = time.monotonic()
        while not self.finished and interrupt.signal is None:
            boundary = self._advance()
            if pending is not None:
                self._handle(pending, view)
            pending = boundary
        if pending is not None:
            self._handle(pending, view)
        self._wait()
        if self.tick not in self._checkpoints.ticks():
            self._save(self.tick, self.run.program.take(self._states, 0), regular=False)
            self._wait()

    def chosen_tick(self) -> int | None:
        """Returns the tick whose parameters the objective stands for; without a value the newest kept; None if none are."""
        kept = self._checkpoints.ticks()
        chosen = self.objective.chosen_tick(self.evaluations)
        values = {evaluation.tick: evaluation.value for evaluation in self.evaluations}
        return chosen if chosen in kept and not math.isnan(values[chosen]) else max(kept, default=None)

    def go_back(self, tick: int) -> None:
        """Takes the state of a checkpoint, to evaluate it."""
        if tick != self.tick:
            state, _ = self._checkpoints.restore(tick, self.run.like())
            self._states = self.run.program.put(self._states, 0, state)
            self.tick = tick

    def evaluate(self, split: str) -> dict[str, float]:
        """Returns loss and metrics of the current parameters over a split; empty if the split is."""
        if self._splits[split][1] == 0:
            return {}
        measured = self.run.program.evaluate(self._states, self.run.examples, *self._splits[split])
        return {f"{split}/{name}": float(value[0]) for name, value in jax.device_get(measured).items()}

    def params(self) -> Any:
        """Returns the parameters of the current state, as NumPy arrays."""
        return jax.device_get(self.run.program.take(self._states, 0)).params

    def _compile(self) -> None:
        """Compiles what training needs, so that the clock does not count it: a chunk of no ticks changes nothing."""
        if self._states is None:
            self._states = self.run.init()
        program, examples = self.run.program, self.run.examples
        self._states, _ = program.chunk(self._states, self.run.values, examples, 0)
        start, size = self._splits["val"]
        jax.block_until_ready((program.take(self._states, 0), program.evaluate(self._states, examples, start, size)))

    def _every(self, steps: int) -> int:
        return steps * self._accumulation

    def _advance(self) -> _Boundary:
        """Asks the device for the chunk up to the next boundary, and for what is due there."""
        due = (self._lengths.log_every, self._lengths.eval_every, self._lengths.checkpoint_every)
        ends = [self.tick - self.tick % self._every(steps) + self._every(steps) for steps in due]
        look = self.tick + max(1, int(self._ticks_per_second * SECONDS_BETWEEN_LOOKS))
        target = min(*ends, self.end, look)
        program, examples = self.run.program, self.run.examples
        self._states, report = program.chunk(self._states, self.run.values, examples, target - self.tick)
        self.tick = target
        evaluation = snapshot = None
        if self._is_due(target, self._lengths.eval_every):
            evaluation = program.evaluate(self._states, examples, *self._splits["val"])
        if evaluation is not None or self._is_due(target, self._lengths.checkpoint_every):
            snapshot = program.take(self._states, 0)
        return _Boundary(target, report, evaluation, snapshot)

    def _is_due(self, tick: int, steps: int) -> bool:
        return tick % self._every(steps) == 0 or tick == self.end

    def _handle(self, boundary: _Boundary, view: ProgressView) -> None:
        """Reads a boundary's results, which waits for the device to get there, and writes what is due."""
        if self.diverged_at is not None:
            return
        report = {name: value[0].item() for name, value in jax.device_get(dict(boundary.report)).items()}
        now = time.monotonic()
        passed, self._clock = max(now - self._clock, 1e-9), now
        self.seconds += passed
        self._ticks_per_second = (boundary.tick - self._handled) / passed
        self._handled = boundary.tick
        step = boundary.tick // self._accumulation
        speed = self._ticks_per_second * self.run.program.trial.micro_batch_size
        train = {f"train/{name}": report[name] for name in ("loss", *self.run.program.trial.metrics)}
        if report["diverged_at"] != RUNNING:
            self._diverge(report["tick"])
            return
        if self._is_due(boundary.tick, self._lengths.log_every):
            scalars = {logged: report[name] for name, logged in SCALARS.items()}
            self._log.write(step, **train, **scalars, **{"speed/examples_per_second": speed})
        view.update(step, report["loss"], report["learning_rate"], speed)
        improved = False
        if boundary.evaluation is not None:
            improved = self._evaluated(boundary, step, train, view)
        if boundary.snapshot is not None and (improved or self._is_due(boundary.tick, self._lengths.checkpoint_every)):
            self._save(boundary.tick, boundary.snapshot)

    def _evaluated(self, boundary: _Boundary, step: int, train: Mapping[str, float], view: ProgressView) -> bool:
        """Logs an evaluation; returns whether its parameters are the ones to keep."""
        if self._splits["val"][1] > 0:
            measured = jax.device_get(dict(boundary.evaluation or {}))
            val = {f"val/{name}": value[0].item() for name, value in measured.items()}
            self._log.write(step, **val)
        else:
            val = {}
        # The accuracy of NaN logits is that of the first class: it would pass for a value.
        sound = math.isfinite(val.get("val/loss", 0.0))
        value = {**train, **val}[self.objective.name] if sound else math.nan
        self.evaluations.append(Evaluation(boundary.tick, value))
        measures = "  ".join(f"{name} {value:.4g}" for name, value in {**train, **val}.items())
        view.say(f"step {step}/{self._lengths.train_steps}  {measures}")
        return self.objective.chosen_tick(self.evaluations) == boundary.tick

    def _diverge(self, tick: int) -> None:
        """Ends the run: the loss of the tick that would follow is not finite."""
        self.tick, self.diverged_at = tick, self.step_of(tick)
        self._log.write(self.diverged_at, **{"train/loss": math.nan})

    def _save(self, tick: int, snapshot: TrialState, regular: bool = True) -> None:
        state = jax.device_get(snapshot)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params)):
            # The last update left the finite numbers; nothing of it is kept, nor called the best.
            if self.diverged_at is None:
                self._diverge(tick)
            self.evaluations = [e._replace(value=math.nan) if e.tick == tick else e for e in self.evaluations]
            return
        record = {
            "tick": tick,
            "evaluations": [list(evaluation) for evaluation in self.evaluations],
            "seconds": self.seconds,
            "diverged_at": self.diverged_at,
            "sizes": self._log.sizes(),
        }
        newest = self.evaluations[-1] if self.evaluations and regular else None
        score = self.objective.score(newest.value) if newest is not None and newest.tick == tick else -math.inf
        try:
            self._checkpoints.save(tick, state, record, score, regular)
        except Exception as error:
            raise _explained(error) from error

    def _wait(self) -> None:
        try:
            self._checkpoints.wait()
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
