"""Trains the trials of a search, or an estimator's only one: on the lanes of a program that stays for the next."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from hpjax import devices
from hpjax.config import Config, StudyConfig
from hpjax.errors import RunFolderError
from hpjax.interrupt import Interrupt
from hpjax.lanes import LaneProgram
from hpjax.placement import Layout
from hpjax.sklearn import table
from hpjax.sklearn.table import Table
from hpjax.study import probe, setup
from hpjax.study import study as studies
from hpjax.study.engine import Engine
from hpjax.study.plan import Plan, Planner
from hpjax.study.records import TrialRecord
from hpjax.study.screen import StudyView
from hpjax.study.setup import GroupMaker, Setup
from hpjax.trial import Trial

MOST_PROGRAMS = 16
"""Programs that are kept, the last that were used: they hold no data, but what XLA compiled."""


class Trained(NamedTuple):
    """What trials came to.

    Attributes:
      records: the trials, by number.
      variables: of those that ended well, by number: what their models are applied with, nested dicts of NumPy arrays.
      planner: knows their configs, resolved.
      layout: of the lanes.
    """

    records: Sequence[TrialRecord]
    variables: Mapping[int, dict[str, Any]]
    planner: Planner
    layout: Layout

    def config(self, number: int) -> Config:
        """Returns a trial's config, resolved."""
        return self.planner.plan(self.records[number].values).config


class _Remembering(Planner):
    """Makes each plan once: a plan takes milliseconds, and is asked for again when a trial is scored."""

    def __init__(self, parts: Setup):
        """Takes the place of a setup's planner."""
        names = (*parts.space.names, *parts.space.replicated)
        super().__init__(parts.base, names, parts.dataset.train_sizes(parts.base.folds or 1))
        self._made: dict[tuple[tuple[str, Any], ...], Plan] = {}

    def plan(self, values: Mapping[str, Any]) -> Plan:
        """Returns the plan of a trial; see `Planner`."""
        key = tuple(sorted(values.items()))
        if key not in self._made:
            self._made[key] = super().plan(values)
        return self._made[key]


class Programs:
    """Lane programs by what is static of them: data of about the same size and the same features need no new one."""

    def __init__(self, most: int = MOST_PROGRAMS):
        """Keeps none yet, and later the last `most`."""
        self._most = most
        self.kept: list[tuple[Trial, Layout, LaneProgram]] = []

    def __call__(self, trial: Trial, layout: Layout) -> LaneProgram:
        """Returns the program of a trial's static part and a layout."""
        # Of folds of the data's own the size is a value; what a Hessian would be measured on is nobody's question here.
        trial = dataclasses.replace(trial, reader=dataclasses.replace(trial.reader, train_size=1))
        for place, (known, its_layout, _) in enumerate(self.kept):
            if its_layout == layout and known == trial:
                self.kept.append(self.kept.pop(place))
                return self.kept[-1][2]
        self.kept = [*self.kept, (trial, layout, LaneProgram(trial, layout))][-self._most :]
        return self.kept[-1][2]


PROGRAMS = Programs()


def alone(config: Config, data: Table, fold: int, layout: Layout | None = None) -> Trained:
    """Trains one trial, on a lane of a search's layout or of one lane a device.

    Args:
      config: its settings, with `folds`.
      data: the table.
      fold: what it trains on.
      layout: of a search whose program it is to share.

    Raises:
      ConfigError, DataError: settings or data that cannot be trained.
    """
    devices.configure()
    lanes, width = (jax.local_device_count(), 1) if layout is None else (layout.lanes, layout.width)
    study = StudyConfig(vary={"fold": f"choice({fold})"}, trials=1, lanes=str(lanes))  # type: ignore[arg-type]
    return in_memory(config.replace(lane_width=str(width)), study, data, StudyView(False))


def in_memory(config: Config, study: StudyConfig, data: Table, view: StudyView) -> Trained:
    """Trains a study's trials without a folder; see `alone`."""
    parts = probe.widened(setup.make(config, study, data=data.dataset), view.say)
    planner = _Remembering(parts)
    engine = Engine(
        parts.dataset,
        planner,
        parts.asker,
        parts.scheduler,
        parts.objective,
        parts.study.aggregate,
        GroupMaker(parts, view.say, PROGRAMS),
        keep_best=parts.trials,
    )
    for note in parts.notes:
        view.say(note)
    with Interrupt(False) as interrupt, view:
        for _ in engine.run(interrupt):
            view.update(engine.facts(), total=parts.trials, metric=parts.objective.name)
        interrupt.leave()
    found = engine.kept.best
    variables = {number: {"params": one["params"], **one["collections"]} for number, one in found.items()}
    return Trained(engine.records, variables, planner, parts.layout)


def in_folder(config: Config, study: StudyConfig, data: Table, saved: Mapping[str, Any]) -> Trained:
    """Trains a study in its folder, or goes on with it, or takes what it has found; see `alone`.

    Args:
      config: what the trials have in common.
      study: the study's settings, its folder among them.
      data: the table.
      saved: what the folder keeps of it, arguments of `table.save`.

    Raises:
      RunFolderError: the folder holds another study, or cannot be used.
    """
    path = Path(os.path.abspath(os.path.expanduser(study.study or "")))

    def keep(so_far: studies.Study) -> None:
        if not (so_far.path / table.FILE).exists():
            table.save(so_far.path / table.FILE, **saved)

    # The table is in this process's memory alone, whoever started it.
    config = config.replace(data_file=str(path / table.FILE), keep_best=study.trials, num_processes=1)
    found = studies.run(config, study, callback=keep, data=data.dataset)
    keep(found)
    parts = setup.make(config, study, data=data.dataset)
    if found.facts["data"] != parts.dataset.fingerprint():
        raise RunFolderError("the data set has changed since this study was begun; expected the same data or a new name")
    variables = {number: found.variables(number) for number in found.kept}
    return Trained(found.records, variables, _Remembering(parts), parts.layout)
