"""From a resolved config and its data set to a program on the devices."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hpjax import devices
from hpjax.config import Config
from hpjax.data import DATASETS, Dataset
from hpjax.data.dataset import check
from hpjax.errors import ConfigError, DataError
from hpjax.lanes import LaneProgram, Layout
from hpjax.losses import LOSSES, METRICS
from hpjax.models import MODELS
from hpjax.objective import Objective
from hpjax.trial import Examples, Trial, TrialState, Values


def load(config: Config) -> Dataset:
    """Returns the data set of a resolved config.

    Raises:
      DataError: it is missing or damaged.
      ConfigError: a split that the objective needs is empty.
    """
    dataset = DATASETS.get(config.dataset)(**_settings(config, DATASETS.settings(config.dataset)))
    if not isinstance(dataset, Dataset):
        raise DataError(f"dataset '{config.dataset}' gave a {type(dataset).__name__}; expected a hpjax.data.Dataset")
    check(dataset)
    most = max(len(dataset.x), Config().eval_batch_size)
    if config.eval_batch_size > most:
        raise ConfigError(f"eval_batch_size is {config.eval_batch_size}; expected at most {most}")
    split = config.objective.partition("/")[0]
    if dataset.splits[split][1] == 0:
        raise ConfigError(f"objective is '{config.objective}'; the data set has no {split} split to measure it on")
    return dataset


def trial(config: Config, dataset: Dataset) -> Trial:
    """Returns the static part of a resolved config's trial."""
    model = MODELS.get(config.model)(dataset.num_classes, **_settings(config, MODELS.settings(config.model)))
    return Trial(
        model=model,
        optimizer=config.optimizer,
        loss=config.loss,
        metrics=METRICS.names(),
        micro_batch_size=config.micro_batch_size or config.batch_size,
        eval_batch_size=config.eval_batch_size,
        train_size=dataset.splits["train"][1],
        scale=dataset.scale,
        shift=dataset.shift,
    )


def check_parts(config: Config, dataset: Dataset, scalars: Mapping[str, Any]) -> None:
    """Traces the model, the loss and a whole tick, without running them.

    Args:
      config: a resolved config.
      dataset: its data.
      scalars: its traced scalars, by name.

    Raises:
      ConfigError: the model does not give one output a class, or the loss one value an example. What a part of one's own
        raises comes through as it is.
    """
    part = dataclasses.replace(trial(config, dataset), data_axis=None)
    classes = dataset.num_classes

    def outputs(x: jax.Array) -> Any:
        x = part.inputs(x)
        return part.model.apply(part.model.init(jax.random.key(0), x), x)

    def tick(values: Values, examples: Examples) -> TrialState:
        return part.tick(part.init(values, examples), values, examples)

    two = jax.ShapeDtypeStruct((2, *dataset.x.shape[1:]), dataset.x.dtype)
    logits = jax.eval_shape(outputs, two)
    if getattr(logits, "shape", None) != (2, classes):
        raise ConfigError(f"model '{config.model}' gives {_shape(logits)} for 2 examples; expected (2, {classes})")
    loss = jax.eval_shape(LOSSES.get(config.loss), logits, jax.ShapeDtypeStruct((2,), np.int32))
    if getattr(loss, "shape", None) != (2,):
        raise ConfigError(f"loss '{config.loss}' gives {_shape(loss)} for 2 examples; expected (2,)")
    jax.eval_shape(tick, dict(scalars), Examples(dataset.x, dataset.y))  # type: ignore[arg-type]


def _shape(given: Any) -> str:
    return str(getattr(given, "shape", type(given).__name__))


def objective(config: Config) -> Objective:
    """Returns a config's objective."""
    return Objective.parse(config.objective, config.objective_value, METRICS.names())


@dataclasses.dataclass
class SingleRun:
    """One trial in lane 0 of a program, the other lanes of its width idle.

    Attributes:
      program: the lane program.
      values: its lanes' traced scalars, on the devices.
      examples: the data set, on the devices.
      config: the config with devices and lane width as numbers.
      note: what was measured to choose them, or None.
    """

    program: LaneProgram
    values: Values
    examples: Examples
    config: Config
    note: str | None

    def init(self) -> TrialState:
        """Returns the states before the first tick."""
        return self.program.init(self.values, self.examples)

    def like(self) -> Any:
        """Returns NumPy zeros in the structure of the trial's state."""
        shapes = jax.eval_shape(lambda: self.program.take(self.init(), 0))
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def single_run(config: Config, dataset: Dataset, scalars: dict[str, Any]) -> SingleRun:
    """Returns a resolved config's run on the devices; `auto` devices on a CPU are measured.

    Args:
      config: a resolved config.
      dataset: its data.
      scalars: its traced scalars, by name.

    Raises:
      ConfigError: the devices do not exist or do not divide the batches.
    """
    width = 1 if config.lane_width == "auto" else int(config.lane_width)
    part = trial(config, dataset)
    choices = devices.candidates(config.devices, part.micro_batch_size, part.eval_batch_size)
    made: dict[int, SingleRun] = {}

    def make(number: int) -> SingleRun:
        layout = Layout(lanes=width, width=width, data_devices=number, parallel=config.parallel)  # type: ignore[arg-type]
        program = LaneProgram(part, layout)
        idle = {**scalars, "train_steps": np.int32(0)}
        values = program.put_values([scalars] + [idle] * (width - 1))
        chosen = config.replace(devices=str(number), lane_width=str(width))
        examples = program.put_examples(Examples(dataset.x, dataset.y))  # type: ignore[arg-type]
        return SingleRun(program, values, examples, chosen, None)

    def runner(number: int) -> Any:
        made[number] = run = make(number)
        # Rate 0 cannot diverge, and the probe must not end with the run.
        endless = {**scalars, "train_steps": np.int32(2**30), "learning_rate": np.float32(0)}
        values = run.program.put_values([endless] * width)
        states = run.init()

        def ticks(number_of_ticks: int) -> Any:
            nonlocal states
            states, report = run.program.chunk(states, values, run.examples, number_of_ticks)
            return report

        return ticks

    if len(choices) == 1:
        return make(choices[0])
    best, note = devices.fastest(choices, runner)
    return dataclasses.replace(made[best], note=note)


def _settings(config: Config, names: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}
