"""`python -m hpjax.sweep` from flags to files: what it leaves behind, that it repeats, and that the winner does."""

import contextlib
import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.hparams import plugin_data_pb2

from hpjax import sweep, train
from hpjax.study import replay
from hpjax.study.records import TrialRecord
from hpjax.study.study import load_study

ROOT = Path(__file__).parent.parent

TINY = {
    "hidden_sizes": "16",
    "train_steps": "24",
    "eval_every": "8",
    "log_every": "8",
    "batch_size": "64",
    "test_fraction": "0.1",
    "tensorboard": "false",
    "progress": "false",
}
"""What the studies here have in common."""


def words(vary: tuple[str, ...] = (), **settings: Any) -> list[str]:
    """Returns a command line's flags."""
    given = [f"--{name}={value}" for name, value in {**TINY, **settings}.items()]
    return [*given, *(f"--vary={text}" for text in vary)]


def run(*arguments: str) -> tuple[int, str, str]:
    """Returns exit code, stdout and stderr of the sweep command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = sweep.main(["hpjax.sweep", *arguments])
    return code, out.getvalue(), err.getvalue()


def swept(folder: Path, vary: tuple[str, ...], **settings: Any) -> Path:
    """Trains a study; returns its folder."""
    code, _, err = run(*words(vary, study=folder, **settings))
    assert (code, err) == (0, "")
    return folder


def table(folder: Path, without: tuple[str, ...] = ("seconds",)) -> list[dict[str, str]]:
    """Returns trials.csv, row by row, without what depends on the clock."""
    with (folder / "trials.csv").open(newline="") as file:
        return [{name: cell for name, cell in row.items() if name not in without} for row in csv.DictReader(file)]


def metadata(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metadata.json").read_text())


def same(one: float, other: float) -> bool:
    """Returns whether two numbers have the same bits."""
    return np.float64(one).tobytes() == np.float64(other).tobytes()


# A whole study, as a person starts it.

VARY = ("learning_rate=log(1e-3,1e-1)", "schedule=choice(cosine,plateau)", "seed=range(2)")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of a study that the command itself has made, and what it said."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    command = [sys.executable, "-W", "error", "-m", "hpjax.sweep", *words(VARY, study=folder, trials=8, tensorboard="true")]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    return folder, done


def test_the_command_trains_a_study(whole):
    folder, done = whole
    assert (done.returncode, done.stderr) == (0, "")
    best = load_study(folder).best
    assert done.stdout.startswith(f"best of 4 settings: setting {best.setting}, best val/accuracy {best.value:.4g}")
    assert "8 trials: 8 done" in done.stdout
    assert "warning" not in done.stdout
    names = {path.name for path in folder.iterdir()}
    expected = {
        "flags.txt",
        "metadata.json",
        "study.journal",
        "trials.csv",
        "best.flags",
        "end.json",
        "pictures",
        "tb",
        "params",
    }
    assert names - {".lock", "checkpoints"} == expected
    pictures = {path.name for path in (folder / "pictures").iterdir()}
    assert {"against_learning_rate.png", "curves.png"} <= pictures
    facts = metadata(folder)
    assert (facts["status"], facts["trials"], facts["repeats"]) == ("done", 8, True)


def test_the_table_is_the_journal(whole):
    folder, _ = whole
    records, rows = replay.read(folder / "study.journal"), table(folder)
    assert [record.number for record in records] == [int(row["number"]) for row in rows] == list(range(8))
    for record, row in zip(records, rows, strict=True):
        assert row["status"] == record.status == "done"
        assert int(row["setting"]) == record.setting
        assert same(float(row["learning_rate"]), record.values["learning_rate"])
        assert (row["schedule"], int(row["seed"])) == (record.values["schedule"], record.values["seed"])
        assert [measured.step for measured in record.curve] == [8, 16, 24]
        for name, value in record.curve[-1].numbers.items():
            assert same(float(row[name]), value)
        values = [measured.value for measured in record.curve]
        assert same(float(row["objective"]), max(values))
        assert int(row["best_step"]) == record.curve[values.index(max(values))].step


def test_optuna_opens_the_journal(whole):
    folder, _ = whole
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
    study = optuna.load_study(study_name=folder.name, storage=optuna.storages.JournalStorage(backend))
    rows = table(folder)
    assert len(study.trials) == len(rows)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    for trial, row in zip(study.trials, rows, strict=True):
        assert trial.state == optuna.trial.TrialState.COMPLETE
        assert same(trial.value, float(row["objective"]))
        assert math.isclose(trial.params["learning_rate"], float(row["learning_rate"]), rel_tol=1e-12)
        assert trial.params["schedule"] == row["schedule"]
        assert same(trial.intermediate_values[24], float(row["val/accuracy"]))
    assert same(study.best_value, max(float(row["objective"]) for row in rows))


def test_tensorboard_has_a_session_for_every_trial(whole):
    folder, _ = whole
    groups: dict[str, list[str]] = {}
    for trial in sorted((folder / "tb" / "trials").iterdir()):
        (path,) = trial.iterdir()
        values = [value for event in LegacyEventFileLoader(str(path)).Load() for value in event.summary.value]
        start = next(value for value in values if value.tag == "_hparams_/session_start_info")
        content = plugin_data_pb2.HParamsPluginData.FromString(start.metadata.plugin_data.content)
        info = content.session_start_info
        groups.setdefault(info.group_name, []).append(trial.name)
        row = table(folder)[int(trial.name)]
        assert math.isclose(info.hparams["learning_rate"].number_value, float(row["learning_rate"]), rel_tol=1e-12)
        assert info.hparams["schedule"].string_value == row["schedule"]
        objective = [value.simple_value for value in values if value.tag == "objective"]
        assert objective == [np.float32(row["objective"])]
    assert list(groups.values()) == [["00000", "00001"], ["00002", "00003"], ["00004", "00005"], ["00006", "00007"]]


def test_the_same_command_again_shows_the_finished_study(whole, monkeypatch):
    folder, done = whole
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}
    monkeypatch.setattr("hpjax.study.runner.train", lambda *args, **kwargs: pytest.fail("trained again"))
    assert run(*words(VARY, study=folder, trials=8, tensorboard="true")) == (0, done.stdout, "")
    after = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}
    assert after == before


def test_the_flags_of_a_study_repeat_it(whole, tmp_path):
    folder, _ = whole
    assert run(f"--flagfile={folder / 'flags.txt'}", f"--study={tmp_path / 'again'}", "--noprogress")[0] == 0
    assert table(tmp_path / "again") == table(folder)
    assert (tmp_path / "again" / "best.flags").read_text() == (folder / "best.flags").read_text()
    assert metadata(tmp_path / "again")["best"] == metadata(folder)["best"]


# The winner, trained by itself.


def repeated(folder: Path, run_dir: Path) -> None:
    """Trains best.flags as a single run; asserts that it gives every number of the study's trial."""
    assert train.main(["hpjax.train", f"--flagfile={folder / 'best.flags'}", f"--run_dir={run_dir}", "--noprogress"]) == 0
    study = load_study(folder)
    facts, single = metadata(folder), metadata(run_dir)
    record: TrialRecord = study.records[facts["best"]["trial"]]
    points = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for measured in record.curve:
        for name, value in measured.numbers.items():
            logged = [one[name] for one in points if one["step"] == measured.step and name in one]
            assert len(logged) == (name.startswith("val/") or measured.step % 8 == 0), (name, measured.step)
            assert all(same(one, value) for one in logged), (name, measured.step)
    best = (max if study.objective.maximise else min)(measured.value for measured in record.curve)
    assert same(single["best"]["value"], best)
    assert facts["repeats"] is True
    assert single["test"] == facts["test"]


KINDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "plateau and folds": (
        ("learning_rate=choice(0.02,0.05)",),
        {"schedule": "plateau", "plateau_patience": "0", "eval_every": "3", "folds": "3"},
    ),
    "ema and dropout, by loss": (
        ("dropout_rate=choice(0.1,0.4)",),
        {"objective": "val/loss:min", "optimizer": "adamw", "learning_rate": "0.01", "ema_decay": "0.9"},
    ),
    "small batch": (("batch_size=choice(32,64,96)",), {"learning_rate": "0.01", "dropout_rate": "0.2", "warmup": "10%"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_winner_is_a_single_run_bit_for_bit(kind, tmp_path):
    vary, settings = KINDS[kind]
    folder = swept(tmp_path / "study", vary, sampler="grid", lanes="2", trials=6, **settings)
    repeated(folder, tmp_path / "run")
    if kind == "small batch":
        assert load_study(folder).best.values == {"batch_size": 32}


def test_the_winner_of_the_command_is_a_single_run(whole, tmp_path):
    repeated(whole[0], tmp_path / "run")


# Diverged trials, other data, other objectives.


def test_a_trial_that_diverges_is_a_result(tmp_path):
    vary = ("learning_rate=choice(0.1,1e20,1e30)", "seed=range(2)")
    code, out, _ = run(*words(vary, study=tmp_path / "study", optimizer="sgd", sampler="grid", trials=6, lanes=2))
    assert code == 0
    assert "6 trials: 2 done, 4 diverged" in out
    rows = table(tmp_path / "study")
    assert [row["status"] for row in rows] == ["done"] * 2 + ["diverged"] * 4
    assert [row["objective"] for row in rows[2:]] == ["nan"] * 4
    assert all(int(row["diverged_at"]) < 24 for row in rows[2:])
    assert [row["diverged_at"] for row in rows[:2]] == ["", ""]
    assert load_study(tmp_path / "study").best.values == {"learning_rate": 0.1}


@pytest.mark.parametrize("scheduler", ["none", "asha_promotion"])
def test_a_study_of_which_nothing_is_left(scheduler, tmp_path):
    study = words(
        ("learning_rate=log(1e30,1e37)",), study=tmp_path / "study", trials=4, optimizer="sgd", scheduler=scheduler
    )
    code, out, err = run(*study, "--lanes=2")
    assert (code, err) == (1, "")
    assert out.startswith("no setting has a value: every trial diverged or was not evaluated\n4 trials: 4 diverged;")
    assert not (tmp_path / "study" / "best.flags").exists()
    assert metadata(tmp_path / "study")["best"] is None
    assert run(*study, "--lanes=2") == (1, out, "")


def smoothed(values: list[float]) -> float:
    """The mean of the last five."""
    return math.fsum(values[-5:]) / len(values[-5:])


OTHERS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "regression": (("learning_rate=log(1e-3,1e-1)",), {"dataset": "diabetes", "optimizer": "adam", "metrics": "r2"}),
    "groups": (
        ("optimizer=choice(sgd,adam)", "hidden_sizes=choice('16','32')", "learning_rate=log(1e-3,1e-1)", "seed=range(2)"),
        {"scheduler": "asha", "aggregate": "median", "trials": "16"},
    ),
    "smoothed": (
        ("learning_rate=log(1e-3,1e-1)",),
        {"objective": "train/loss:min", "objective_value": "smoothed", "eval_every": "3"},
    ),
    "last": (("learning_rate=log(1e-3,1)", "seed=range(3)"), {"objective_value": "last", "aggregate": "median"}),
    "early stopping": (
        ("learning_rate=log(1e-5,1e-1)",),
        {"early_stopping_patience": "1", "early_stopping_min_delta": "0.02", "eval_every": "3"},
    ),
}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow if kind == "groups" else ()) for kind in OTHERS])
def test_studies_of_other_kinds(kind, tmp_path):
    vary, settings = OTHERS[kind]
    folder = swept(tmp_path / "study", vary, **{"lanes": "4", "trials": "6", **settings})
    study = load_study(folder)
    best = max if study.objective.maximise else min
    of_run = {"best": best, "last": lambda values: values[-1], "smoothed": smoothed}[study.objective.value]
    values: dict[int, list[float]] = {}
    for record, row in zip(study.records, table(folder), strict=True):
        assert math.isclose(float(row["objective"]), of_run([m.value for m in record.curve]), rel_tol=1e-12)
        values.setdefault(record.setting, []).append(record.objective)
    whole = {record.setting for record in study.records if record.status == "done"}
    whole -= {record.setting for record in study.records if record.status != "done"}
    aggregate = {"mean": np.mean, "median": np.median}[study.settings.aggregate]
    assert math.isclose(study.best.value, best(aggregate(values[setting]) for setting in whole), rel_tol=1e-12)
    assert not (folder / "tb").exists()
    if kind == "early stopping":
        assert min(record.curve[-1].step for record in study.records) < 24
    if kind == "groups":
        assert {record.status for record in study.records} == {"done", "stopped"}
    repeated(folder, tmp_path / "run")


def test_a_text_is_swept(tmp_path):
    (tmp_path / "input.txt").write_text("the quick brown fox jumps over the lazy dog. " * 200)
    settings = {"dataset": "text", "text_file": tmp_path / "input.txt", "model": "transformer", "context_length": "8"}
    settings |= {"width": "16", "depth": "1", "heads": "2", "eval_batch_size": "32", "batch_size": "8"}
    given = [word for word in words(("learning_rate=choice(0.003,0.01)",), **settings) if "hidden_sizes" not in word]
    given = [word for word in given if "test_fraction" not in word]
    code, out, err = run(*given, f"--study={tmp_path / 'study'}", "--sampler=grid", "--optimizer=adamw", "--lanes=2")
    assert (code, err) == (0, "")
    assert "best val/loss" in out
    repeated(tmp_path / "study", tmp_path / "run")
