"""The host's side of a single run: chunk after chunk, evaluation, logs, checkpoints, stop and resume.

The host is one boundary behind the device: it reads the results of a chunk while the next one runs.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from hpjax import evaluation, inspection, metrics
from hpjax.build import SingleRun
from hpjax.callbacks import Callbacks
from hpjax.checkpoints import Checkpoints
from hpjax.inspection.measure import Measured, on_host
from hpjax.interrupt import Interrupt
from hpjax.logs import RunLog
from hpjax.objective import Evaluation, Objective
from hpjax.processes.team import ALONE, Alone
from hpjax.progress import ProgressView
from hpjax.resolve import Lengths
from hpjax.saver import Saver
from hpjax.state import NO_METRICS, RUNNING, TrialState
from hpjax.stopping import EarlyStopping

SECONDS_BETWEEN_LOOKS = 1.0
"""A chunk is cut so that the host looks this often; where it is cut does not change a bit."""

SCALARS = {
    "last/learning_rate": "optimizer/learning_rate",
    "last/gradient": "norm/gradient",
    "last/parameters": "norm/parameters",
    "last/update": "norm/update",
}
"""Names of the report's scalars in the logs; losses and metrics are `train/NAME`."""

SCHEDULED = {"weight_decay": "last/weight_decay", "momentum": "last/momentum", "batch_size": "last/batch_size"}
"""More of them, logged as `optimizer/NAME` where a schedule changes them."""


class _Boundary(NamedTuple):
    """Where a chunk ended, and what the device was asked for there: arrays that may still be computed."""

    tick: int
    report: Mapping[str, jax.Array]
    evaluation: Mapping[str, jax.Array] | None
    snapshot: TrialState | None
    inspected: Measured | None


class Loop:
    """Trains one trial from its tick to its end.

    Attributes:
      tick: ticks done by the device.
      evaluations: the objective so far.
      seconds: training time so far, earlier sittings included.
      diverged_at: the step whose loss was not finite, or None.
      stopped_at: the tick at which early stopping ended the run, or None.
    """

    def __init__(
        self,
        run: SingleRun,
        lengths: Lengths,
        objective: Objective,
        splits: Mapping[str, tuple[int, int]],
        log: RunLog,
        checkpoints: Checkpoints,
        team: Alone = ALONE,
    ):
        self.run, self.objective = run, objective
        self.tick = 0
        self.evaluations: list[Evaluation] = []
        self.seconds = 0.0
        self.diverged_at: int | None = None
        self.stopped_at: int | None = None
        config = run.config
        self._accumulation = config.batch_size // (config.micro_batch_size or config.batch_size)
        self._lengths, self._splits, self._log = lengths, splits, log
        self._saver = Saver(checkpoints, log, objective)
        self._checkpoints, self._team = checkpoints, team
        self._stopping = EarlyStopping(
            config.early_stopping_patience,
            config.early_stopping_min_delta,
            self._every(lengths.early_stopping_min_steps),
        )
        self._callbacks = Callbacks(config.callback)
        self._asked = inspection.chosen(config)
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
        """Whether the trial has come to its end, was stopped early or diverged."""
        return self.tick >= self.end or self.diverged_at is not None or self.stopped_at is not None

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
        self.stopped_at = self._stopping.stops_at(self.objective, self.evaluations)

    def train(self, interrupt: Interrupt, view: ProgressView) -> None:
        """Trains until the end, divergence or a signal; the state reached is saved.

        Raises:
          RunFolderError: a file could not be written.
        """
        self._compile()
        pending: _Boundary | None = None
        self._clock = time.monotonic()
        while not self.finished:
            look, stop = self._team.pace(max(1, int(self._ticks_per_second * SECONDS_BETWEEN_LOOKS)), interrupt.signal)
            if stop is not None:
                interrupt.signal = stop
                break
            boundary = self._advance(look)
            if pending is not None:
                self._handle(pending, view)
            pending = boundary
        if pending is not None:
            self._handle(pending, view)
        self._saver.wait()
        if self.tick not in self._checkpoints.ticks():
            self._save(self.tick, self.run.program.take(self._states, 0), regular=False)
            self._saver.wait()

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

    def evaluate(self, split: str) -> tuple[dict[str, float], dict[str, Any]]:
        """Returns what is measured over a split with the current parameters: numbers, and tables; empty if the split is."""
        if self._splits[split][1] == 0:
            return {}, {}
        measured = self._evaluated_on(split)
        numbers, tables = self._finished(measured, split)
        return {f"{split}/{name}": value for name, value in numbers.items()}, tables

    def params(self) -> Any:
        """Returns the parameters of the current state that are evaluated, as NumPy arrays."""
        return self.run.evaluated(jax.device_get(self.run.program.take(self._states, 0)))

    def _compile(self) -> None:
        """Compiles what training needs, so that the clock does not count it: a chunk of no ticks changes nothing."""
        if self._states is None:
            self._states = self.run.init()
        program, feed = self.run.program, self.run.feed
        examples = self.run.examples if feed is None else feed.placeholder()
        self._states, _ = program.chunk(self._states, self.run.values, examples, 0)
        measured = self._evaluated_on("val")
        jax.block_until_ready((program.take(self._states, 0), measured, self._inspected()))

    def _evaluated_on(self, split: str) -> dict[str, jax.Array]:
        """Asks the device to measure a split."""
        start, size = self._splits[split]
        examples, start = self.run.held_out(split, start)
        return self.run.program.evaluate(self._states, examples, start, size)

    def _inspected(self) -> Measured | None:
        """Asks the device to look inside, where that is wanted."""
        if not self._asked.names:
            return None
        return self.run.program.inspect(self._states, self.run.values, self.run.examples, self._asked)

    def _every(self, steps: int) -> int:
        return steps * self._accumulation

    def _advance(self, look: int) -> _Boundary:
        """Asks the device for the chunk up to the next boundary, at most `look` ticks, and for what is due there."""
        due = [self._lengths.log_every, self._lengths.eval_every, self._lengths.checkpoint_every]
        due += [self._lengths.inspect_every] if self._asked.names else []
        ends = [self.tick - self.tick % self._every(steps) + self._every(steps) for steps in due]
        target = min(*ends, self.end, self.tick + look)
        program, examples = self.run.program, self.run.examples
        if self.run.feed is not None:
            window = self.run.feed.at(self.tick)
            examples, target = window.examples, min(target, window.end)
        self._states, report = program.chunk(self._states, self.run.values, examples, target - self.tick)
        self.tick = target
        evaluation = snapshot = None
        if self._is_due(target, self._lengths.eval_every):
            evaluation = self._evaluated_on("val")
            if self.run.observes and self._splits["val"][1] > 0:
                self._states = program.observe(self._states, self.run.values, evaluation)
        if evaluation is not None or self._is_due(target, self._lengths.checkpoint_every) or self._shown(target):
            snapshot = program.take(self._states, 0)
        looks = self._asked.names and self._is_due(target, self._lengths.inspect_every)
        return _Boundary(target, report, evaluation, snapshot, self._inspected() if looks else None)

    def _shown(self, tick: int) -> bool:
        """Returns whether callbacks are called at a tick: not where only the clock has cut a chunk."""
        every = (self._lengths.log_every, self._lengths.eval_every, self._lengths.checkpoint_every)
        return bool(self._callbacks) and any(self._is_due(tick, steps) for steps in every)

    def _is_due(self, tick: int, steps: int) -> bool:
        return tick % self._every(steps) == 0 or tick == self.end

    def _handle(self, boundary: _Boundary, view: ProgressView) -> None:
        """Reads a boundary's results, which waits for the device to get there, and writes what is due."""
        if self.diverged_at is not None or self.stopped_at is not None:
            return
        report = {name: value[0].item() for name, value in jax.device_get(dict(boundary.report)).items()}
        now = time.monotonic()
        passed, self._clock = max(now - self._clock, 1e-9), now
        self.seconds += passed
        self._ticks_per_second = (boundary.tick - self._handled) / passed
        self._handled = boundary.tick
        step = boundary.tick // self._accumulation
        speed = self._ticks_per_second * self.run.program.trial.micro_batch_size
        shown = {f"train/{name}": self._mean(name, report[name]) for name in self.run.program.trial.reported}
        if report["diverged_at"] != RUNNING:
            self._diverge(report["tick"])
            return
        if self._is_due(boundary.tick, self._lengths.log_every):
            scalars = {logged: report[name] for name, logged in SCALARS.items()}
            scalars |= {f"optimizer/{name}": report[SCHEDULED[name]] for name in self.run.scheduled}
            if self.run.feed is not None:
                scalars |= self.run.feed.rates().scalars
            self._log.write(step, **shown, **scalars, **{"speed/examples_per_second": speed})
        view.update(step, report["loss"], report["last/learning_rate"], speed)
        if boundary.inspected is not None:
            self._log.inspected(step, *on_host(boundary.inspected))
        improved = False
        if boundary.evaluation is not None:
            shown |= self._measured(boundary, step)
            improved = self._evaluated(boundary.tick, shown, view)
        if boundary.snapshot is not None and (improved or self._is_due(boundary.tick, self._lengths.checkpoint_every)):
            self._save(boundary.tick, boundary.snapshot)
        if boundary.snapshot is not None and self._shown(boundary.tick) and self._team.first:
            self._callbacks.call(step, self._lengths.train_steps, shown, boundary.snapshot)
        if boundary.evaluation is not None:
            self._stop_early(boundary, view)

    def _stop_early(self, boundary: _Boundary, view: ProgressView) -> None:
        """Ends the run where it has not improved for long enough."""
        self.stopped_at = self._stopping.stops_at(self.objective, self.evaluations)
        if self.stopped_at is not None and boundary.snapshot is not None:
            # The device is a chunk ahead: what it has done since does not count.
            self._states = self.run.program.put(self._states, 0, boundary.snapshot)
            self.tick = boundary.tick
            view.say(f"stopped at step {self.step}: no improvement in {self._stopping.patience} evaluations")

    def _finished(self, measured: Mapping[str, jax.Array], split: str) -> tuple[dict[str, float], dict[str, Any]]:
        of_lane = {name: value[0] for name, value in jax.device_get(dict(measured)).items()}
        return evaluation.finish(of_lane, self._splits[split][1], self.run.target_scale)

    def _mean(self, name: str, value: float) -> float:
        return value if name in NO_METRICS else float(metrics.finish(name, np.asarray(value), self.run.target_scale))

    def _measured(self, boundary: _Boundary, step: int) -> dict[str, float]:
        """Returns and logs the numbers of an evaluation."""
        if self._splits["val"][1] == 0:
            return {}
        numbers, _ = self._finished(boundary.evaluation or {}, "val")
        val = {f"val/{name}": value for name, value in numbers.items()}
        self._log.write(step, **val)
        return val

    def _evaluated(self, tick: int, measured: Mapping[str, float], view: ProgressView) -> bool:
        """Notes the objective's value; returns whether its parameters are the ones to keep."""
        # The accuracy of NaN logits is that of the first class: it would pass for a value.
        sound = math.isfinite(measured.get("val/loss", 0.0))
        self.evaluations.append(Evaluation(tick, measured[self.objective.name] if sound else math.nan))
        measures = "  ".join(f"{name} {value:.4g}" for name, value in measured.items())
        view.say(f"step {self.step_of(tick)}/{self._lengths.train_steps}  {measures}")
        return self.objective.chosen_tick(self.evaluations) == tick

    def _diverge(self, tick: int) -> None:
        """Ends the run: the loss of the tick that would follow is not finite."""
        self.tick, self.diverged_at = tick, self.step_of(tick)
        self._log.write(self.diverged_at, **{"train/loss": math.nan})

    def _save(self, tick: int, snapshot: TrialState, regular: bool = True) -> None:
        progress = {"seconds": self.seconds, "diverged_at": self.diverged_at}
        if not self._saver.save(tick, jax.device_get(snapshot), self.evaluations, progress, regular):
            # The last update left the finite numbers; nothing of it is kept, nor called the best.
            if self.diverged_at is None:
                self._diverge(tick)
            self.evaluations = [e._replace(value=math.nan) if e.tick == tick else e for e in self.evaluations]
