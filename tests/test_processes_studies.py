"""Studies whose lanes are spread over several real processes: equal to one process's, killed, stopped, extended, refused."""

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpjax import Config, Search, train
from hpjax.errors import ConfigError
from hpjax.study import checks
from hpjax.study.records import ENDED
from hpjax.study.study import load_study
from many_processes import finish, saved, together
from test_sweep import metadata, run, same, words
from test_sweep_resume import outcome

pytestmark = pytest.mark.xdist_group("processes")

LOST = 3
VARY = ("learning_rate=log(1e-3,1e30)", "batch_size=choice(32,64)", "seed=range(2)")
STUDY: dict[str, Any] = {
    "train_steps": "18",
    "eval_every": "3",
    "optimizer": "momentum",
    "dropout_rate": "0.1",
    "trials": 24,
    "lanes": "4",
    "keep_best": "3",
    "scheduler": "asha_promotion",
    "tensorboard": "true",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("cache")
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one undisturbed process with two devices leaves."""
    folder = tmp_path_factory.mktemp("reference") / "study"
    assert run(*words(VARY, study=folder, **STUDY))[0] == 0
    return folder


def assert_same(folder: Path, reference: Path) -> None:
    found, expected = outcome(folder), outcome(reference)
    for name, value in expected.items():
        assert found[name] == value, f"{name} of {folder.name} differs from {reference.name}"


def test_one_of_two_is_killed_one_is_stopped_and_one_process_ends_it_alike(
    one: Path, tmp_path: Path, cache: dict[str, str], rng: np.random.Generator
) -> None:
    folder = tmp_path / "study"
    lost = int(rng.integers(2))
    checkpoint = int(rng.integers(1, 3))
    with together(2, folder, pause=0.1, environment=cache, vary=VARY, **STUDY) as study:
        study.until(lambda: max(saved(folder), default=0) >= checkpoint)
        study.processes[lost].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        assert sorted(study.wait(30)) == [-signal.SIGKILL, LOST], study.said()
        assert time.monotonic() - killed < 10
        said = study.said(1 - lost)
        assert f"process {lost} of 2 (" in said and "was lost; the same command goes on" in said and "Traceback" not in said
    if lost == 1:
        assert metadata(folder)["status"] == "failed" and metadata(folder)["error"].startswith("process 1 of 2 (")
    with together(2, folder, pause=0.1, environment=cache, vary=VARY, **{**STUDY, "progress": "true"}) as study:
        study.until(lambda: "resumed with" in study.said(0))
        before = max(saved(folder))
        study.until(lambda: max(saved(folder), default=0) > before)
        study.processes[1].send_signal(signal.SIGTERM)
        assert study.wait(60) == [143, 143], study.said()
        assert "preempted with" in study.said(0) and "preempted" not in study.said(1)
    assert metadata(folder)["status"] == "preempted"
    assert 0 < sum(record.status in ENDED for record in load_study(folder).records) < STUDY["trials"]
    # Another number of processes: this one.
    assert run(*words(VARY, study=folder, **STUDY))[0] == 0
    assert metadata(folder)["identity"] == metadata(one)["identity"]
    assert_same(folder, one)


def test_two_processes_make_a_study_longer_as_one_does_and_end_it(one: Path, tmp_path: Path, cache: dict[str, str]) -> None:
    """From what one left to the end: the winner is trained again, the test split read, all files are process 0's."""
    more = {**STUDY, "trials": 32, "extend": "true"}
    for name in ("alone", "two"):
        shutil.copytree(one, tmp_path / name)
    assert run(*words(VARY, study=tmp_path / "alone", **more))[0] == 0
    longer = finish(2, tmp_path / "two", cache, vary=VARY, **more)
    assert_same(tmp_path / "two", tmp_path / "alone")
    assert metadata(tmp_path / "two")["repeats"] is True and "test/accuracy" in metadata(tmp_path / "two")["test"]
    assert "best of 16 settings" in longer.said(0) and "best of" not in longer.said(1)
    best = f"--flagfile={tmp_path / 'two' / 'best.flags'}"
    assert train.main(["hpjax.train", best, f"--run_dir={tmp_path / 'run'}", "--noprogress", "--notensorboard"]) == 0
    record = load_study(tmp_path / "two").records[metadata(tmp_path / "two")["best"]["trial"]]
    assert same(metadata(tmp_path / "run")["best"]["value"], record.objective)


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ({}, "lanes is 2; expected a multiple of 4: lane_width 1, 2 waves, 2 for 2 processes"),
        ({"trials": 32}, "trials is 32 in process 1, 24 in process 0; expected the same in all"),
    ],
)
def test_bad_input_ends_all_processes_with_one_line(only: dict[str, Any], message: str, tmp_path: Path) -> None:
    study = {**STUDY, **({} if only else {"lanes": "2"})}
    with together(2, tmp_path / "bad", only={1: only}, vary=VARY, **study) as bad:
        assert bad.wait(60) == [2, 2], bad.said()
        for id_ in range(2):
            lines = [line for line in bad.said(id_).splitlines() if "[Gloo]" not in line]
            assert len(lines) == 1 and message in lines[0], bad.said()
    assert not (tmp_path / "bad").exists()


def test_what_runs_in_one_process_refuses_several(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^process_id is 1, but a recipe runs in one process: expected none$"):
        checks.check_alone(Config(process_id=1), "a recipe")
    for name, value in {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigError, match=r"^Open MPI started 2 processes, but a search of one's own runs in one: expected one$"
    ):
        Search(Config(), {"learning_rate": "log(1e-3,1)"})
    checks.check_alone(Config(num_processes=1), "a recipe")
