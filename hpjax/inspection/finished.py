"""Looking inside a run that has a checkpoint, from its folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hpjax import build, devices, saved
from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.inspection.histograms import Histogram
from hpjax.inspection.measure import on_host
from hpjax.inspection.settings import DEFAULTS, chosen, filled
from hpjax.lanes import LaneProgram
from hpjax.placement import Layout


@dataclasses.dataclass(frozen=True)
class Inspected:
    """What was found inside a run.

    Attributes:
      step: optimizer steps that the checkpoint had done.
      values: numbers, by their name in the logs.
      histograms: of NumPy arrays, by their name in the logs.
    """

    step: int
    values: dict[str, float]
    histograms: dict[str, Histogram]


def of_run(run_dir: str | Path, names: Sequence[str], step: int | None = None, **settings: Any) -> Inspected:
    """Looks inside a run, on one device, at its chosen checkpoint; nothing in its folder is changed.

    Args:
      run_dir: the run's folder.
      names: names in `INSPECTIONS`.
      step: the step of another checkpoint that is kept.
      settings: inspect_examples, sharpness_iterations, sharpness_values.

    Raises:
      ConfigError: an unknown name or setting, or one that is not used.
      DataError: the run's data set is missing or damaged.
      RunFolderError: the folder holds no run, no such checkpoint, or the data set has changed since.
    """
    config = _config(run_dir, names, settings)
    devices.configure()
    run = saved.load(run_dir, config, step)
    program = LaneProgram(run.trial, Layout())
    examples = program.put_examples(build.examples(run.dataset))
    states = jax.tree.map(lambda leaf: np.asarray(leaf)[None], run.state)
    found = program.inspect(states, program.put_values([run.values]), examples, chosen(config))
    return Inspected(run.step, *on_host(found))


def _config(run_dir: str | Path, names: Sequence[str], settings: dict[str, Any]) -> Config:
    stored = saved.config_of(run_dir)
    for name in settings:
        if name not in DEFAULTS:
            raise ConfigError(f"setting '{name}' is not for looking inside; expected one of {', '.join(DEFAULTS)}")
    if not names:
        raise ConfigError("inspect is none; expected what to look at")
    unset: dict[str, Any] = dict.fromkeys(("inspect_every", *DEFAULTS))
    config = stored.replace(**{**unset, **settings, "inspect": tuple(names)})
    return config.replace(**filled(config))
