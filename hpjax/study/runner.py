"""A study from its settings to its end, in a folder, resumed where it was left."""

import contextlib
import gc
import json
import math
import time
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

from hpjax.checkpoints import Checkpoints
from hpjax.errors import RunFolderError
from hpjax.interrupt import Interrupt
from hpjax.processes import ALONE, Alone
from hpjax.runfolder import PARAMS
from hpjax.study import extending, kept, pictures, sharing, snapshot
from hpjax.study.engine import Engine
from hpjax.study.folder import END, StudyFolder
from hpjax.study.records import ENDED
from hpjax.study.screen import StudyView
from hpjax.study.setup import GroupMaker, Setup
from hpjax.study.writer import Writer, written

FIRST_SAVE, SAVE_EVERY = 1.0, 10.0
SAVE_SHARE = 0.01
"""Seconds to the first checkpoint and, later, from one to the next; more where one takes a larger share of them."""


COLLECT_AFTER = 50_000
"""New objects after which Python collects garbage while a study runs."""


ENOUGH = "enough"
"""What a callback returns to end a study where it is: its trials that have not come to their end count as stopped."""


def train(
    setup: Setup,
    folder: StudyFolder,
    view: StudyView,
    *,
    leave_at_second: bool,
    callback: Callable[[Engine], Any] = lambda engine: None,
    team: Alone = ALONE,
) -> tuple[Engine, bool]:
    """Runs a study's trials, from its newest checkpoint if it has one, to their end.

    Args:
      setup: the study's parts.
      folder: its folder.
      view: the screen.
      leave_at_second: whether a second Ctrl-C ends the process at once.
      callback: called after each look; True stops the study, as a signal does, and `ENOUGH` ends it where it is. Of several
        processes process 0's answer counts.
      team: the processes that share the study, all of which come here; process 0 writes.

    Returns:
      The engine, and whether all trials have ended.

    Raises:
      RunFolderError: a file could not be written, or the folder's study cannot be read.
      KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM, after the study was saved.
    """
    make = GroupMaker(setup, view.say)
    engine = Engine(
        setup.dataset,
        setup.planner,
        setup.asker,
        setup.scheduler,
        setup.objective,
        setup.study.aggregate,
        make,
        setup.base.keep_best,
        team,
    )
    with contextlib.ExitStack() as stack:
        # Before the checkpoint is taken up, which compiles: a signal that comes meanwhile is heard too.
        interrupt = stack.enter_context(Interrupt(leave_at_second))
        stack.enter_context(_preparing(team.first))
        checkpoints = sharing.checkpoints(team, folder)
        stack.callback(checkpoints.close)
        size = _restore(engine, checkpoints, folder, setup, view, team)
        writer = stack.enter_context(written(setup, folder, size, engine.records))
        stack.enter_context(view)
        begun = saved = time.monotonic()
        cost, stopped = 0.0, False
        number = max(checkpoints.ticks(), default=0)
        for changed in engine.run(interrupt):
            writer.write(changed)
            view.update(engine.facts(), total=setup.trials, metric=setup.objective.name)
            before = time.monotonic()
            # Processes of which one has seen something else are out of step, and end here.
            seen = f"{len(engine.records)} trials, {engine.counts.steps} steps"
            if team.agreed(before - saved > _pause(before - begun, cost), seen):
                number += 1
                _save(engine, checkpoints, writer, number, setup)
                saved = time.monotonic()
                cost = saved - before
            asked = callback(engine)
            asked = team.agreed(asked if asked is True or asked == ENOUGH else None, "what the callback asks")
            if asked is True and _ended(engine) < setup.trials:
                stopped = True
                break
            if asked == ENOUGH:
                writer.write(engine.cut())
                break
        # A signal that came after the last look, to one of several processes, is theirs together or nobody's.
        _, interrupt.signal = team.pace(0, interrupt.signal)
        if interrupt.signal is not None or stopped:
            if engine.records:
                _save(engine, checkpoints, writer, number + 1, setup)
                checkpoints.wait()
            folder.update_metadata(status="preempted")
            word = "stopped" if stopped else "preempted"
            view.say(f"{word} with {_ended(engine)} of {setup.trials} trials ended; the same command goes on")
            interrupt.leave()
            return engine, False
        _note_end(engine, checkpoints, writer, folder, setup)
        writer.finish(engine.records, setup, view)
    return engine, True


@contextlib.contextmanager
def _preparing(draws: bool) -> Iterator[None]:
    """Loads meanwhile what draws pictures, and keeps Python's garbage collector from what is loaded when a study begins.

    It comes after `COLLECT_AFTER` new objects, not 700: programs that are traced make many that stay.
    """
    mine = gc.get_freeze_count() == 0
    if mine:
        gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(max(thresholds[0], COLLECT_AFTER) if thresholds[0] else 0, *thresholds[1:])
    loading = Thread(target=pictures.prepare if draws else lambda: None)
    loading.start()
    try:
        yield
    finally:
        loading.join()
        gc.set_threshold(*thresholds)
        if mine:
            gc.unfreeze()


def _pause(seconds: float, cost: float) -> float:
    """Returns how long after the last checkpoint the next is due: one killed early loses no more than half of its time.

    Args:
      seconds: since this sitting began.
      cost: seconds that the last checkpoint took.
    """
    return max(FIRST_SAVE, min(max(SAVE_EVERY, cost / SAVE_SHARE), seconds / 2))


def _note_end(engine: Engine, checkpoints: Checkpoints, writer: Writer, folder: StudyFolder, setup: Setup) -> None:
    """Notes what a further trial needs; no lane has one any more, so that this is no checkpoint, and takes their place."""
    # First: what END goes with must be there.
    if folder.writes:
        kept.write(folder.path / PARAMS, engine.kept.best)
        folder.write(END, json.dumps({**snapshot.at_end(engine), **_more(writer, setup)}))
    for tick in checkpoints.ticks():
        checkpoints.delete(tick)


def _restore(
    engine: Engine, checkpoints: Checkpoints, folder: StudyFolder, setup: Setup, view: StudyView, team: Alone
) -> int | None:
    """Takes up the newest checkpoint that is intact, or the study's end; returns the journal's size there, or None."""
    for tick, problem in list(checkpoints.newest_first()):
        if problem is not None:
            view.warn(f"checkpoint {tick} cannot be used: {problem}")
            checkpoints.delete(tick)
            continue
        facts = checkpoints.record(tick)
        like = _take_up(engine, facts, folder, setup, team)
        tree, _ = checkpoints.restore(tick, like)
        break
    else:
        facts = team.agreed(_end(folder) if team.first else None, "end")
        if facts is None:
            return None
        tree = _take_up(engine, facts, folder, setup, team)
    snapshot.take_up(engine, tree, facts)
    if not facts["groups"]:
        _restore_kept(engine, folder, view, team)
    view.say(f"resumed with {_ended(engine)} trials ended")
    return int(facts["journal"])


def _end(folder: StudyFolder) -> dict[str, Any] | None:
    """Returns what a finished study has noted for further trials, or None."""
    if not (folder.path / END).exists():
        return None
    try:
        return json.loads((folder.path / END).read_text())
    except (OSError, ValueError):
        raise RunFolderError(f"'{folder.path / END}' is damaged; expected --overwrite or a new name") from None


def _restore_kept(engine: Engine, folder: StudyFolder, view: StudyView, team: Alone) -> None:
    """Takes up the parameters that a finished study has kept; other processes than the first know of which trials."""
    found = {}
    for number in kept.numbers(folder.path / PARAMS) if team.first else []:
        try:
            found[number] = kept.read(folder.path / PARAMS, number)
        except RunFolderError as error:
            view.warn(f"the parameters of trial {number} are lost: {error}")
    there = team.agreed(list(found), "kept")
    engine.kept.restore({number: found.get(number) for number in there}, engine.records)


def _take_up(engine: Engine, facts: dict[str, Any], folder: StudyFolder, setup: Setup, team: Alone) -> dict[str, Any]:
    """Gives an engine the records of what was saved; returns zeros in the structure of its arrays."""
    records = sharing.records(team, folder, facts["journal"])
    extending.adapt(facts, records, setup)
    return snapshot.like(engine, facts, records)


def _more(writer: Writer, setup: Setup) -> dict[str, Any]:
    """Returns what is saved beside what the engine knows: where the journal is, and the space of the points."""
    return {"journal": writer.size(), "vary": list(setup.study.vary)}


def _save(engine: Engine, checkpoints: Checkpoints, writer: Writer, number: int, setup: Setup) -> None:
    """Begins to save the lanes and all that the host knows."""
    tree, facts = snapshot.take(engine)
    facts |= _more(writer, setup)
    try:
        checkpoints.save(number, tree, facts, -math.inf)
    except OSError as error:
        raise RunFolderError(f"a checkpoint could not be written: {(error.strerror or str(error)).lower()}") from None


def _ended(engine: Engine) -> int:
    return sum(record.status in ENDED for record in engine.records)
