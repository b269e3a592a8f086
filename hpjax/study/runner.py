"""A study from its settings to its end, in a folder, resumed where it was left."""

import contextlib
import gc
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import Any

from hpjax.checkpoints import Checkpoints
from hpjax.errors import RunFolderError
from hpjax.interrupt import Interrupt
from hpjax.runfolder import CHECKPOINTS, EVENTS, PARAMS
from hpjax.study import extending, kept, pictures, replay, snapshot, table
from hpjax.study.engine import Engine
from hpjax.study.folder import END, JOURNAL, StudyFolder
from hpjax.study.hparams import HParams
from hpjax.study.journal import Journal
from hpjax.study.records import ENDED, TrialRecord
from hpjax.study.screen import StudyView
from hpjax.study.searched import of_space
from hpjax.study.setup import GroupMaker, Setup

FIRST_SAVE, SAVE_EVERY = 1.0, 10.0
SAVE_SHARE = 0.01
"""Seconds to the first checkpoint and, later, from one to the next; more where one takes a larger share of them."""


ENOUGH = "enough"
"""What a callback returns to end a study where it is: its trials that have not come to their end count as stopped."""


class Writer:
    """Writes what happens to a study's trials: into its journal, and for TensorBoard."""

    def __init__(self, journal: Journal, hparams: HParams | None, records: Sequence[TrialRecord] = ()):
        """Begins after some records that the journal holds already."""
        self._journal, self._hparams = journal, hparams
        self._begun = len(records)
        self._written = {record.number: len(record.curve) for record in records if record.status not in ENDED}

    def write(self, changed: Sequence[TrialRecord]) -> None:
        """Notes trials that are new, took a lane, were evaluated or ended; one append."""
        new = sorted((record for record in changed if record.number >= self._begun), key=lambda record: record.number)
        self._journal.begin(new)
        self._begun += len(new)
        self._journal.running(changed)
        for record in changed:
            done = self._written.get(record.number, 0)
            self._journal.evaluated((record.number, measured) for measured in record.curve[done:])
            self._written[record.number] = len(record.curve)
        ended = [record for record in changed if record.status in ENDED]
        self._journal.end(ended)
        if self._hparams is not None:
            self._hparams.ended(ended)
        for record in ended:
            del self._written[record.number]
        self._journal.flush()


def train(
    setup: Setup,
    folder: StudyFolder,
    view: StudyView,
    *,
    leave_at_second: bool,
    callback: Callable[[Engine], Any] = lambda engine: None,
) -> tuple[Engine, bool]:
    """Runs a study's trials, from its newest checkpoint if it has one, to their end.

    Args:
      setup: the study's parts.
      folder: its folder.
      view: the screen.
      leave_at_second: whether a second Ctrl-C ends the process at once.
      callback: called after each look; True stops the study, as a signal does, and `ENOUGH` ends it where it is.

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
    )
    with contextlib.ExitStack() as stack:
        # Before the checkpoint is taken up, which compiles: a signal that comes meanwhile is heard too.
        interrupt = stack.enter_context(Interrupt(leave_at_second))
        stack.enter_context(_preparing())
        checkpoints = Checkpoints(folder.path / CHECKPOINTS, keep_newest=1, keep_best=0)
        stack.callback(checkpoints.close)
        size = _restore(engine, checkpoints, folder, setup, view)
        searched = of_space(setup.space)
        journal = Journal(
            folder.path / JOURNAL,
            folder.path.name,
            setup.objective.maximise,
            size,
            searched=searched,
            metric=setup.objective.name,
        )
        stack.callback(journal.close)
        hparams = None
        if setup.base.tensorboard:
            hparams = HParams(
                folder.path / EVENTS,
                {name: searched[name] for name in setup.space.names if name in searched},
                setup.measured,
            )
            hparams.declare()
        writer = Writer(journal, hparams, engine.records)
        stack.enter_context(view)
        begun = saved = time.monotonic()
        cost, stopped = 0.0, False
        number = max(checkpoints.ticks(), default=0)
        for changed in engine.run(interrupt):
            writer.write(changed)
            view.update(engine.facts(), total=setup.trials, metric=setup.objective.name)
            before = time.monotonic()
            if before - saved > _pause(before - begun, cost):
                number += 1
                _save(engine, checkpoints, journal, number, setup)
                saved = time.monotonic()
                cost = saved - before
            asked = callback(engine)
            if asked is True and _ended(engine) < setup.trials:
                stopped = True
                break
            if asked == ENOUGH:
                writer.write(engine.cut())
                break
        if interrupt.signal is not None or stopped:
            if engine.records:
                _save(engine, checkpoints, journal, number + 1, setup)
                checkpoints.wait()
            folder.update_metadata(status="preempted")
            word = "stopped" if stopped else "preempted"
            view.say(f"{word} with {_ended(engine)} of {setup.trials} trials ended; the same command goes on")
            interrupt.leave()
            return engine, False
        _note_end(engine, checkpoints, journal, folder, setup)
        if hparams is not None:
            view.say("writing what TensorBoard shows")
            hparams.finish(
                engine.records, table.group(engine.records, setup.objective, setup.study.aggregate), setup.objective
            )
    return engine, True


@contextlib.contextmanager
def _preparing() -> Iterator[None]:
    """Loads meanwhile what draws pictures, and keeps Python's garbage collector from what is loaded when a study begins."""
    mine = gc.get_freeze_count() == 0
    if mine:
        gc.freeze()
    loading = Thread(target=pictures.prepare)
    loading.start()
    try:
        yield
    finally:
        loading.join()
        if mine:
            gc.unfreeze()


def _pause(seconds: float, cost: float) -> float:
    """Returns how long after the last checkpoint the next is due: one killed early loses no more than half of its time.

    Args:
      seconds: since this sitting began.
      cost: seconds that the last checkpoint took.
    """
    return max(FIRST_SAVE, min(max(SAVE_EVERY, cost / SAVE_SHARE), seconds / 2))


def _note_end(engine: Engine, checkpoints: Checkpoints, journal: Journal, folder: StudyFolder, setup: Setup) -> None:
    """Notes what a further trial needs; no lane has one any more, so that this is no checkpoint, and takes their place."""
    # First: what END goes with must be there.
    kept.write(folder.path / PARAMS, engine.kept.best)
    folder.write(END, json.dumps({**snapshot.at_end(engine), **_more(journal, setup)}))
    for tick in checkpoints.ticks():
        checkpoints.delete(tick)


def _restore(engine: Engine, checkpoints: Checkpoints, folder: StudyFolder, setup: Setup, view: StudyView) -> int | None:
    """Takes up the newest checkpoint that is intact, or the study's end; returns the journal's size there, or None."""
    for tick, problem in list(checkpoints.newest_first()):
        if problem is not None:
            view.warn(f"checkpoint {tick} cannot be used: {problem}")
            checkpoints.delete(tick)
            continue
        facts = checkpoints.record(tick)
        like = _take_up(engine, facts, folder, setup)
        tree, _ = checkpoints.restore(tick, like)
        break
    else:
        if not (folder.path / END).exists():
            return None
        try:
            facts = json.loads((folder.path / END).read_text())
        except (OSError, ValueError):
            raise RunFolderError(f"'{folder.path / END}' is damaged; expected --overwrite or a new name") from None
        tree = _take_up(engine, facts, folder, setup)
    snapshot.take_up(engine, tree, facts)
    if not facts["groups"]:
        _restore_kept(engine, folder, view)
    view.say(f"resumed with {_ended(engine)} trials ended")
    return int(facts["journal"])


def _restore_kept(engine: Engine, folder: StudyFolder, view: StudyView) -> None:
    """Takes up the parameters that a finished study has kept."""
    found = {}
    for number in kept.numbers(folder.path / PARAMS):
        try:
            found[number] = kept.read(folder.path / PARAMS, number)
        except RunFolderError as error:
            view.warn(f"the parameters of trial {number} are lost: {error}")
    engine.kept.restore(found, engine.records)


def _take_up(engine: Engine, facts: dict[str, Any], folder: StudyFolder, setup: Setup) -> dict[str, Any]:
    """Gives an engine the records of what was saved; returns zeros in the structure of its arrays."""
    records = replay.read(folder.path / JOURNAL, facts["journal"])
    extending.adapt(facts, records, setup)
    return snapshot.like(engine, facts, records)


def _more(journal: Journal, setup: Setup) -> dict[str, Any]:
    """Returns what is saved beside what the engine knows: where the journal is, and the space of the points."""
    return {"journal": journal.size(), "vary": list(setup.study.vary)}


def _save(engine: Engine, checkpoints: Checkpoints, journal: Journal, number: int, setup: Setup) -> None:
    """Begins to save the lanes and all that the host knows."""
    tree, facts = snapshot.take(engine)
    facts |= _more(journal, setup)
    try:
        checkpoints.save(number, tree, facts, -math.inf)
    except OSError as error:
        raise RunFolderError(f"a checkpoint could not be written: {(error.strerror or str(error)).lower()}") from None


def _ended(engine: Engine) -> int:
    return sum(record.status in ENDED for record in engine.records)
