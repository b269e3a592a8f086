"""All that an engine needs to go on exactly as if it had not been interrupted: taken, and taken up."""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hpjax.objective import Evaluation
from hpjax.study.engine import Engine
from hpjax.study.group import Slot
from hpjax.study.kept import Results, like_kept
from hpjax.study.outcomes import Counts, Outcome, Pending
from hpjax.study.records import ENDED, TrialRecord
from hpjax.study.samplers import Seen


def take(engine: Engine) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a snapshot; waits for the device.

    Args:
      engine: as it is between two looks.

    Returns:
      A pytree of NumPy arrays (the lanes' states, those that wait, parameters), and JSON values. The records are not in it.
    """
    if engine.pending is not None and engine.pending.issued is not None:
        engine.pending = engine.pending._replace(issued=None, outcomes=engine.read(engine.pending))
    pending = engine.pending and [engine.groups.index(engine.pending.group), engine.pending.outcomes]
    tree: dict[str, Any] = {"lanes": {str(i): one.program.fetch(one.states) for i, one in enumerate(engine.groups)}}
    waiting = {n: state for group in engine.groups for n, _, state, _ in group.queue if state is not None}
    parked = {**engine.parked, **waiting}
    if of_groups := _by_group(engine, parked):
        # One array a group: one each would cost a checkpoint of many trials its time.
        tree["parked"] = {name: np.stack([parked[number] for number in numbers]) for name, numbers in of_groups.items()}
    if kept := engine.kept.tree():
        tree["kept"] = kept
    if results := engine.pending and engine.pending.results:
        tree["results"] = results.whole()
    facts = {"groups": [group.facts() for group in engine.groups], "pending": pending, "results": results is not None}
    return tree, {**_known(engine), **facts, "kept": engine.kept.facts()}


def at_end(engine: Engine) -> dict[str, Any]:
    """Returns what an engine needs to go on with further trials, after the last has ended: JSON values."""
    return {**_known(engine), "turn": 0, "groups": [], "pending": None, "results": False, "kept": []}


def _known(engine: Engine) -> dict[str, Any]:
    return {
        "now": engine.now,
        "turn": engine.turn,
        "counts": dataclasses.asdict(engine.counts),
        "scheduler": engine.scheduler.state(),
        "reported": list(engine.units.reported().items()),
        "seen": [list(seen) for seen in engine.units.seen],
        "status": {record.number: record.status for record in engine.records if record.status not in ENDED},
        "parked": sorted(engine.parked),
    }


def _by_group(engine: Engine, numbers: Iterable[int]) -> dict[str, list[int]]:
    """Returns trials in the order of their numbers, by the place of their compile group."""
    places: dict[str, list[int]] = {}
    for number in sorted(numbers):
        places.setdefault(str(engine.groups.index(engine.group(number))), []).append(number)
    return places


def like(engine: Engine, facts: Mapping[str, Any], records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Gives a new engine a snapshot's records and groups.

    Args:
      engine: one that has begun nothing.
      facts: the snapshot's JSON values.
      records: the records of that moment.

    Returns:
      Zeros in the structure of the snapshot's pytree.
    """
    engine.records.extend(records)
    for number, status in facts["status"].items():
        engine.records[int(number)].status = status
    for record in engine.records:
        if record.curve and record.status not in ENDED:
            record.objective = engine.objective.of_run([Evaluation(m.tick, m.value) for m in record.curve])
    engine.statuses.update(record.status for record in engine.records)
    for of_group in facts["groups"]:
        engine.group(of_group["first"])
    tree: dict[str, Any] = {
        "lanes": {str(i): group.like(len(group.slots)) for i, group in enumerate(engine.groups)},
    }
    waiting = [number for of_group in facts["groups"] for number, _, parked in of_group["queue"] if parked]
    if of_groups := _by_group(engine, [*facts["parked"], *waiting]):
        tree["parked"] = {name: engine.group(some[0]).like_parked(len(some)) for name, some in of_groups.items()}
    if kept := like_kept(facts["kept"]):
        tree["kept"] = kept
    if facts["results"]:
        group = engine.groups[facts["pending"][0]]
        tree["results"] = group.result_like(len(group.slots))
    return tree


def take_up(engine: Engine, tree: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Takes up a snapshot, after `like`."""
    engine.began = time.monotonic() - facts["now"]
    engine.turn = facts["turn"]
    engine.counts = Counts(**facts["counts"])
    engine.scheduler.load(facts["scheduler"])
    engine.units.seen.extend(Seen(tuple(point), score) for point, score in facts["seen"])
    of_setting: dict[int, list[int]] = {}
    for record in engine.records:
        of_setting.setdefault(record.setting, []).append(record.number)
    for setting, reported in facts["reported"]:
        engine.units.add(setting, of_setting[setting], reported)
    of_queues = [number for of_group in facts["groups"] for number, _, paused in of_group["queue"] if paused]
    parked: dict[int, np.ndarray] = {}
    for name, numbers in _by_group(engine, [*facts["parked"], *of_queues]).items():
        parked.update(zip(numbers, tree["parked"][name], strict=True))
    engine.parked = {number: parked[number] for number in facts["parked"]}
    for i, (group, of_group) in enumerate(zip(engine.groups, facts["groups"], strict=True)):
        slots = [None if slot is None else Slot(slot[0], engine.plan(slot[0]), *slot[1:]) for slot in of_group["slots"]]
        group.restore(tree["lanes"][str(i)], slots, lambda number: engine.records[number].status in ENDED)
        for number, done, _ in of_group["queue"]:
            group.queue.append((number, engine.plan(number), parked.get(number), done))
    engine.kept.load(tree.get("kept", {}), facts["kept"], engine.records)
    if facts["pending"] is not None:
        at, outcomes = facts["pending"]
        results = Results(tree["results"]) if facts["results"] else None
        engine.pending = Pending(engine.groups[at], None, tuple(Outcome(*outcome) for outcome in outcomes), results)
