"""A study that goes on with more trials or in another space: what may change, and where its results lie in the new space."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from hpjax import resolve
from hpjax.config import Config, StudyConfig
from hpjax.errors import ConfigError, RunFolderError
from hpjax.study import before as before_lib
from hpjax.study import once, replay, samplers
from hpjax.study.folder import END, JOURNAL, StudyFolder
from hpjax.study.records import ENDED, TrialRecord
from hpjax.study.samplers.base import Point
from hpjax.study.setup import Setup
from hpjax.study.space import REPLICATED, Space
from hpjax.study.table import SEED_LIKE

TRIED = "settings_before"
"""Entry of metadata.json: the settings that were tried when a finished study of a finite space was last made longer."""


def tried(folder: StudyFolder, config: Config, study: StudyConfig) -> list[dict[str, Any]]:
    """Returns the settings that a finite space's study had tried when it was last made longer; of others none.

    Args:
      folder: the study's folder.
      config: what its trials have in common.
      study: its settings from now on.
    """
    if Space.parse(study.vary, config).grid_size is None:
        return []
    facts = folder.metadata()
    ended = folder.extended is not None and facts.get("status") == "done"
    if not ended and TRIED not in facts:
        return []
    settings = {record.setting: record for record in replay.read(folder.path / JOURNAL)}
    return [_hyperparameters(one) for one in settings.values() if ended or one.setting < facts[TRIED]]


def check(folder: StudyFolder, old: StudyConfig, parts: Setup, tried: Sequence[Mapping[str, Any]] = ()) -> None:
    """Refuses an extension that would make no sense of what the study has found; before anything compiles.

    Args:
      folder: the study's folder.
      old: its settings before.
      parts: its parts from now on.
      tried: settings that were left out of both.

    Raises:
      RunFolderError: fewer trials, none more after the study's end, a setting that is varied no longer, other seeds or
        folds, trials of another length, or other settings of a finite space before those that it began with have ended.
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
    if before.get("status") != "done" and _order(old, space, parts.base, tried) != _order(
        new, parts.space, parts.base, tried
    ):
        raise RunFolderError(
            f"'{folder.path}' tries each setting once and has not come to its end; expected its own --vary and --trials "
            "until it has, then others"
        )
    if before.get("status") == "done" and parts.trials <= before.get("trials", 0):
        raise RunFolderError(f"the study has all of its {parts.trials} trials; expected more --trials, or a wider --vary")


def _order(study: StudyConfig, space: Space, base: Config, tried: Sequence[Mapping[str, Any]]) -> Any:
    """Returns what is the same for studies of which one goes on where the other has come to."""
    sampler = samplers.create(study.sampler, space.leaves, study.sampler_seed)
    made = once.of(sampler, space, study, base, before_lib.enqueued(study, space), tried)
    return (made.spread, space.texts) if isinstance(made, once.Once) else None


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
