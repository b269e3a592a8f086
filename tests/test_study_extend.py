"""A study that goes on: with more trials, in a wider space, stopped by a callback; what it refuses."""

import json
import math
import shutil
from types import SimpleNamespace

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import hpjax
from hpjax import resolve
from hpjax.config import StudyConfig
from hpjax.errors import ConfigError, RunFolderError
from hpjax.study import extending
from hpjax.study.export import optuna_storage
from hpjax.study.records import TrialRecord
from hpjax.study.space import Space
from hpjax.sweep import main

CONFIG = hpjax.Config(
    hidden_sizes="8", optimizer="adamw", train_steps="8", eval_every="4", log_every="4", progress=False, tensorboard=False
)
VARY = {"learning_rate": "log(1e-3,1e-1)", "seed": "range(2)"}


def told(records: list[TrialRecord]) -> list[tuple]:
    """Everything of trials that does not depend on the clock."""
    return [(r.number, r.setting, r.values, r.point, r.status, str(r.curve), r.objective) for r in records]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A finished study of 6 trials; tests copy its folder."""
    return hpjax.run_sweep(CONFIG, VARY, trials=6, lanes=4, study=tmp_path_factory.mktemp("extend") / "short").path


@pytest.fixture
def folder(short, tmp_path):
    return shutil.copytree(short, tmp_path / "study")


def test_more_trials_are_those_of_a_longer_study(folder, tmp_path):
    study = hpjax.load_study(folder)
    assert study.config.progress
    study.config = study.config.replace(progress=False)
    same = study.extend(trials=4)
    assert same is study
    longer = hpjax.run_sweep(CONFIG, VARY, trials=10, lanes=4, study=tmp_path / "longer")
    assert told(study.records) == told(longer.records)
    assert study.settings.trials == 10
    assert (folder / "flags.txt").read_text() == (tmp_path / "longer" / "flags.txt").read_text()
    without_clock = [
        [line.rsplit(",", 1)[0] for line in (path / "trials.csv").read_text().splitlines()]
        for path in (folder, tmp_path / "longer")
    ]
    assert without_clock[0] == without_clock[1]
    assert told(hpjax.load_study(folder).records) == told(study.records)
    # It is an ordinary study again: the same call returns it.
    again = hpjax.run_sweep(CONFIG, VARY, trials=10, lanes=4, study=folder)
    assert told(again.records) == told(study.records)


def test_a_wider_space_goes_on_where_the_sampler_was(folder, tmp_path):
    study = hpjax.load_study(folder)
    study.config = study.config.replace(progress=False)
    before = told(study.records)
    wider = {"learning_rate": "log(1e-4,1)", "weight_decay": "uniform(0,0.1)"}
    study.extend(8, wider)
    assert told(study.records[:6]) == before
    assert set(study.records[6].values) == {"learning_rate", "weight_decay", "seed"}
    assert study.settings.vary == ("learning_rate=log(1e-4,1)", "seed=range(2)", "weight_decay=uniform(0,0.1)")
    fresh = hpjax.run_sweep(CONFIG, {**VARY, **wider}, trials=14, lanes=4, study=tmp_path / "fresh")
    assert told(study.records[6:]) == told(fresh.records[6:])
    (header, *rows) = (folder / "trials.csv").read_text().splitlines()
    assert "weight_decay" in header.split(",")
    assert len(rows) == 14
    # Optuna reads the file on, though a parameter's bounds have changed in it.
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    assert [trial.params["learning_rate"] for trial in trials] == [r.values["learning_rate"] for r in study.records]
    study.plot("weight_decay").clear()
    assert hpjax.load_study(folder).best_config.learning_rate == study.best.values["learning_rate"]


def test_what_was_seen_moves_into_the_wider_space(folder, monkeypatch):
    from hpjax.study.samplers.tpe import Tpe

    shown = []
    points = Tpe.points
    monkeypatch.setattr(Tpe, "points", lambda self, *asked: (shown.append(asked), points(self, *asked))[1])
    path = folder.parent / "tpe"
    hpjax.run_sweep(CONFIG, VARY, trials=4, lanes=4, sampler="tpe", study=path)
    shown.clear()
    study = hpjax.load_study(path)
    study.config = study.config.replace(progress=False)
    study.extend(2, {"learning_rate": "log(1e-4,1)"})
    # The space is checked with points from number 0 first.
    ((_, _, seen),) = [asked for asked in shown if asked[0] == 2]
    # log(1e-4, 1) has four decades, log(1e-3, 0.1) the two in its middle, from a quarter to three quarters.
    old = {record.setting: record.point[0] for record in study.records[:4]}
    assert [point[0] for point, _ in seen] == pytest.approx([0.25 + 0.5 * old[0], 0.25 + 0.5 * old[1]], abs=1e-12)


def test_a_wider_grid_has_no_point_twice(tmp_path):
    grid = {"learning_rate": "grid(0.01,0.1)", "weight_decay": "grid(0,0.1)"}
    study = hpjax.run_sweep(CONFIG, grid, trials=16, sampler="grid", lanes=2, study=tmp_path / "grid")
    assert len(study.records) == 4
    with pytest.raises(RunFolderError, match="the study has all of its 4 trials; expected more --trials, or a wider --vary"):
        study.extend(5)
    study.extend(3, {"learning_rate": "grid(0.001,0.01,0.1,1)"})
    tried = [(record.values["learning_rate"], record.values["weight_decay"]) for record in study.records]
    assert tried[4:] == [(0.001, 0.0), (0.001, 0.1), (1.0, 0.0), (1.0, 0.1)]
    assert len(set(tried)) == 8


def test_a_space_that_was_tried_goes_on_where_it_is_made_wider(tmp_path):
    study = hpjax.run_sweep(CONFIG, {"learning_rate": "choice(0.01,0.1)"}, trials=8, lanes=2, study=tmp_path / "two")
    assert [record.values["learning_rate"] for record in study.records] == [0.01, 0.1]
    with pytest.raises(RunFolderError, match="the study has all of its 2 trials; expected more --trials, or a wider --vary"):
        study.extend(5)
    study.extend(1, {"learning_rate": "choice(0.1,0.03,0.01)"})
    assert [record.values["learning_rate"] for record in study.records] == [0.01, 0.1, 0.03]


def test_a_grid_cut_short_is_filled_by_a_longer_study_that_is_stopped_too(tmp_path):
    call = {"vary": {"learning_rate": "log(1e-3,1e-1,6)"}, "sampler": "grid", "lanes": 1, "study": tmp_path / "cut"}
    hpjax.run_sweep(CONFIG, trials=2, **call)
    longer = {**call, "trials": 6, "extend": True}
    half = hpjax.run_sweep(CONFIG, **longer, callback=lambda study: len(study.records) >= 4)
    assert len(half.records) < 6
    # A study of other trials and one of all settings do not go on with each other's half.
    wider = {**longer, "vary": {"learning_rate": "log(1e-4,1e-1,7)"}}
    with pytest.raises(RunFolderError, match="tries each setting once and has not come to its end"):
        hpjax.run_sweep(CONFIG, **wider)
    tried = [record.values["learning_rate"] for record in hpjax.run_sweep(CONFIG, **longer).records]
    assert len(set(tried)) == len(tried) == 6


def test_a_callback_stops_the_study_and_the_same_call_goes_on(tmp_path):
    seen = []

    def stop(study):
        ended = [record for record in study.records if record.status == "done"]
        seen.append(len(ended))
        return len(ended) >= 4

    where = tmp_path / "stopped"
    study = hpjax.run_sweep(CONFIG, VARY, trials=12, lanes=2, study=where, callback=stop)
    assert 4 <= sum(record.status == "done" for record in study.records) < 12
    assert seen == sorted(seen)
    assert json.loads((where / "metadata.json").read_text())["status"] == "preempted"
    assert study.best is not None
    assert study.best_config.learning_rate == study.best.values["learning_rate"]
    full = hpjax.run_sweep(CONFIG, VARY, trials=12, lanes=2, study=where, callback=lambda study: None)
    undisturbed = hpjax.run_sweep(CONFIG, VARY, trials=12, lanes=2, study=tmp_path / "undisturbed")
    assert told(full.records) == told(undisturbed.records)


def test_a_stopped_study_may_be_extended_before_its_end(tmp_path):
    where = tmp_path / "early"
    settings = {"trials": 12, "lanes": 2, "scheduler": "asha", "study": where}
    half = hpjax.run_sweep(CONFIG, VARY, **settings, callback=lambda study: len(study.records) >= 6)
    begun = len(half.records)
    assert begun < 12
    longer = half.extend(4, {"learning_rate": "log(1e-4,1)"})
    assert len(longer.records) == 16
    assert [r.values for r in longer.records[:begun]] == [r.values for r in half.records[:begun]]
    assert all(record.status in ("done", "stopped") for record in longer.records)


def test_an_extension_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    settings = {"sampler": "tpe", "lanes": 4, "study": tmp_path / "first"}
    first = hpjax.run_sweep(CONFIG, VARY, trials=24, **settings)
    copy = hpjax.load_study(shutil.copytree(first.path, tmp_path / "copy"))
    copy.config = copy.config.replace(progress=False)
    wider = {"weight_decay": "uniform(0,0.1)", "learning_rate": "log(1e-4,1)"}
    undisturbed = first.extend(16, wider)
    stopped = copy.extend(16, wider, callback=lambda study: len(study.records) >= 30)
    assert 24 < len(stopped.records) < 40
    longer = {**VARY, "learning_rate": wider["learning_rate"], "weight_decay": wider["weight_decay"]}
    # The call of the longer study goes on with it, once more stopped in between.
    call = {"vary": longer, "trials": 40, **settings, "study": tmp_path / "copy"}
    half = hpjax.run_sweep(CONFIG, **call, callback=lambda study: len(study.records) >= 36)
    assert len(half.records) < 40
    whole = hpjax.run_sweep(CONFIG, **call)
    assert told(whole.records) == told(undisturbed.records)


def test_new_choices_are_in_the_journal_and_in_a_storage(tmp_path):
    url = f"sqlite:///{tmp_path / 'copy.db'}"
    vary = {"learning_rate": "log(1e-3,1e-1)", "optimizer": "choice(adamw,sgd)"}
    study = hpjax.run_sweep(CONFIG, vary, trials=4, lanes=2, storage=url, study=tmp_path / "one")
    study.extend(8, {"optimizer": "choice(adamw,sgd,lion)"})
    tried = [record.values["optimizer"] for record in study.records]
    assert "lion" in tried
    journal = JournalStorage(JournalFileBackend(str(tmp_path / "one" / "study.journal")))
    trials = optuna.load_study(study_name="one", storage=journal).trials
    assert [trial.params["optimizer"] for trial in trials] == tried
    # A database has one list of choices for all trials: what is not in it is an attribute.
    with optuna_storage(url) as storage:
        trials = optuna.load_study(study_name="one", storage=storage).trials
    assert [trial.params.get("optimizer", trial.user_attrs.get("optimizer")) for trial in trials] == tried
    assert [trial.value for trial in trials] == [record.objective for record in study.records]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 4}, "trials is 4; expected at least the 6 that the study has"),
        (
            {"trials": 9, "vary": {"weight_decay": "uniform(0,1)", "seed": "range(2)"}},
            "vary has no 'learning_rate' any more",
        ),
        ({"trials": 9, "vary": {**VARY, "seed": "range(3)"}}, "vary has other seeds or folds; expected .*seed=range"),
        ({"vary": {**VARY, "learning_rate": "log(1e-4,1)"}}, "has all of its 6 trials"),
        ({"trials": 9, "vary": {**VARY, "batch_size": "choice(32,64)"}}, "micro_batch_size .* -> 32"),
        ({"trials": 9, "sampler": "random"}, "sampler halton -> random"),
    ],
)
def test_what_does_not_go_with_the_study_is_refused(folder, changes, message):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    settings = {"vary": VARY, "trials": 6, "lanes": 4, "study": folder, "extend": True, **changes}
    with pytest.raises(RunFolderError, match=message) as caught:
        hpjax.run_sweep(CONFIG, **settings)
    assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_the_command_line_extends_where_it_is_told_to(folder, capsys):
    flags = ["hpjax.sweep", f"--flagfile={folder / 'flags.txt'}", f"--study={folder}", "--noprogress"]
    assert main([*flags, "--trials=8"]) == 2
    refusal = capsys.readouterr().err
    assert "trials 6 -> 8" in refusal
    assert "--extend, which goes on with them" in refusal
    assert main([*flags, "--trials=8", "--sampler=random"]) == 2
    assert "--extend" not in capsys.readouterr().err
    assert main([*flags, "--trials=8", "--extend"]) == 0
    assert len(hpjax.load_study(folder).records) == 8
    assert "--extend" not in (folder / "flags.txt").read_text()


def test_a_number_that_is_none_is_refused(short):
    study = hpjax.load_study(short)
    for trials in (0, -3, 1.5, "many"):
        with pytest.raises(ConfigError, match="trials is"):
            study.extend(trials)
    with pytest.raises(ConfigError, match="texts name=expression"):
        study.extend(2, 3)
    assert not StudyConfig().extend


def test_a_study_says_what_it_is(short):
    study = hpjax.load_study(short)
    words = repr(study)
    assert "6 trials (6 done), best val/accuracy" in words
    assert f"learning_rate {study.best.values['learning_rate']:.4g}" in words
    shown = study._repr_html_()
    assert shown.count("<tr>") == 1 + 3
    assert f"<td>{study.best.value:.4g}</td>" in shown
    assert str(short).split("/")[-1] in shown


def test_points_of_a_space_before_are_moved():
    before, now = ("learning_rate=log(1e-3,1e-1)",), ("learning_rate=log(1e-4,1)", "weight_decay=0.1*uniform(0,1)")
    old, new = Space.parse(before, CONFIG), Space.parse(now, CONFIG)
    parts = SimpleNamespace(base=CONFIG, study=StudyConfig(vary=now), space=new)
    records = [
        TrialRecord(0, 0, {**old.values((0.5,)), "seed": 0}, (0.5,), "running"),
        TrialRecord(1, 1, {"learning_rate": 0.05}, (), "running"),
        TrialRecord(2, 2, new.values((0.3, 0.4)), (0.3, 0.4), "running"),
        TrialRecord(3, 3, old.values((0.25,)), (0.25,), "done"),
        TrialRecord(4, 4, {**new.values((0.3, 0.4)), "learning_rate": 7.0}, (0.9, 0.4), "running"),
    ]
    facts = {"vary": list(before), "seen": [[[0.5], 1.0], [[], -math.inf], [[1 - 2**-53], 0.5]]}
    extending.adapt(facts, records, parts)
    # The decades -3 to -1 are the middle of -4 to 0. Weight decay was not drawn, but 0.01 nevertheless, as for every adamw:
    # a tenth of the way to 0.1. What a person gave by hand, has its own place or has ended stays; 7.0 has no place.
    assert resolve.resolve(CONFIG).weight_decay == 0.01
    assert records[0].point == pytest.approx((0.5, 0.1), abs=1e-12)
    assert [record.point for record in records[1:]] == [(), (0.3, 0.4), (0.25,), ()]
    assert [score for _, score in facts["seen"]] == [1.0, -math.inf, 0.5]
    assert facts["seen"][0][0] == pytest.approx((0.5, 0.1), abs=1e-12)
    assert facts["seen"][1][0] == ()
    assert facts["seen"][2][0] == pytest.approx((0.75, 0.1), abs=1e-12)
    parts = SimpleNamespace(base=CONFIG, study=StudyConfig(vary=now[:1]), space=Space.parse(now[:1], CONFIG))
    records[0].point = (0.5,)
    facts = {"vary": list(before), "seen": [[[0.5], 1.0], [[0.0], 2.0]]}
    extending.adapt(facts, records[:1], parts)
    # Two decades in the middle of four.
    assert records[0].point == pytest.approx((0.5,), abs=1e-12)
    assert [point[0] for point, _ in facts["seen"]] == pytest.approx([0.5, 0.25], abs=1e-12)
