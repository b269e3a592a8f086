"""A few short trials side by side, outside of any study: what the first steps of the recipe measure with."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hpjax import build, evaluation, resolve
from hpjax.batch import Examples
from hpjax.config import Config
from hpjax.data import Dataset
from hpjax.lanes import LaneProgram, Layout
from hpjax.trial import RUNNING, TrialState, Values


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

    def values(self, configs: Sequence[Config]) -> Values:
        """Returns the traced values of some resolved configs, at most as many as lanes; idle lanes have no steps."""
        size = self.dataset.splits["train"][1]
        made = [resolve.traced(config, resolve.lengths(config, size)[0]) for config in configs]
        idle = {**made[0], "train_steps": np.int32(0)}
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
        self, configs: Sequence[Config], every: int, looks: int, until: Callable[[int], bool] = lambda looks: False
    ) -> tuple[TrialState, list[Curve]]:
        """Trains new trials, and looks at them now and then.

        Args:
          configs: resolved configs of one compile group, whose `log_every` is `every` steps.
          every: steps between two looks.
          looks: how many, at most.
          until: whether it is enough after so many looks.

        Returns:
          The states in the end, and a curve of each trial.
        """
        states, values = self.init(configs)
        accumulation = configs[0].batch_size // (configs[0].micro_batch_size or configs[0].batch_size)
        curves = [Curve() for _ in configs]
        reports: list[tuple[float, Mapping[str, Any]]] = []
        begun = None
        for _ in range(looks):
            states, report = self.program.chunk(states, values, self.examples, every * accumulation)
            if begun is None:
                # Without the compiler.
                jax.block_until_ready(report)
                begun = time.monotonic()
            reports.append((time.monotonic() - begun, report))
            if len(reports) > 1:
                jax.block_until_ready(reports[-2][1])
            if until(len(reports)):
                break
        jax.block_until_ready(reports[-1][1])
        for look, (seconds, given) in enumerate(reports, 1):
            found = jax.device_get(given)
            for lane, curve in enumerate(curves):
                curve.steps.append(look * every)
                finite = found["diverged_at"][lane] == RUNNING
                curve.losses.append(float(found["loss"][lane]) if finite else math.nan)
                curve.seconds.append(seconds)
        return states, curves
