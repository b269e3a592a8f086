"""What a study writes as it goes on: into its journal, and for TensorBoard; by process 0 alone where several share it."""

import contextlib
from collections.abc import Iterator, Sequence

from hpjax.runfolder import EVENTS
from hpjax.study import table
from hpjax.study.folder import JOURNAL, StudyFolder
from hpjax.study.hparams import HParams
from hpjax.study.journal import Journal
from hpjax.study.records import ENDED, TrialRecord
from hpjax.study.screen import StudyView
from hpjax.study.searched import of_space
from hpjax.study.setup import Setup


class Writer:
    """Writes what happens to a study's trials: into its journal, and for TensorBoard."""

    def __init__(self, journal: Journal | None, hparams: HParams | None, records: Sequence[TrialRecord] = ()):
        """Begins after some records that the journal holds already; without a journal another process writes."""
        self._journal, self._hparams = journal, hparams
        self._begun = len(records)
        self._written = {record.number: len(record.curve) for record in records if record.status not in ENDED}

    def write(self, changed: Sequence[TrialRecord]) -> None:
        """Notes trials that are new, took a lane, were evaluated or ended; one append."""
        if self._journal is None:
            return
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

    def finish(self, records: Sequence[TrialRecord], setup: Setup, view: StudyView) -> None:
        """Makes TensorBoard show the settings that are worth it, once all trials have ended."""
        if self._hparams is not None:
            view.say("writing what TensorBoard shows")
            tried = table.group(records, setup.objective, setup.study.aggregate)
            self._hparams.finish(records, tried, setup.objective)

    def size(self) -> int:
        """Returns the journal's bytes, all on the disk."""
        return 0 if self._journal is None else self._journal.size()


@contextlib.contextmanager
def written(setup: Setup, folder: StudyFolder, size: int | None, records: Sequence[TrialRecord]) -> Iterator[Writer]:
    """Opens a study's journal and event files.

    Args:
      setup: the study's parts.
      folder: its folder.
      size: bytes of the journal that count, of a study that goes on; None for a new journal.
      records: the trials in it.

    Raises:
      RunFolderError: a file cannot be written.
    """
    if not folder.writes:
        yield Writer(None, None, records)
        return
    searched, best = of_space(setup.space), setup.objective
    journal = Journal(folder.path / JOURNAL, folder.path.name, best.maximise, size, searched=searched, metric=best.name)
    with contextlib.closing(journal):
        hparams = None
        if setup.base.tensorboard:
            shown = {name: searched[name] for name in setup.space.names if name in searched}
            hparams = HParams(folder.path / EVENTS, shown, setup.measured)
            hparams.declare()
        yield Writer(journal, hparams, records)
