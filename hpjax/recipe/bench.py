"""A few short trials side by side, outside of any study: what the first steps of the recipe measure with."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from hpjax import build, evaluation, resolve
from hpjax.batch import Examples
from hpjax.config import Config
from hpjax.data import Dataset
from hpjax.lanes import LaneProgram
from hpjax.placement import Layout
from hpjax.state import RUNNING, TrialState, Values

PIECE = 1.0
"""Seconds of training between two looks at the clock."""


@dataclasses.dataclass
class Curve:
    """How one trial went.

    Attributes:
      steps: where it was looked at.
      losses: mean training loss since the look before; NaN from where it diverged.
      seconds: since the first look began, at each.
    """

    steps: list[int] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return not all(map(math.isfinite, self.losses))


class Bench:
    """Lanes of width 1 for trials of one compile group, spread over the devices.

    Attributes:
      program: the lane program.
      examples: the data set, on the devices.
      dataset: the data set.
    """

    def __init__(self, config: Config, dataset: Dataset, lanes: int):
        """Makes the program of a resolved config's compile group.

        Args:
          config: one of the trials'.
          dataset: the data.
          lanes: trials at once.
        """
        devices = min(lanes, len(jax.devices()))
        self._asked = lanes
        self.dataset = dataset
        layout = Layout(lanes=-(-lanes // devices) * devices, lane_devices=devices)
        self.program = LaneProgram(build.trial(config, dataset), layout)
        self.examples = self.program.put_examples(Examples(dataset.x, dataset.y))  # type: ignore[arg-type]

    def values(self, configs: Sequence[Config], on: Sequence[int] | None = None) -> Values:
        """Returns the traced values of some resolved configs, at most as many as lanes; idle lanes have no steps.

        Args:
          configs: the trials'.
          on: those that are not idle; None for all.
        """
        size = self.dataset.splits["train"][1]
        made = [resolve.traced(config, resolve.lengths(config, size)[0]) for config in configs]
        idle = {**made[0], "train_steps": np.int32(0)}
        made = [one if on is None or lane in on else {**one, "train_steps": np.int32(0)} for lane, one in enumerate(made)]
        return self.program.put_values(made + [idle] * (self.program.layout.lanes - len(made)))

    def init(self, configs: Sequence[Config]) -> tuple[TrialState, Values]:
        """Returns new trials and their values."""
        values = self.values(configs)
        return self.program.init(values, self.examples), values

    def measure(self, states: TrialState, split: str, most: int = 4096) -> list[dict[str, float]]:
        """Returns loss and metrics of each trial over a split's first examples, at most so many, by name."""
        start, size = self.dataset.splits[split]
        size = min(size, most)
        found = jax.device_get(self.program.evaluate(states, self.examples, start, size))
        rows = []
        for lane in range(self._asked):
            of_lane = {name: value[lane] for name, value in found.items()}
            rows.append(evaluation.finish(of_lane, size, self.dataset.target_scale)[0])
        return rows

    def run(
        self,
        configs: Sequence[Config],
        every: int,
        looks: int,
        until: Callable[[int], bool] = lambda looks: False,
        keep: tuple[int, int] | None = None,
    ) -> tuple[TrialState, list[Curve]]:
        """Trains new trials, and looks at them now and then.

        Args:
          configs: resolved configs of one compile group, whose `log_every` is `every` steps.
          every: steps between two looks.
          looks: how many, at most.
          until: whether it is enough after so many looks; asked in between, too, and what was begun then does not count.
          keep: a look, and how many go on after it, those with the lowest losses there; None for all.

        Returns:
          The states in the end, and a curve of each trial.
        """
        states, values = self.init(configs)
        accumulation = configs[0].batch_size // (configs[0].micro_batch_size or configs[0].batch_size)
        curves = [Curve() for _ in configs]
        on = list(range(len(configs)))
        clock = _Pieces()
        for look in range(1, looks + 1):
            made = 0
            while made < every and not (look > 1 and until(look - 1)):
                steps = clock.next(every - made)
                states, report = self.program.chunk(states, values, self.examples, steps * accumulation)
                jax.block_until_ready(report)
                clock.took(steps)
                made += steps
            if made < every:
                break
            found = jax.device_get(report)
            for lane in on:
                finite = found["diverged_at"][lane] == RUNNING
                curves[lane].steps.append(look * every)
                curves[lane].losses.append(float(found["loss"][lane]) if finite else math.nan)
                curves[lane].seconds.append(clock.seconds)
            if until(look):
                break
            if keep is not None and look == keep[0]:
                on = sorted(on, key=lambda lane: _lowest_first(curves[lane].losses[-1]))[: keep[1]]
                values = self.values(configs, on)
        return states, curves


class _Pieces:
    """Cuts looks into pieces of about a second, so that a deadline ends a slow one; where it is cut changes no number."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._compiled = math.nan
        self._steps_per_second = math.nan

    def next(self, most: int) -> int:
        """Returns how many steps to make, at most so many."""
        if math.isnan(self._steps_per_second):
            return 1
        return max(min(most, int(self._steps_per_second * PIECE)), 1)

    def took(self, steps: int) -> None:
        """Notes that so many steps were made; the first piece is the compiler's."""
        now = time.monotonic()
        if math.isnan(self._compiled):
            self._compiled = now
        else:
            self._steps_per_second = steps / max(now - self._begun, 1e-6)
        self._begun = now

    @property
    def seconds(self) -> float:
        """Seconds since the compiler was done."""
        return self._begun - self._compiled


def _lowest_first(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
