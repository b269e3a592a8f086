"""A study that goes on with more trials or in another space: what may change, and where its results lie in the new space."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpjax import resolve
from hpjax.config import StudyConfig
from hpjax.errors import ConfigError, RunFolderError
from hpjax.study import replay
from hpjax.study.folder import END, JOURNAL, StudyFolder
from hpjax.study.records import ENDED, TrialRecord
from hpjax.study.samplers import Sampler, Seen
from hpjax.study.samplers.base import Point
from hpjax.study.setup import Setup
from hpjax.study.space import REPLICATED, Space
from hpjax.study.table import SEED_LIKE

TRIED = "settings_before"
"""Entry of metadata.json: the settings that were tried when a finished study was last given another space."""


class Untried(Sampler):
    """The points of another sampler of a finite space whose settings were not tried before, numbered where those end."""

    def __init__(self, sampler: Sampler, space: Space, tried: Sequence[Mapping[str, Any]], begins: int):
        """Leaves out what was tried.

        Args:
          sampler: a grid.
          space: the space of its points.
          tried: settings that were tried, seeds and folds left out.
          begins: the number of the first point that is left.
        """
        super().__init__(sampler.leaves, sampler.seed)
        self.name, self._begins = sampler.name, begins
        known = {repr(sorted(values.items())) for values in tried}
        every = sampler.points(0, sampler.size or 0, [])
        self._left = [point for point in every if repr(sorted(space.values(point).items())) not in known]
        self.size = begins + len(self._left)

    def points(self, first: int, count: int, history: Sequence[Seen]) -> list[Point]:
        """Returns the points number first, ..., first + count - 1; those of a number before the first left are the first."""
        first = max(first - self._begins, 0)
        return self._left[first : first + count]


def narrowed(folder: StudyFolder) -> Callable[[Sampler, Space], Sampler] | None:
    """Returns what leaves out of a sampler the settings that were tried before a finished study was given another space."""
    count = folder.metadata().get(TRIED)
    if count is None:
        return None
    tried = {r.setting: r for r in replay.read(folder.path / JOURNAL) if r.setting < count}.values()
    asked = sum(bool(record.point) for record in tried)
    return lambda sampler, space: Untried(sampler, space, list(map(_hyperparameters, tried)), asked)


def note_tried(folder: StudyFolder, old: StudyConfig, new: StudyConfig) -> None:
    """Notes how many settings a study has, where it is given another space of which every point is tried once.

    Raises:
      RunFolderError: the study has not come to its end.
    """
    if new.sampler != "grid" or old.vary == new.vary:
        return
    if folder.metadata().get("status") != "done":
        raise RunFolderError(
            f"'{folder.path}' is a grid that has not come to its end; expected its own --vary until it has, then another"
        )
    records = replay.read(folder.path / JOURNAL)
    folder.update_metadata(**{TRIED: len({record.setting for record in records})})


def check(folder: StudyFolder, old: StudyConfig, parts: Setup) -> None:
    """Refuses an extension that would make no sense of what the study has found; before anything compiles.

    Args:
      folder: the study's folder.
      old: its settings before.
      parts: its parts from now on.

    Raises:
      RunFolderError: fewer trials, none more after the study's end, a setting that is varied no longer, other seeds or
        folds, or trials of another length.
    """
    before, new = folder.metadata(), parts.study
    space = Space.parse(old.vary, parts.base)
    if before.get("status") == "done" and not (folder.path / END).exists():
        raise RunFolderError(
            f"'{folder.path}' has no {END} to go on from; expected a new study, with this one as --warm_start"
        )
    if new.trials < old.trials:
        raise RunFolderError(f"trials is {new.trials}; expected at least the {old.trials} that the study has")
    lost = [name for name in space.names if name not in parts.space.names]
    if lost:
        raise RunFolderError(
            f"vary has no '{lost[0]}' any more; expected all that the study varies: {', '.join(space.names)}"
        )
    if parts.space.replicas != space.replicas:
        axes = [text for text in old.vary if text.partition("=")[0].strip() in REPLICATED] or ["no seed, data_seed or fold"]
        raise RunFolderError(f"vary has other seeds or folds; expected those of the study, {', '.join(axes)}")
    rungs = list(parts.scheduler.rungs)
    if before.get("rungs", rungs) != rungs or parts.scheduler.last < before.get("evaluations", 0):
        raise RunFolderError("vary changes how often a trial is evaluated; expected the length and eval_every of the study")
    if before.get("status") == "done" and parts.trials <= before.get("trials", 0):
        raise RunFolderError(f"the study has all of its {parts.trials} trials; expected more --trials, or a wider --vary")


def adapt(facts: dict[str, Any], records: Sequence[TrialRecord], parts: Setup) -> None:
    """Moves what a study knows into the space that it goes on in.

    Args:
      facts: what was saved; the points that were seen are replaced.
      records: its trials; the points of those that go on are replaced where they belong to a space before.
      parts: its parts from now on.
    """
    texts = tuple(facts.get("vary", parts.study.vary))
    if texts != tuple(parts.study.vary):
        old = Space.parse(texts, parts.base)
        facts["seen"] = [[_moved(point, old, parts), score] for point, score in facts["seen"]]
    open_ones = {record.setting for record in records if record.status not in ENDED}
    for record in records:
        if record.setting in open_ones and record.point:
            record.point = _place(record, parts)


def _moved(point: Sequence[float], old: Space, parts: Setup) -> Point:
    return _point(old.values(point), parts) if point else ()


def _point(values: Mapping[str, Any], parts: Setup) -> Point:
    """Returns the point of hyperparameters in a space, none if it has none.

    A setting that was not varied when they were drawn has the value that it had then.
    """
    point = parts.space.point(values)
    if point is None:
        config = resolve.resolve(parts.base.replace(**values))
        missing = {name: getattr(config, name) for name in parts.space.names if name not in values}
        point = parts.space.point({**missing, **values})
    return point or ()


def _place(record: TrialRecord, parts: Setup) -> Point:
    """Returns the point of a trial: its own where it is one of this space, and else none or that of its values."""
    values = _hyperparameters(record)
    with contextlib.suppress(ConfigError, ValueError):
        if parts.space.values(record.point) == values:
            return record.point
    return _point(values, parts)


def _hyperparameters(record: TrialRecord) -> dict[str, Any]:
    return {name: value for name, value in record.values.items() if name not in SEED_LIKE}
