"""How a run begins where several processes share it: they compare what must be alike, and process 0 opens the folder."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax

from hpjax import devices
from hpjax.checkpoints import Checkpoints
from hpjax.config import FIELDS, NOT_PART_OF_A_RUN, PLACES, Config, to_text
from hpjax.data import Dataset
from hpjax.errors import ConfigError
from hpjax.logs import RunLog
from hpjax.processes.sharing import NoLog, SharedCheckpoints, SharedFolder, same
from hpjax.processes.team import Alone
from hpjax.runfolder import CHECKPOINTS, RunFolder


def share(team: Alone, config: Config) -> devices.Share:
    """Returns the processes that a run's devices belong to; raises ConfigError for what several cannot do."""
    if team.number == 1:
        return devices.ALL
    if config.parallel == "pmap":
        raise ConfigError(f"parallel is pmap; expected shard_map for a run of {team.number} processes")
    return devices.Share(team.number, min(team.gathered(jax.local_device_count(), "local devices")))


def check_alike(team: Alone, config: Config, dataset: Dataset, more: Mapping[str, str] | None = None) -> None:
    """Refuses a run whose processes were given different settings or data, or have different machines.

    Args:
      team: the processes.
      config: their settings.
      dataset: their data.
      more: further texts by name that must be alike.

    Raises:
      ConfigError: they differ; every process raises the same.
    """
    if team.number == 1:
        return
    names = [name for name in FIELDS if name not in (*NOT_PART_OF_A_RUN, *PLACES)]
    values = {name: getattr(config, name) for name in names}
    facts = {name: "(none)" if value is None else to_text(name, value) for name, value in values.items()}
    machine = devices.identity(1, 1, config.native)
    # Their number of cores changes nothing where devices share a batch.
    facts |= {name: str(value) for name, value in machine.items() if name not in ("cores", "width", "data_devices")}
    # Whether data are streamed may be each machine's own decision, but it makes another program.
    facts["stream"] = "on" if dataset.stream is not None else "off"
    difference = same(team, {**facts, **(more or {}), "the data's checksum": dataset.fingerprint()})
    if difference is not None:
        raise ConfigError(difference)


@contextlib.contextmanager
def folder(team: Alone, config: Config, parts: devices.Share) -> Iterator[tuple[RunFolder, Config]]:
    """Opens the run's folder, in process 0, and gives it back in the end.

    Args:
      team: the processes.
      config: a resolved config, `auto` still in it.
      parts: what the processes have of devices.

    Yields:
      The folder, and the config to run: the folder's own where it holds this run.
    """
    if not team.first:
        facts = team.agreed(None, "folder")
        adopted = Config(**{**facts["config"], **{name: getattr(config, name) for name in PLACES}})
        yield SharedFolder(team, None, facts["path"], facts["resumed"]), adopted
        return
    with contextlib.closing(RunFolder.open(str(config.run_dir))) as own:
        adopted = own.adopt(config)
        if own.resumed and config.devices == "auto" and not _as_before(own, adopted, parts):
            adopted = adopted.replace(devices="auto")
        if team.number == 1:
            yield own, adopted
            return
        facts = {"config": dataclasses.asdict(adopted), "path": str(own.path), "resumed": own.resumed}
        team.agreed(facts, "folder")
        yield SharedFolder(team, own, str(own.path), own.resumed), adopted


def checkpoints(team: Alone, folder: RunFolder, config: Config) -> Checkpoints:
    """Returns the run's checkpoints."""
    own = Checkpoints(folder.path / CHECKPOINTS, config.keep_newest, config.keep_best) if team.first else None
    if team.number == 1 and own is not None:
        return own
    return SharedCheckpoints(team, own)


def log(team: Alone, folder: RunFolder, config: Config, sizes: Mapping[str, int] | None) -> RunLog:
    """Returns the run's log, cut back to `sizes`."""
    return RunLog(Path(folder.path), config.tensorboard, sizes) if team.first else NoLog()


def _as_before(own: RunFolder, adopted: Config, parts: devices.Share) -> bool:
    """Returns whether a run that goes on can have as many devices as before, for the same bits."""
    before = own.metadata().get("identity") or {}
    here = parts.processes * (parts.local or jax.local_device_count())
    # Another number of processes makes other bits in any case: it takes all that it has.
    same_processes = before.get("processes", 1) == parts.processes
    return same_processes and adopted.devices.isdecimal() and int(adopted.devices) * adopted.lane_devices <= here
