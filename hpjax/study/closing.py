"""The end of a study: its table, its pictures, the winner as a flagfile, the test split read once."""

from typing import TYPE_CHECKING, Any

from hpjax import flags
from hpjax.objective import Objective
from hpjax.placement import Layout
from hpjax.runfolder import PARAMS
from hpjax.study import kept, pictures, table, winner
from hpjax.study.engine import Engine
from hpjax.study.folder import BEST, PICTURES, TABLE, StudyFolder
from hpjax.study.records import SettingSummary, TrialRecord
from hpjax.study.screen import StudyView
from hpjax.study.setup import Setup
from hpjax.study.summary import text

if TYPE_CHECKING:
    from hpjax.study.study import Study


def close(folder: StudyFolder, parts: Setup, engine: Engine, view: StudyView) -> dict[str, Any]:
    """Writes what a finished study leaves behind; returns what its metadata says of it.

    Args:
      folder: the study's folder.
      parts: its parts.
      engine: its engine, at the end.
      view: the screen.
    """
    facts, best = _table(folder, parts, engine)
    if best is not None:
        facts |= _winner(folder, parts, engine, best)
    if folder.writes:
        view.say("drawing the pictures")
        scales = {name: parts.space.scale(name) for name in parts.space.names}
        tried = table.group(engine.records, parts.objective, parts.study.aggregate)
        pictures.draw_all(engine.records, tried, parts.objective, scales, folder.path / PICTURES)
    return facts


def brief(folder: StudyFolder, parts: Setup, engine: Engine, view: StudyView, *, test: bool) -> dict[str, Any]:
    """Does what `close` does, but trains nothing again and draws nothing.

    Args:
      folder: the study's folder.
      parts: its parts.
      engine: its engine, at the end.
      view: the screen.
      test: whether the test split is read, with the parameters that are kept of each of the best setting's trials.
    """
    facts, best = _table(folder, parts, engine)
    if best is None:
        return facts
    record = _write_best(folder, parts, engine, best)
    kept_ones = engine.kept.best
    # Who looks for the winner's parameters looks at the first that are kept.
    facts["kept"] = [record.number, *(n for n in kept_ones if n != record.number)] if record.number in kept_ones else []
    facts["best"] = {"setting": best.setting, "trial": record.number, "value": best.value}
    measured = [number for number in best.numbers if number in kept_ones]
    if test and measured and parts.dataset.splits["test"][1] > 0:
        view.say("reading the test split")
        found = winner.over_test(engine.group(record.number), [kept_ones[n] for n in measured], parts.dataset)
        facts["test_of_trials"] = dict(zip(map(str, measured), found, strict=True))
        facts["test"] = facts["test_of_trials"].get(str(record.number), {})
    return facts


def _table(folder: StudyFolder, parts: Setup, engine: Engine) -> tuple[dict[str, Any], SettingSummary | None]:
    """Writes the table; returns what metadata.json says of any study that has ended, and the best setting."""
    records, objective = engine.records, parts.objective
    if folder.writes:
        table.write_csv(folder.path / TABLE, records, objective, (*parts.space.names, *parts.space.replicated))
    tried = table.group(records, objective, parts.study.aggregate)
    best = table.best(tried, objective)
    facts: dict[str, Any] = {
        "seconds": engine.now,
        "occupancy": engine.counts.occupancy,
        "late": engine.counts.late / max(engine.counts.busy, 1),
        "steps": engine.counts.steps,
        "best": None,
        "kept": list(engine.kept.best),
    }
    if best is not None:
        facts["edges"] = parts.space.edges(best.values, [one.values for one in tried])
    return facts, best


def _winner(folder: StudyFolder, parts: Setup, engine: Engine, best: SettingSummary) -> dict[str, Any]:
    """Writes best.flags and trains the winner again."""
    record = _write_best(folder, parts, engine, best)
    plan = engine.plan(record.number)
    found = winner.again(engine.group(record.number), plan, record, parts.objective, parts.dataset)
    others = [number for number in engine.kept.best if number != record.number]
    if record.number not in engine.kept.best and folder.writes:
        # The best setting over its seeds need not have one of the best trials.
        kept.write(folder.path / PARAMS, {record.number: found.result}, others)
    return {
        "kept": [record.number, *others],
        "best": {"setting": best.setting, "trial": record.number, "value": best.value},
        "repeats": found.repeats,
        "test": found.test,
    }


def _write_best(folder: StudyFolder, parts: Setup, engine: Engine, best: SettingSummary) -> TrialRecord:
    """Writes best.flags; returns the trial that it repeats."""
    record = best_trial([engine.records[number] for number in best.numbers], parts.objective)
    header = [
        f"the best of {len(engine.records)} trials: {parts.objective.name} {record.objective!r} (trial {record.number})",
        "python -m hpjax.train --flagfile=THIS_FILE --run_dir=NEW_FOLDER",
    ]
    config = engine.plan(record.number).config
    folder.write(BEST, flags.to_flagfile(config.replace(lane_devices=_lane_devices(parts.layout)), header))
    return record


def _lane_devices(layout: Layout) -> int:
    """Returns over how many devices a single run's lanes must be spread for a study's bits.

    XLA makes one program for a single device, and another, the same however many they are, for several.
    """
    return 2 if layout.lane_devices > 1 and layout.data_devices == 1 else 1


def best_trial(records: list[TrialRecord], objective: Objective) -> TrialRecord:
    """Returns the trial with the best objective, of equal ones the first."""
    return max(records, key=lambda record: (objective.score(record.objective), -record.number))


def summary(study: "Study", facts: dict[str, Any]) -> str:
    """Returns what is shown at the study's end."""
    return text(study.records, study.settings_tried, study.objective, facts, study.path)
