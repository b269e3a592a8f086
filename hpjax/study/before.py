"""What a study begins with: settings that a person wants tried first, and another study's results."""

import os
from pathlib import Path
from typing import Any

from hpjax.config import StudyConfig
from hpjax.errors import ConfigError, RunFolderError
from hpjax.objective import Objective
from hpjax.runfolder import read_metadata
from hpjax.study import replay, table
from hpjax.study.folder import JOURNAL
from hpjax.study.records import ENDED
from hpjax.study.samplers import Seen
from hpjax.study.space import Space, read_points


def enqueued(study: StudyConfig, space: Space) -> list[dict[str, Any]]:
    """Returns the settings that a study tries first.

    Raises:
      ConfigError: the file cannot be read, or has more settings than the study has trials for.
    """
    if study.enqueue is None:
        return []
    points = read_points(study.enqueue, space)
    if len(points) * len(space.replicas) > study.trials:
        raise ConfigError(
            f"enqueue has {len(points)} settings, {len(points) * len(space.replicas)} trials; expected at most trials, "
            f"{study.trials}"
        )
    return points


def told(study: StudyConfig, space: Space, objective: Objective) -> list[Seen]:
    """Returns another study's results as a sampler is told them: those that lie in the space.

    Raises:
      ConfigError: the folder holds no study, or one with another objective.
    """
    if study.warm_start is None:
        return []
    folder = Path(study.warm_start)
    facts = read_metadata(folder)
    if not (folder / JOURNAL).is_file() or "objective" not in facts:
        raise ConfigError(f"warm_start is '{folder}', which holds no study; expected a study's folder, with {JOURNAL}")
    if facts["objective"][:2] != [objective.name, objective.maximise]:
        raise ConfigError(f"warm_start is a study of {facts['objective'][0]}; expected one of {objective.name}, alike")
    try:
        records = replay.read(folder / JOURNAL)
    except RunFolderError as error:
        raise ConfigError(f"warm_start: {error}") from None
    ended = [record for record in records if record.status in ENDED]
    tried = table.group(ended, Objective(*facts["objective"]), study.aggregate)
    found = ((space.point(one.values), objective.score(one.value)) for one in tried)
    return [Seen(point, score) for point, score in found if point is not None]


def absolute(path: str | None) -> str | None:
    """Returns a path as flags.txt keeps it: it holds wherever the study is gone on with."""
    return None if path is None else os.path.abspath(os.path.expanduser(path))
