"""TensorBoard's HParams page of a study, as TensorBoard itself reads it."""

import errno
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from hpjax.errors import RunFolderError
from hpjax.objective import Objective
from hpjax.study.hparams import HParams, chosen
from hpjax.study.records import SettingSummary, TrialRecord
from hpjax.study.searched import Choices, Range, Searched
from hpjax.study.table import group
from study_records import SEARCHED, trials

ACCURACY = Objective("val/accuracy", True, "best")
LOSS = Objective("val/loss", False, "best")
METRICS = ("val/loss", "val/accuracy", "train/loss")
HYPERPARAMETERS = {name: one for name, one in SEARCHED.items() if name != "seed"}
STATUSES = [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING, api_pb2.STATUS_UNKNOWN]


class Page:
    """What TensorBoard's server answers for a folder."""

    def __init__(self, folder: Path):
        multiplexer = plugin_event_multiplexer.EventMultiplexer()
        multiplexer.AddRunsFromDirectory(str(folder))
        multiplexer.Reload()
        self.data_provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
        self.multiplexer = None
        self.flags = None
        self._context = backend_context.Context(self)

    def experiment(self) -> Any:
        request = api_pb2.GetExperimentRequest(hparams_limit=1000)
        return get_experiment.Handler(RequestContext(), self._context, "", request).run()

    def groups(self) -> dict[str, Any]:
        request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=10_000, allowed_statuses=STATUSES)
        for info in self.experiment().metric_infos:
            request.col_params.add(metric=info.name)
        found = list_session_groups.Handler(RequestContext(), self._context, "", request).run().session_groups
        return {one.name: one for one in found}


def value(proto: Any) -> Any:
    return getattr(proto, proto.WhichOneof("kind"))


def metrics(session: Any) -> dict[str, tuple[int, float]]:
    return {one.name.tag: (one.training_step, one.value) for one in session.metric_values}


def test_the_schema_is_there_before_any_trial(tmp_path: Path) -> None:
    HParams(tmp_path / "tb", HYPERPARAMETERS, METRICS).declare()
    experiment = Page(tmp_path / "tb").experiment()
    infos = {one.name: one for one in experiment.hparam_infos}
    assert infos.keys() == HYPERPARAMETERS.keys()
    rate = infos["learning_rate"]
    assert (rate.type, rate.domain_interval.min_value, rate.domain_interval.max_value) == (
        api_pb2.DATA_TYPE_FLOAT64,
        1e-4,
        1,
    )
    assert infos["batch_size"].domain_interval.max_value == 256
    assert infos["optimizer"].type == api_pb2.DATA_TYPE_STRING
    assert [value(one) for one in infos["optimizer"].domain_discrete.values] == ["momentum", "adamw"]
    assert [one.name.tag for one in experiment.metric_infos] == ["objective", *METRICS]


@pytest.mark.parametrize(
    ("choices", "kind", "expected"),
    [
        ((1, 2.5), api_pb2.DATA_TYPE_FLOAT64, [1.0, 2.5]),
        ((True, False), api_pb2.DATA_TYPE_BOOL, [True, False]),
        ((1, True), api_pb2.DATA_TYPE_STRING, ["1", "True"]),
        ((None, 0.5), api_pb2.DATA_TYPE_STRING, ["none", "0.5"]),
        (((64, 32), (128,)), api_pb2.DATA_TYPE_STRING, ["64,32", "128"]),
    ],
)
def test_choices_have_one_type(tmp_path: Path, choices: tuple[Any, ...], kind: int, expected: list[Any]) -> None:
    tab = HParams(tmp_path, {"hidden_sizes": Choices(choices)}, METRICS)
    tab.declare()
    tab.ended([TrialRecord(i, i, {"hidden_sizes": one}, (), "done", objective=0.5) for i, one in enumerate(choices)])
    page = Page(tmp_path)
    (info,) = page.experiment().hparam_infos
    assert info.type == kind
    assert [value(one) for one in info.domain_discrete.values] == expected
    assert [value(one.hparams["hidden_sizes"]) for one in page.groups().values()] == expected


def test_a_group_a_setting_with_its_seeds_under_it(tmp_path: Path, rng: np.random.Generator) -> None:
    records = trials(rng, 8, 3, diverged=0.2, stopped=0.2)
    del records[0].values["momentum"], records[1].values["momentum"], records[2].values["momentum"]
    tab = HParams(tmp_path, HYPERPARAMETERS, METRICS)
    tab.declare()
    tab.ended(records[:10])
    tab.ended(records[10:])
    groups = Page(tmp_path).groups()
    assert list(groups) == [f"setting {i:05d}" for i in range(8)]
    for setting, found in enumerate(groups.values()):
        own = [record for record in records if record.setting == setting]
        expected = {name: one for name, one in own[0].values.items() if name != "seed"}
        assert {name: value(one) for name, one in found.hparams.items()} == expected
        assert [one.name for one in found.sessions] == [f"trials/{record.number:05d}" for record in own]
        for session, record in zip(found.sessions, own, strict=True):
            failed = record.status == "diverged"
            assert session.status == (api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS)
            last = {n: (m.step, np.float32(v)) for m in record.curve for n, v in m.numbers.items() if math.isfinite(v)}
            if not math.isnan(record.objective):
                last["objective"] = (record.curve[-1].step, np.float32(record.objective))
            assert metrics(session) == last


def test_of_many_settings_the_best_and_an_even_sample_stay(tmp_path: Path, rng: np.random.Generator) -> None:
    records = trials(rng, 60, 2, diverged=0.1)
    tab = HParams(tmp_path, HYPERPARAMETERS, METRICS, most=20)
    tab.declare()
    tab.ended(records)
    assert len(Page(tmp_path).groups()) == 20
    summaries = group(records, ACCURACY, "mean")
    tab.finish(records, summaries, ACCURACY)
    expected = chosen(summaries, ACCURACY, 20)
    groups = Page(tmp_path).groups()
    assert list(groups) == [f"setting {i:05d}" for i in sorted(expected)]
    assert all(len(one.sessions) == 2 for one in groups.values())
    # A study that goes on finds what it wrote.
    again = HParams(tmp_path, HYPERPARAMETERS, METRICS, most=30)
    again.declare()
    again.finish(records, summaries, ACCURACY)
    assert len(Page(tmp_path).groups()) == 30
    assert not list(tmp_path.rglob("new"))


def summary(setting: int, objective: float) -> SettingSummary:
    return SettingSummary(setting, {}, [setting], objective, math.nan, "done")


def test_the_choice_by_hand() -> None:
    values = [0.1, 0.9, math.nan, 0.3, 0.8, 0.2, 0.7, 0.4, 0.6]
    found = [summary(i, one) for i, one in enumerate(values)]
    # The best three of nine are 1, 4 and 6; left in order are 0 2 3 5 7 8, whose two halves have 2 and 7 in their middle.
    assert chosen(found, ACCURACY, 5) == {1, 4, 6, 2, 7}
    # The least three are 0, 5 and 3; left are 1 2 4 6 7 8: 2 and 7 again.
    assert chosen(found, LOSS, 5) == {0, 5, 3, 2, 7}
    assert chosen(found, ACCURACY, 9) == set(range(9))
    assert chosen(found, ACCURACY, 1) == {1}
    for most in range(1, 10):
        assert len(chosen(found, ACCURACY, most)) == most


def test_a_session_that_is_written_again_is_there_once(tmp_path: Path, rng: np.random.Generator) -> None:
    records = trials(rng, 1, 1, diverged=0.0)
    searched: dict[str, Searched] = {"learning_rate": Range("float", 1e-4, 1.0, log=True)}
    for _ in range(2):
        tab = HParams(tmp_path, searched, METRICS)
        tab.declare()
        tab.ended(records)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    (one,) = Page(tmp_path).groups().values()
    assert len(one.sessions) == 1


def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path: Path, monkeypatch: Any) -> None:
    def full(*paths: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunFolderError, match=r"the disk is full"):
        HParams(tmp_path / "tb", HYPERPARAMETERS, METRICS).declare()
