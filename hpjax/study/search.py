"""`Search`: a person's own search. Settings come from anywhere, and are trained on the lanes of a program that stays."""

import contextlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from hpjax.config import STUDY_FIELDS, Config, check_is_config
from hpjax.errors import ConfigError, RunFolderError, listed
from hpjax.interrupt import Interrupt
from hpjax.runfolder import PARAMS
from hpjax.runner import failure_noted
from hpjax.study import checks, closing, kept, probe, setup, table
from hpjax.study.ask import Given
from hpjax.study.begin import SEARCH, begin, open_folder, study_config
from hpjax.study.engine import Engine
from hpjax.study.folder import JOURNAL
from hpjax.study.journal import Journal
from hpjax.study.records import ENDED, SettingSummary
from hpjax.study.samplers import Seen
from hpjax.study.samplers.base import Point
from hpjax.study.schedulers import SchedulerSettings
from hpjax.study.schedulers.none import Everything
from hpjax.study.screen import StudyView
from hpjax.study.searched import of_space
from hpjax.study.setup import GroupMaker
from hpjax.study.space.settings import typed
from hpjax.study.study import Study
from hpjax.study.writer import Writer

UNUSED = ("scheduler", "enqueue", "storage", "extend")
"""Settings of a study that a search has no use for: what is run and when to end is said in Python."""

MOST = 2**31 - 1


class Search:
    """A study whose settings a person chooses, some at a time: `ask` a sampler or make them up, `run` them, look, go on.

        with hpjax.Search(config, {"learning_rate": "log(1e-4,1)", "seed": "range(4)"}, sampler="tpe") as search:
            for _ in range(5):
                tried = search.run(search.ask(8))
            print(search.study.best)

    What was run is in the study's folder and can be loaded as any study; `close` writes its table, pictures and best.flags.
    """

    def __init__(self, config: Config, vary: Mapping[str, str] | Sequence[str], **settings: Any):
        """Checks everything, and trains nothing yet.

        Args:
          config: what the trials have in common.
          vary: expressions by setting; seeds and folds among them are run with every setting.
          **settings: other settings of the study: sampler, sampler_seed, warm_start, lanes, study (its folder), and trials,
            about as many as there will be, by which the number of lanes is chosen.

        Raises:
          ConfigError, DataError: bad settings or data.
          RunFolderError: the folder cannot be used, or holds a study already.
        """
        check_is_config(config)
        wanted = study_config(vary, settings)
        for name in UNUSED:
            if getattr(wanted, name) != STUDY_FIELDS[name].default:
                raise ConfigError(f"{name} is {getattr(wanted, name)!r}, but a search of one's own has none: expected none")
        checks.check_alone(config, "a search of one's own")
        self._parts = parts = setup.make(config, wanted, repeats=True)
        self._given = Given(parts.asker)
        self._told: list[Seen] = []
        self._asked = 0
        self._points: dict[str, Point] = {}
        self._view = StudyView(config.progress)
        self._closed = False
        with contextlib.ExitStack() as stack:
            self._folder = folder = stack.enter_context(contextlib.closing(open_folder(config, wanted)))
            folder.adopt_study(parts.base, parts.study)
            if folder.resumed:
                raise RunFolderError(
                    f"'{folder.path}' holds a study; expected a new name, and it as warm_start to learn from it"
                )
            for note in parts.notes:
                self._view.say(note)
            self._parts = parts = probe.widened(parts, self._view.say)
            begin(folder, parts, self._view, **{SEARCH: True})
            self._engine = Engine(
                parts.dataset,
                parts.planner,
                self._given,
                _Endless(SchedulerSettings(), None, MOST),
                parts.objective,
                parts.study.aggregate,
                GroupMaker(parts, self._view.say),
                parts.base.keep_best,
            )
            goal, searched = parts.objective, of_space(parts.space)
            journal = Journal(
                folder.path / JOURNAL, folder.path.name, goal.maximise, None, searched=searched, metric=goal.name
            )
            stack.callback(journal.close)
            self._writer = Writer(journal, None)
            self._open = stack.pop_all()

    def ask(self, count: int = 1) -> list[dict[str, Any]]:
        """Returns the sampler's next settings, seeds and folds left out; fewer at a grid's end.

        A sampler that learns has seen all that was run and told.
        """
        if count < 1:
            raise ConfigError(f"ask was given {count}; expected a number of settings >= 1")
        self._given.look(count, [*self._told, *self._engine.seen])
        found = self._given.more(self._asked, count)
        self._asked += len(found)
        for values, point in found:
            self._points[_key(values)] = point
        return [dict(values) for values, _ in found]

    def tell(self, values: Mapping[str, Any], value: float) -> None:
        """Tells the sampler of a setting's value that was found elsewhere; it is no trial of the study.

        Args:
          values: hyperparameters by name; where they lie outside of what is searched, the sampler learns nothing.
          value: its objective; NaN for a setting that is infeasible.

        Raises:
          ConfigError: a name that is not varied, or a value that its setting cannot have.
        """
        checked = self._checked(values)
        point = self._points.get(_key(checked)) or self._parts.space.point(checked) or ()
        self._told.append(Seen(point, self._parts.objective.score(float(value))))

    def run(self, settings: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[SettingSummary]:
        """Trains settings, each with all seeds and folds, and returns what became of them, in their order.

        Args:
          settings: hyperparameters by name, from `ask` or made up; what is not there has the config's value. They need not
            lie in the range that is searched.

        Raises:
          ConfigError: a name that is not varied, or values that do not go together; nothing was trained then.
          RunFolderError: a file could not be written, or the search was closed.
          KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM; the next call trains what was left, too.
        """
        if self._closed:
            raise RunFolderError(f"the search in '{self._folder.path}' was closed; expected a new one")
        wanted = [self._checked(one) for one in ([settings] if isinstance(settings, Mapping) else settings)]
        for values in wanted:
            self._parts.planner.plan({**values, **self._given.replicas[0]})
        replicas = len(self._given.replicas)
        first = len(self._engine.records) // replicas + len(self._given.queue)
        self._given.queue.extend(
            (values, self._points.get(_key(values)) or self._parts.space.point(values) or ()) for values in wanted
        )
        total = len(self._engine.records) + len(self._given.queue) * replicas
        with Interrupt(False) as interrupt, self._view:
            for changed in self._engine.run(interrupt):
                self._writer.write(changed)
                self._view.update(self._engine.facts(), total=total, metric=self._parts.objective.name)
            interrupt.leave()
        tried = self._engine.records[first * replicas :]
        return table.group(tried, self._parts.objective, self._parts.study.aggregate)

    @property
    def study(self) -> Study:
        """The study so far."""
        return Study(self._folder.path, self._parts.base, self._parts.study, self._engine.records)

    def close(self) -> Study:
        """Ends the search: writes the table, the pictures and best.flags, gives the folder back, and returns the study."""
        if not self._closed:
            self._closed = True
            with self._open, failure_noted(self._folder):
                facts: dict[str, Any] = {}
                if any(record.status in ENDED for record in self._engine.records):
                    kept.write(self._folder.path / PARAMS, self._engine.kept.best)
                    facts = closing.close(self._folder, self._parts, self._engine, self._view)
                self._folder.update_metadata(status="done", trials=len(self._engine.records), **facts)
        return self.study

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif not self._closed:
            # What was run is in the journal; the rest would take time that nobody waits for.
            self._closed = True
            self._open.close()

    def _checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns hyperparameters as `Config` holds them, in the space's order."""
        names = self._parts.space.names
        for name in values:
            if name not in names:
                raise ConfigError(f"setting '{name}' is not varied{listed(name, names, 'varied:')}")
        return {name: typed(name, values[name]) for name in names if name in values}


class _Endless(Everything):
    """Runs every setting to its end, and waits for more."""

    def no_more(self) -> None:
        """Changes nothing: a person hands in more later."""


def _key(values: Mapping[str, Any]) -> str:
    return repr(sorted(values.items()))
