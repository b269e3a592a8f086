"""The journal: opened by Optuna itself, read back bit for bit, cut back and mended, copied to a database."""

import dataclasses
import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hpjax.errors import ConfigError, RunFolderError
from hpjax.study.as_optuna import Parameters
from hpjax.study.export import export, optuna_storage
from hpjax.study.journal import Journal
from hpjax.study.records import Measured, TrialRecord
from hpjax.study.replay import read
from hpjax.study.searched import Choices, Range
from study_records import SEARCHED, trials

optuna.logging.set_verbosity(optuna.logging.ERROR)


def opened(path: Path, size: int | None = None) -> Journal:
    return Journal(path, "digits", True, size, searched=SEARCHED, metric="val/accuracy")


def written(path: Path, records: list[TrialRecord]) -> Path:
    journal = opened(path)
    journal.begin(records)
    journal.evaluated((r.number, m) for r in records for m in r.curve)
    journal.end(r for r in records if r.status in ("done", "stopped", "diverged"))
    journal.close()
    return path


def by_optuna(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="digits", storage=JournalStorage(JournalFileBackend(str(path))))


def the_same(a: list[TrialRecord], b: list[TrialRecord]) -> bool:
    # A float's repr is exact, and NaN equals NaN; the order of a dict's entries is no part of it.
    def key(record: TrialRecord) -> str:
        return repr(dataclasses.replace(record, values=dict(sorted(record.values.items()))))

    return [key(r) for r in a] == [key(r) for r in b]


# Optuna opens it.


def test_optuna_reads_numbers_parameters_states_values_and_curves(tmp_path: Path, rng: np.random.Generator) -> None:
    records = trials(rng, 30, diverged=0.2, stopped=0.3)
    running = [TrialRecord(60, 30, {"learning_rate": 0.1, "seed": 0}, (0.5,), "running")]
    study = by_optuna(written(tmp_path / "study.journal", records + running))
    assert study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert study.metric_names == ["val/accuracy"]
    assert [t.number for t in study.trials] == list(range(61))
    states = {
        "done": TrialState.COMPLETE,
        "stopped": TrialState.PRUNED,
        "diverged": TrialState.FAIL,
        "running": TrialState.RUNNING,
    }
    for trial, record in zip(study.trials, records + running, strict=True):
        assert trial.state is states[record.status]
        assert trial.params == record.values
        assert trial.user_attrs["setting"] == record.setting
        assert tuple(trial.user_attrs["point"]) == record.point
        assert trial.values == ([record.objective] if record.status in ("done", "stopped") else None)
        np.testing.assert_array_equal(list(trial.intermediate_values.values()), [m.value for m in record.curve])
        assert list(trial.intermediate_values) == [m.step for m in record.curve]
        assert trial.user_attrs.get("diverged_at") == record.diverged_at
        assert trial.user_attrs.get("infeasible", False) == (record.status == "diverged")
        if record.status != "running":
            assert trial.user_attrs["status"] == record.status
            for name, value in record.curve[-1].numbers.items():
                np.testing.assert_array_equal(trial.user_attrs[name], value)
    done = [r for r in records if r.status == "done"]
    assert study.best_trial.number == max(done, key=lambda r: r.objective).number


def test_an_optuna_sampler_goes_on_from_the_journal(tmp_path: Path, rng: np.random.Generator) -> None:
    study = by_optuna(written(tmp_path / "study.journal", trials(rng, 15)))
    study.sampler = optuna.samplers.TPESampler(seed=0)
    trial = study.ask()
    assert trial.number == 30
    assert 1e-4 <= trial.suggest_float("learning_rate", 1e-4, 1.0, log=True) <= 1.0
    assert trial.suggest_categorical("optimizer", ["momentum", "adamw"]) in ("momentum", "adamw")


def test_distributions_are_spelt_as_optuna_spells_them() -> None:
    expected = {
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "momentum": FloatDistribution(0.0, 1.0),
        "batch_size": IntDistribution(8, 256, log=True),
        "optimizer": CategoricalDistribution(("momentum", "adamw")),
    }
    values = {"learning_rate": 0.1, "momentum": 0.5, "batch_size": 8, "optimizer": "adamw"}
    found = Parameters(SEARCHED).of(values)
    for name, distribution in expected.items():
        assert json.loads(found[name].distribution) == json.loads(optuna.distributions.distribution_to_json(distribution))
        assert found[name].value == distribution.to_internal_repr(values[name])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        # Beyond the bounds: they are widened, kind and log stay.
        ("learning_rate", 3.0, FloatDistribution(1e-4, 3.0, log=True)),
        ("learning_rate", 1e-5, FloatDistribution(1e-5, 1.0, log=True)),
        ("batch_size", 512, IntDistribution(8, 512, log=True)),
        # What no distribution of that kind holds is a user attribute.
        ("learning_rate", 0.0, None),
        ("batch_size", 8.5, None),
        ("batch_size", True, None),
        ("optimizer", "lars", None),
        ("dropout", 0.5, None),
    ],
)
def test_values_that_were_not_searched(tmp_path: Path, name: str, value: Any, expected: Any) -> None:
    records = [TrialRecord(0, 0, {name: value}), TrialRecord(1, 1, {"learning_rate": 0.1})]
    path = written(tmp_path / "study.journal", records)
    trial = by_optuna(path).trials[0]
    if expected is None:
        assert trial.params == {}
        assert trial.user_attrs[name] == value
    else:
        assert trial.params == {name: value}
        assert trial.distributions[name] == expected
    assert [r.values for r in read(path)] == [{name: value}, {"learning_rate": 0.1}]
    assert type(read(path)[0].values[name]) is type(value)


def test_choices_that_are_equal_but_not_the_same() -> None:
    parameters = Parameters({"x": Choices((1, True, 1.0, "1", None, (64, 32)))})
    for place, value in enumerate((1, True, 1.0, "1", None, (64, 32))):
        assert parameters.of({"x": value})["x"].value == place


def test_trials_that_begin_out_of_order_have_their_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    records = trials(rng, 4)
    order = [records[i] for i in (0, 5, 2, 1, 7)]
    path = tmp_path / "study.journal"
    journal = opened(path)
    for record in order:
        journal.begin([record])
        journal.flush()
    journal.end([records[2]])
    size = journal.size()
    journal.close()
    # Another process goes on, and begins a number whose place was held.
    journal = opened(path, size)
    journal.begin([records[3], TrialRecord(8, 4, {"learning_rate": 0.1}, status="running")])
    # Whether the number came in turn, or its place was held: in the process before, or in this one.
    for number in (5, 2, 3):
        with pytest.raises(ValueError, match=f"trial {number} began before"):
            journal.begin([records[number]])
    journal.close()
    found = by_optuna(path).trials
    waiting = {t.number for t in found if t.state is TrialState.WAITING}
    assert waiting == {4, 6}
    for number in (0, 1, 2, 3, 5, 7):
        assert found[number].params == records[number].values
        assert found[number].user_attrs["setting"] == records[number].setting
    assert [r.number for r in read(path)] == [0, 1, 2, 3, 5, 7, 8]
    assert [r.values for r in read(path)][:6] == [records[i].values for i in (0, 1, 2, 3, 5, 7)]


def test_a_trial_waits_until_it_takes_a_lane(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    first = [TrialRecord(number, number, {"learning_rate": 0.1}, (0.5,)) for number in range(5)]
    first[0].status, first[0].began = "running", 0.5
    journal = opened(path)
    # Number 3 comes before its turn: its place is held, and then it waits too.
    journal.begin([first[number] for number in (0, 1, 2, 4, 3)])
    size = journal.size()
    states = [trial.state for trial in by_optuna(path).trials]
    assert states == [TrialState.RUNNING, *[TrialState.WAITING] * 4]
    assert [(record.status, record.began) for record in read(path)][:1] == [("running", 0.5)]
    assert [record.status for record in read(path)[1:]] == ["waiting"] * 4
    journal.close()
    # Another process goes on from there.
    journal = opened(path, size)
    for number in (1, 3):
        first[number].status, first[number].began = "running", 2.0 + number
    first[2].status = "stopped"
    for _ in range(2):
        # Once is enough.
        journal.running(first)
    journal.end([first[2]])
    journal.close()
    trials = by_optuna(path).trials
    expected = [*[TrialState.RUNNING] * 2, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING]
    assert [trial.state for trial in trials] == expected
    assert [trial.datetime_start is None for trial in trials] == [False, False, True, False, True]
    assert the_same(read(path), first)
    assert len(path.read_text().splitlines()) == len(set(path.read_text().splitlines()))


# Our reader.


def test_records_are_read_back_exactly(tmp_path: Path, rng: np.random.Generator) -> None:
    records = trials(rng, 30, diverged=0.2, stopped=0.3)
    assert the_same(read(written(tmp_path / "study.journal", records)), records)


floats = st.floats(allow_nan=True, allow_infinity=True)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), floats, st.text())
measured = st.builds(
    Measured, st.integers(0, 2**40), st.integers(0, 2**40), floats, st.dictionaries(st.text(), floats, max_size=3)
)


@given(
    st.builds(
        TrialRecord,
        number=st.just(0),
        setting=st.integers(0, 2**31),
        values=st.dictionaries(st.text(), st.one_of(scalars, st.tuples(scalars, scalars), st.just(())), max_size=4),
        point=st.lists(floats, max_size=3).map(tuple),
        status=st.sampled_from(["done", "stopped", "diverged"]),
        curve=st.lists(measured, max_size=3),
        objective=floats,
        diverged_at=st.one_of(st.none(), st.integers(0, 2**40)),
        began=floats,
        ended=floats,
    )
)
def test_any_record_is_read_back_exactly_and_optuna_loads_it(tmp_path_factory: Any, record: TrialRecord) -> None:
    path = written(tmp_path_factory.mktemp("j") / "study.journal", [record])
    assert the_same(read(path), [record])
    assert len(by_optuna(path).trials) == 1


def test_a_journal_that_was_cut_back_goes_on_as_if_never_disturbed(tmp_path: Path, rng: np.random.Generator) -> None:
    records = trials(rng, 6)
    whole = written(tmp_path / "whole", records)
    path = tmp_path / "study.journal"
    journal = opened(path)
    journal.begin(records[:5])
    journal.evaluated((r.number, m) for r in records[:4] for m in r.curve)
    journal.end(records[:4])
    size = journal.size()
    lost = records[4]
    journal.evaluated((lost.number, m) for m in lost.curve)
    journal.begin(records[5:9])
    journal.flush()
    journal.close()
    assert path.stat().st_size > size
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    assert the_same(read(path, size)[:4], records[:4])
    journal = opened(path, size)
    assert journal.size() == size
    journal.evaluated((lost.number, m) for m in lost.curve)
    journal.end([lost])
    journal.begin(records[5:])
    journal.evaluated((r.number, m) for r in records[5:] for m in r.curve)
    journal.end(records[5:])
    journal.close()
    assert the_same(read(path), read(whole))
    assert [t.params for t in by_optuna(path).trials] == [t.params for t in by_optuna(whole).trials]


def test_a_torn_end_is_told_wherever_it_is_torn(tmp_path: Path, rng: np.random.Generator) -> None:
    path = written(tmp_path / "study.journal", trials(rng, 1, 1, 2))
    content = path.read_bytes()
    lines = content.count(b"\n")
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last + 1, len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(RunFolderError, match=rf"study.journal' ends within line {lines}; expected whole lines"):
            read(path)


@pytest.mark.parametrize(
    "damage", [b"\x00" * 20, b"[1,2]", b"{}", b'{"op_code":6,"hpjax":{"status":"done"},"trial_id":0}', b""]
)
def test_a_damaged_line_is_told_by_its_number(tmp_path: Path, rng: np.random.Generator, damage: bytes) -> None:
    path = written(tmp_path / "study.journal", trials(rng, 2))
    lines = path.read_bytes().splitlines()
    lines[3] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(RunFolderError, match=r"study.journal', line 4 is damaged; expected a line of a study's journal"):
        read(path)


def test_files_that_are_missing_or_short_are_told(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    with pytest.raises(RunFolderError, match=r"study.journal' cannot be read: no such file or directory"):
        read(path)
    with pytest.raises(RunFolderError, match="is shorter than the study left it; expected --overwrite or a new name"):
        opened(path, 100)
    opened(path).close()
    with pytest.raises(RunFolderError, match="is shorter than the study left it"):
        opened(path, path.stat().st_size + 1)
    # A size that lies within a line.
    with pytest.raises(RunFolderError, match="ends within line 2"):
        read(path, path.stat().st_size - 1)
    with pytest.raises(RunFolderError, match="ends within line 2"):
        opened(path, path.stat().st_size - 1)


def test_what_a_dashboard_adds_is_read_over_and_another_programs_trial_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "study.journal", [TrialRecord(0, 0, {"learning_rate": 0.1}, status="done", objective=1.0)])
    study = by_optuna(path)
    study.set_user_attr("note", "from the dashboard")
    assert len(read(path)) == 1
    opened(path, path.stat().st_size).close()
    study.ask()
    assert len(read(path)) == 1
    with pytest.raises(RunFolderError, match="another program added a trial; expected this study's trials alone"):
        opened(path, path.stat().st_size)


def test_a_flush_is_one_append_and_one_fsync(tmp_path: Path, rng: np.random.Generator, monkeypatch: Any) -> None:
    calls: list[str] = []
    write, fsync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda *a: (calls.append("write"), write(*a))[1])
    monkeypatch.setattr(os, "fsync", lambda *a: (calls.append("fsync"), fsync(*a))[1])
    journal = opened(tmp_path / "study.journal")
    journal.begin(trials(rng, 20))
    assert calls == []
    journal.flush()
    journal.flush()
    assert calls == ["write", "fsync"]
    journal.close()


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, rng: np.random.Generator, monkeypatch: Any) -> None:
    path = tmp_path / "study.journal"
    records = trials(rng, 4)
    journal = opened(path)
    journal.begin(records[:2])
    journal.flush()
    before = path.read_bytes()
    write, calls = os.write, iter([100])

    def full(file: int, data: Any) -> int:
        for size in calls:
            return write(file, data[:size])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    journal.begin(records[2:])
    with pytest.raises(RunFolderError, match=r"study\.journal': the disk is full"):
        journal.flush()
    assert path.read_bytes() == before
    # Once there is room nothing is lost.
    monkeypatch.setattr(os, "write", write)
    journal.close()
    assert [r.number for r in read(path)] == [r.number for r in records]


# A copy for a database.


def test_a_study_is_copied_to_sqlite_and_extended(tmp_path: Path, rng: np.random.Generator) -> None:
    records = trials(rng, 6, diverged=0.3, stopped=0.3)
    records[3].status = "running"
    url = f"sqlite:///{tmp_path}/study.db"
    settings: dict[str, Any] = {"searched": SEARCHED, "metric": "val/accuracy"}
    assert export(records[:8], url, "digits", True, **settings) == 7
    assert export(records, url, "digits", True, **settings) == 4
    assert export(records, url, "digits", True, **settings) == 0
    with optuna_storage(url) as storage:
        study = optuna.load_study(study_name="digits", storage=storage)
        found, names = study.trials, study.metric_names
    ended = [r for r in records if r.number != 3]
    assert [t.user_attrs["trial"] for t in found] == [r.number for r in ended]
    for trial, record in zip(found, ended, strict=True):
        assert trial.params == record.values
        assert trial.values == (None if math.isnan(record.objective) else [record.objective])
        np.testing.assert_array_equal(list(trial.intermediate_values.values()), [m.value for m in record.curve])
    assert names == ["val/accuracy"]


def test_a_storage_that_cannot_be_used_is_told_without_the_password(tmp_path: Path, rng: np.random.Generator) -> None:
    records = trials(rng, 1)
    other = f"sqlite:///{tmp_path}/other.db"
    with optuna_storage(other) as storage:
        optuna.create_study(storage=storage, study_name="digits").add_trial(optuna.create_trial(value=1.0))
    for url, message in [
        (other, "storage '.*other.db' holds another study 'digits'; expected a storage without it, or another name"),
        ("nonsense", "storage 'nonsense' cannot be used: .*; expected a URL like sqlite:///study.db"),
        (f"sqlite:///{tmp_path}/no/folder.db", "storage .* cannot be used: .*unable to open"),
        ("postgresql+psycopg2://me:secret@localhost/x", r"storage 'postgresql\+psycopg2://me:\*\*\*@localhost/x'"),
    ]:
        with pytest.raises(ConfigError, match=message) as caught:
            export(records, url, "digits", True)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_range_of_one_value_is_a_parameter(tmp_path: Path) -> None:
    searched = {"momentum": Range("float", 0.9, 0.9)}
    journal = Journal(tmp_path / "study.journal", "digits", False, None, searched=searched)
    journal.begin([TrialRecord(0, 0, {"momentum": 0.9})])
    journal.close()
    study = by_optuna(tmp_path / "study.journal")
    assert study.trials[0].params == {"momentum": 0.9}
    assert study.direction is optuna.study.StudyDirection.MINIMIZE
