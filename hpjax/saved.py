"""A run's checkpoint, read back from its folder without changing anything there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hpjax import build, checkpoints, flags, resolve
from hpjax.config import Config
from hpjax.data import Dataset
from hpjax.errors import ConfigError, RunFolderError, did_you_mean
from hpjax.runfolder import CHECKPOINTS, FLAGS, JOURNAL, read_metadata
from hpjax.state import TrialState
from hpjax.trial import Trial


class Saved(NamedTuple):
    """A run at a checkpoint.

    Attributes:
      config: its resolved config.
      dataset: its data.
      trial: the static part of its trial.
      values: its traced values.
      state: the trial, NumPy arrays.
      step: optimizer steps done.
    """

    config: Config
    dataset: Dataset
    trial: Trial
    values: Mapping[str, Any]
    state: TrialState
    step: int


def config_of(run_dir: str | Path) -> Config:
    """Returns a run's config; raises RunFolderError where the folder holds no run."""
    folder = Path(run_dir).expanduser()
    if not (folder / FLAGS).is_file():
        near = did_you_mean(str(folder), [str(other.parent) for other in folder.parent.glob(f"*/{FLAGS}")])
        raise RunFolderError(f"'{folder}' holds no run{near or f'; expected a run folder, with {FLAGS}'}")
    if (folder / JOURNAL).is_file():
        raise RunFolderError(f"'{folder}' holds a study, not a run; expected a run: train its best.flags")
    try:
        return flags.parse([FLAGS, f"--flagfile={folder / FLAGS}"])
    except ConfigError as error:
        raise RunFolderError(f"'{folder / FLAGS}' cannot be read: {error}") from None


def load(run_dir: str | Path, config: Config, step: int | None = None) -> Saved:
    """Returns a run at its chosen checkpoint, or at that of another step.

    Args:
      run_dir: its folder.
      config: its config, from `config_of`.
      step: optimizer steps of another checkpoint that is kept.

    Raises:
      ConfigError: there is no checkpoint of that step.
      DataError: the run's data set is missing or damaged.
      RunFolderError: there is no checkpoint, it is damaged, or the data set has changed since.
    """
    folder = Path(run_dir).expanduser()
    tick = _tick(folder, config, step)
    dataset = build.load(config)
    if read_metadata(folder).get("data") not in (None, dataset.fingerprint()):
        raise RunFolderError(f"the data set of '{folder}' has changed since the run was begun; expected the same data")
    lengths, _ = resolve.lengths(config, dataset.splits["train"][1])
    part, values = build.trial(config, dataset), resolve.traced(config, lengths)
    like = build.like(part, values, build.examples(dataset))
    state = checkpoints.read(folder / CHECKPOINTS / str(tick), like)
    return Saved(config, dataset, part, values, state, _steps(config, tick))


def _steps(config: Config, tick: int) -> int:
    return tick // (config.batch_size // (config.micro_batch_size or config.batch_size))


def _tick(folder: Path, config: Config, step: int | None) -> int:
    kept = sorted(int(path.name) for path in (folder / CHECKPOINTS).glob("*") if path.name.isdecimal())
    if not kept:
        raise RunFolderError(f"'{folder}' has no checkpoint yet; expected a run that has saved one")
    if step is None:
        best = read_metadata(folder).get("chosen_tick")
        return best if best in kept else kept[-1]
    found = [tick for tick in kept if _steps(config, tick) == step]
    if not found:
        steps = ", ".join(str(_steps(config, tick)) for tick in kept)
        raise ConfigError(f"step is {step}; checkpoints are kept of steps {steps}")
    return found[-1]
