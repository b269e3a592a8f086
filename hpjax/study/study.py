"""`Study`: a study from its settings to what it found, in a folder; run, loaded, extended."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpjax import flags, processes, resolve
from hpjax.config import Config, StudyConfig, check_is_config, convert, converted
from hpjax.data import Dataset
from hpjax.errors import ConfigError, RunFolderError, listed
from hpjax.objective import Objective
from hpjax.processes import Alone, opening
from hpjax.runfolder import FLAGS, PARAMS, read_metadata
from hpjax.runner import failure_noted
from hpjax.settings.fields import AT_LEAST_1
from hpjax.study import closing, extending, kept, pictures, probe, replay, setup, sharing, shown, table
from hpjax.study import runner as runner_lib
from hpjax.study.begin import SEARCH, begin, study_config
from hpjax.study.engine import Engine
from hpjax.study.export import export
from hpjax.study.folder import BEST, JOURNAL, StudyFolder
from hpjax.study.records import SettingSummary, TrialRecord
from hpjax.study.screen import StudyView
from hpjax.study.searched import of_space
from hpjax.study.space import Space

Close = Callable[[StudyFolder, setup.Setup, Engine, StudyView], dict[str, Any]]


class Study:
    """A study that has ended, or as far as it has come.

    Attributes:
      path: its folder.
      config: what its trials have in common.
      settings: its own settings.
      objective: what best means.
      records: its trials, by number.
      facts: what metadata.json says of it.
    """

    def __init__(
        self,
        path: Path,
        config: Config,
        settings: StudyConfig,
        records: Sequence[TrialRecord],
        facts: Mapping[str, Any] | None = None,
    ):
        self.path, self.config, self.settings = path, config, settings
        self.records = list(records)
        self.facts = read_metadata(path) if facts is None else dict(facts)
        self.objective = Objective(*self.facts["objective"])

    @property
    def settings_tried(self) -> list[SettingSummary]:
        """The hyperparameter settings over their seeds and folds."""
        return table.group(self.records, self.objective, self.settings.aggregate)

    @property
    def best(self) -> SettingSummary | None:
        """The best setting; None if every one is infeasible."""
        return table.best(self.settings_tried, self.objective)

    def dataframe(self) -> Any:
        """Returns one row a trial, as in trials.csv, as a pandas data frame; raises ConfigError without pandas."""
        return table.dataframe(self.records, self.objective)

    @property
    def best_config(self) -> Config:
        """The config of the best setting's best trial, resolved; raises RunFolderError where no setting has a value."""
        best = self.best
        if best is None:
            raise RunFolderError(f"'{self.path}' has no best setting; expected a study with a trial that did not diverge")
        record = closing.best_trial([one for one in self.records if one.number in best.numbers], self.objective)
        if self.facts.get("status") == "done":
            return flags.parse([BEST, f"--flagfile={self.path / BEST}"])
        return resolve.resolve(self.config.replace(**record.values))

    @property
    def kept(self) -> list[int]:
        """The trials whose parameters are kept: the winner, then the best of the others; none before the study's end."""
        return list(self.facts.get("kept", ()))

    @property
    def best_params(self) -> dict[str, Any]:
        """The winner's parameters, nested dicts of NumPy arrays; see `variables`."""
        return self.variables()["params"]

    def variables(self, trial: int | None = None) -> dict[str, Any]:
        """Returns a model's variables, as its `apply` takes them: `params` and its other collections.

        They are those of the evaluation that the trial's objective stands for; averaged ones where they are averaged.

        Args:
          trial: the number of one of the trials in `kept`; None for the winner.

        Raises:
          ConfigError: the trial's parameters are not kept.
          RunFolderError: they are damaged, or the study has none.
        """
        if not self.kept:
            raise RunFolderError(f"'{self.path}' has no parameters; expected a study that has ended with a best setting")
        number = self.kept[0] if trial is None else trial
        if number not in self.kept:
            among = ", ".join(map(str, self.kept))
            raise ConfigError(f"trial {number}'s parameters are not kept; expected one of {among}, or more --keep_best")
        found = kept.read(self.path / PARAMS, number)
        return {"params": found["params"], **found["collections"]}

    def plot(self, *names: str) -> Any:
        """Returns a matplotlib figure of the study.

        Args:
          *names: none for all learning curves, one hyperparameter for the objective against it, two for a heat map.

        Raises:
          ConfigError: a name that was not varied.
        """
        space = Space.parse(self.settings.vary, self.config)
        for name in names:
            if name not in space.names:
                raise ConfigError(f"plot '{name}' was not varied{listed(name, space.names, 'expected one of')}")
        tried = self.settings_tried
        if not names:
            return pictures.learning_curves(self.records, tried, self.objective)
        if len(names) == 1:
            return pictures.against(self.records, tried, self.objective, names[0], space.scale(names[0]))
        if len(names) > 2:
            raise ConfigError(f"plot was given {len(names)} names; expected at most 2")
        return pictures.heat_map(tried, self.objective, names[0], names[1], {name: space.scale(name) for name in names})

    def columns(self) -> dict[str, list[Any]]:
        """Returns the table's columns by name, one value a trial."""
        return table.columns(self.records, self.objective)

    def summary(self) -> str:
        """Returns what is shown at the study's end."""
        return closing.summary(self, self.facts)

    def extend(
        self,
        trials: int,
        vary: Mapping[str, str] | Sequence[str] = (),
        callback: "Callable[[Study], Any] | None" = None,
    ) -> "Study":
        """Goes on with more trials in the same folder, and returns this study with them.

        The sampler goes on where it was, so that no point comes again. What a grid has tried it leaves out.

        Args:
          trials: how many more, seeds and folds counted.
          vary: expressions of settings that are searched elsewhere from now on, or anew; the others stay as they are.
            Seeds and folds cannot change.
          callback: see `run_sweep`.

        Raises:
          ConfigError, RunFolderError: there is no such space, or it does not go with what the study has found.
        """
        wanted = dict(text.split("=", 1) for text in (*self.settings.vary, *convert("vary", vary)))
        settings = dataclasses.replace(
            self.settings,
            trials=self.settings.trials + converted("trials", trials, int, AT_LEAST_1),
            vary=wanted,  # type: ignore[arg-type]
            study=str(self.path),
            extend=True,
        )
        longer = run(self.config.replace(resume=True, overwrite=False), settings, callback=callback)
        self.__dict__.update(longer.__dict__)
        return self

    def __repr__(self) -> str:
        return f"<{shown.line(self)}>"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows."""
        return shown.as_html(self)


def run_sweep(
    config: Config,
    vary: Mapping[str, str] | Sequence[str],
    *,
    callback: Callable[[Study], Any] | None = None,
    **settings: Any,
) -> Study:
    """Trains a study; the same folder again goes on where it was, or returns the finished study.

    Called in each of several processes that flags or a scheduler say share the study, it returns the same in all of them;
    what is read from the folder (parameters, best.flags) process 0 alone has.

    Args:
      config: what the trials have in common.
      vary: expressions by setting, `{"learning_rate": "log(1e-4,1)", "seed": "range(8)"}`.
      callback: called with the study so far after each look at the lanes; where it returns True, the study stops as if it
        were interrupted, and what is returned is the study so far: the same call goes on with it.
      **settings: other settings of the study: trials, sampler, scheduler, lanes, study (its folder).

    Returns:
      The study.

    Raises:
      ConfigError, DataError, RunFolderError: bad settings, data or folder; before any training starts.
      KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM, after the study was saved.
    """
    return run(config, study_config(vary, settings), callback=callback)


def load_study(path: str | Path) -> Study:
    """Returns the study in a folder; raises RunFolderError where there is none."""
    folder = Path(path).expanduser()
    if not (folder / JOURNAL).is_file():
        raise RunFolderError(f"'{folder}' holds no study; expected a study's folder, with {JOURNAL}")
    config, settings = flags.parse_study([FLAGS, f"--flagfile={folder / FLAGS}"])
    return Study(folder, config, settings, replay.read(folder / JOURNAL))


def run(
    config: Config,
    settings: StudyConfig,
    *,
    leave_at_second: bool = False,
    callback: Callable[[Study], Any] | None = None,
    close: Close = closing.close,
    data: Dataset | None = None,
) -> Study:
    """Trains a study of two configs; see `run_sweep`.

    Args:
      config: what the trials have in common.
      settings: the study's.
      leave_at_second: whether a second Ctrl-C ends the process at once.
      callback: see `run_sweep`; it may also return `runner.ENOUGH`.
      close: makes of a study that has ended what it leaves behind, and what its metadata says of it.
      data: the data set, where it is in memory already.
    """
    check_is_config(config)
    with processes.joined(config) as team:
        return _run(config, settings, leave_at_second, callback, close, data, team)


def _run(
    config: Config,
    settings: StudyConfig,
    leave_at_second: bool,
    callback: Callable[[Study], Any] | None,
    close: Close,
    data: Dataset | None,
    team: Alone,
) -> Study:
    share = opening.share(team, config)
    parts = setup.make(config, settings, data=data, share=share)
    sharing.check(team, parts)
    # As they were given: what this machine makes of `auto` is no other flag than what another made of it.
    base = parts.base.replace(lane_width=config.lane_width, devices=config.devices, native=config.native)
    asked = base, dataclasses.replace(parts.study, lanes=settings.lanes)
    with sharing.folder(team, config, settings, asked) as (folder, adopted, study):
        view = StudyView(adopted.progress, silent=not team.first)
        if folder.resumed:
            if folder.extended is None and folder.metadata().get("status") == "done":
                parts = parts._replace(base=adopted, study=study)
                return _left(folder, parts, sharing.records(team, folder), view, team)
            if folder.metadata().get(SEARCH):
                raise RunFolderError(f"'{folder.path}' holds a search of a person's own; expected a new name")
            tried = sharing.tried(team, folder, adopted, study)
            parts = setup.make(adopted, study, tried, data=data, share=share)
            if folder.extended is not None:
                if team.first:
                    extending.check(folder, folder.extended, parts, tried)
                folder.update_metadata(**{extending.TRIED: len(tried)})
        for note in parts.notes:
            view.say(note)
        if not folder.resumed:
            parts = probe.widened(parts, view.say, team)
        begin(folder, parts, view)
        with failure_noted(folder, team):
            look = _looking(callback, Study(folder.path, parts.base, parts.study, [], folder.metadata()))
            engine, ended = runner_lib.train(parts, folder, view, leave_at_second=leave_at_second, callback=look, team=team)
            if not ended:
                return Study(folder.path, parts.base, parts.study, engine.records, folder.metadata())
            facts = team.agreed(close(folder, parts, engine, view), "what was found")
            folder.update_metadata(status="done", error=None, **facts)
        return _left(folder, parts, engine.records, view, team)


def _left(folder: StudyFolder, parts: setup.Setup, records: Sequence[TrialRecord], view: StudyView, team: Alone) -> Study:
    """Returns a study that has come to its end, once process 0 has copied it where that was asked for."""
    study = Study(folder.path, parts.base, parts.study, records, folder.metadata())
    if team.first:
        _copied(study, parts, view)
    # An error of process 0's ends the others too, before they go on.
    team.agreed(None, "the study's end")
    return study


def _copied(study: Study, parts: setup.Setup, view: StudyView) -> None:
    """Copies a finished study into the storage that was asked for, what is not there yet."""
    url, best = parts.study.storage, parts.objective
    if url is not None:
        view.say(f"copying {len(study.records)} trials to the storage")
        export(study.records, url, study.path.name, best.maximise, searched=of_space(parts.space), metric=best.name)


def _looking(callback: Callable[[Study], Any] | None, study: Study) -> Callable[[Engine], Any]:
    """Returns what shows a callback the study so far."""

    def look(engine: Engine) -> Any:
        # Not copied: a study looks hundreds of times.
        study.records = engine.records
        return None if callback is None else callback(study)

    return look
