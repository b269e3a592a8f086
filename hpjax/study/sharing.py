"""What process 0 alone has of a study, its folder and its journal, as all processes that share it see it."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpjax.checkpoints import Checkpoints
from hpjax.config import FIELDS, NOT_PART_OF_A_STUDY, PLACES, STUDY_FIELDS, Config, StudyConfig
from hpjax.processes.opening import check_alike
from hpjax.processes.sharing import SharedCheckpoints
from hpjax.processes.team import Alone
from hpjax.runfolder import CHECKPOINTS
from hpjax.study import extending, replay
from hpjax.study.begin import open_folder
from hpjax.study.folder import JOURNAL, StudyFolder
from hpjax.study.records import Measured, TrialRecord
from hpjax.study.setup import Setup


class ToldFolder(StudyFolder):
    """A study's folder in a process that does not have it: it knows what process 0 knows of it, and writes nothing."""

    writes = False

    def __init__(self, path: str, resumed: bool, extended: Mapping[str, Any] | None, metadata: Mapping[str, Any]):
        self.path, self.resumed = Path(path), resumed
        self.extended = None if extended is None else StudyConfig(**extended)
        self._metadata = dict(metadata)

    def write(self, name: str, text: str) -> None:
        """Writes nothing."""

    def metadata(self) -> dict[str, Any]:
        """Returns what metadata.json said, with what all processes have changed since."""
        return dict(self._metadata)

    def update_metadata(self, **changes: Any) -> None:
        """Notes the changes."""
        self._metadata.update(changes)

    def close(self) -> None:
        """Closes nothing."""


def check(team: Alone, parts: Setup) -> None:
    """Raises ConfigError where the processes were given different settings, data or files, or have different machines."""
    if team.number == 1:
        return
    study = {name: str(getattr(parts.study, name)) for name in STUDY_FIELDS if name not in NOT_PART_OF_A_STUDY}
    check_alike(team, parts.base, parts.dataset, {**study, "what enqueue and warm_start hold": parts.asker.fingerprint()})


@contextlib.contextmanager
def folder(
    team: Alone, config: Config, study: StudyConfig, asked: tuple[Config, StudyConfig]
) -> Iterator[tuple[StudyFolder, Config, StudyConfig]]:
    """Opens a study's folder, in process 0, and gives it back in the end.

    Args:
      team: the processes.
      config: as it was given.
      study: likewise.
      asked: both, as a folder that holds this study would have them.

    Yields:
      The folder, and the configs to run: the folder's own where it holds this study.
    """
    if not team.first:
        facts = team.agreed(None, "folder")
        own = {name: getattr(config, name) for name in (*NOT_PART_OF_A_STUDY, *PLACES) if name in FIELDS}
        there = ToldFolder(facts["path"], facts["resumed"], facts["extended"], facts["metadata"])
        yield there, Config(**{**facts["config"], **own}), StudyConfig(**facts["study"])
        return
    with contextlib.closing(open_folder(config, study)) as here:
        config, study = here.adopt_study(*asked)
        facts = {
            "path": str(here.path),
            "resumed": here.resumed,
            "extended": here.extended and dataclasses.asdict(here.extended),
            "metadata": here.metadata(),
            "config": dataclasses.asdict(config),
            "study": dataclasses.asdict(study),
        }
        team.agreed(facts, "folder")
        yield here, config, study


def checkpoints(team: Alone, folder: StudyFolder) -> Checkpoints:
    """Returns the study's checkpoints."""
    own = Checkpoints(folder.path / CHECKPOINTS, keep_newest=1, keep_best=0) if team.first else None
    return own if team.number == 1 and own is not None else SharedCheckpoints(team, own)


def tried(team: Alone, folder: StudyFolder, config: Config, study: StudyConfig) -> list[dict[str, Any]]:
    """Returns the settings that were tried before, see `extending.tried`; all processes must ask."""
    told = team.agreed(extending.tried(folder, config, study) if team.first else None, "settings before")
    return [{name: replay.restored(value) for name, value in one.items()} for one in told]


def records(team: Alone, folder: StudyFolder, size: int | None = None) -> list[TrialRecord]:
    """Returns the trials of a study's journal, see `replay.read`; all processes must ask."""
    own = replay.read(folder.path / JOURNAL, size) if team.first else []
    if team.number == 1:
        return own
    told = team.agreed([dataclasses.asdict(record) for record in own], "records")
    return own if team.first else [_record(facts) for facts in told]


def _record(facts: Mapping[str, Any]) -> TrialRecord:
    curve = [Measured(*measured) for measured in facts["curve"]]
    values = {name: replay.restored(value) for name, value in facts["values"].items()}
    return TrialRecord(**{**facts, "values": values, "point": tuple(facts["point"]), "curve": curve})
