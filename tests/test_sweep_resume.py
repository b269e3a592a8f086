"""A study that is killed, at any moment and any number of times, ends like one that was left alone."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

import whole_runs as runs
from hpjax.checkpoints import UNFINISHED
from hpjax.study import kept, replay, runner
from test_sweep import metadata, run, table, words

# Many checkpoints, and a pause at every look, so that a study of a second is long enough to be killed in.
SLOWLY = """
import sys, time
from hpjax import sweep
from hpjax.study import runner
runner.FIRST_SAVE, runner.SAVE_EVERY, runner.SAVE_SHARE = 0.02, 0.02, 1.0
write = runner.Writer.write
runner.Writer.write = lambda self, changed: (time.sleep(0.03), write(self, changed))
sys.exit(sweep.main(["hpjax.sweep", *sys.argv[1:]]))
"""

VARY = ("learning_rate=log(1e-3,1e30)", "batch_size=choice(32,64)", "seed=range(2)")
STUDY: dict[str, Any] = {
    "train_steps": "27",
    "eval_every": "3",
    "optimizer": "sgd",
    "trials": 48,
    "lanes": "4",
    "keep_best": "3",
    "tensorboard": "true",
    "progress": "true",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The subprocesses' compile cache: what the first compiles the others load."""
    folder = tmp_path_factory.mktemp("cache")
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen]]:
    """Processes that a failing test must not leave behind."""
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def outcome(folder: Path) -> dict[str, Any]:
    """All that must be equal between a study that was disturbed and one that was not."""
    facts = metadata(folder)
    records = replay.read(folder / "study.journal")
    return {
        "table": table(folder),
        "records": [repr({**vars(record), "began": None, "ended": None}) for record in records],
        "best.flags": (folder / "best.flags").read_text(),
        "facts": {
            name: facts[name] for name in ("status", "best", "edges", "repeats", "test", "occupancy", "late", "steps")
        },
        "params": {
            number: [leaf.tobytes() for leaf in jax.tree.leaves(kept.read(folder / "params", number))]
            for number in facts["kept"]
        },
        "sessions": sorted(path.name for path in (folder / "tb" / "trials").iterdir()),
        "pictures": sorted(path.name for path in (folder / "pictures").iterdir()),
    }


def started(folder: Path, output: Path, cache: dict[str, str], processes: list, scheduler: str) -> subprocess.Popen:
    process = runs.start(words(VARY, study=folder, **STUDY, scheduler=scheduler), output, SLOWLY, **cache)
    processes.append(process)
    return process


def checkpoints(folder: Path) -> set[str]:
    """The checkpoints, those that are being made included."""
    return {path.name for path in (folder / "checkpoints").glob("*")}


def await_change(folder: Path, process: subprocess.Popen, times: int) -> bool:
    """Waits until the checkpoints have changed so many times; False if the process ended before."""
    deadline, before = time.monotonic() + 120, checkpoints(folder)
    while times:
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.0005)
        now = checkpoints(folder)
        times, before = times - (now != before), now
    return True


@pytest.mark.parametrize(
    "scheduler",
    ["asha_promotion", pytest.param("none", marks=pytest.mark.slow), pytest.param("asha", marks=pytest.mark.slow)],
)
def test_killed_and_preempted_at_random_moments(scheduler, tmp_path, cache, processes, rng):
    undisturbed, folder, output = tmp_path / "undisturbed", tmp_path / "study", tmp_path / "output"
    # In this process: other devices, the same lanes.
    settings = {**STUDY, "progress": "false"}
    assert run(*words(VARY, study=undisturbed, **settings, scheduler=scheduler))[0] == 0

    process = started(folder, output, cache, processes, scheduler)
    assert await_change(folder, process, int(rng.integers(1, 12)))
    time.sleep(rng.uniform(0, 0.1))
    process.kill()
    assert process.wait() == -signal.SIGKILL, output.read_text()

    process = started(folder, output, cache, processes, scheduler)
    assert await_change(folder, process, int(rng.integers(1, 6)))
    process.terminate()
    assert process.wait(60) == 143, output.read_text()
    assert metadata(folder)["status"] == "preempted"
    assert "the same command goes on" in output.read_text()

    # Both may have been ended before their first checkpoint was whole.
    saved = any(not name.endswith(UNFINISHED) for name in checkpoints(folder))
    process = started(folder, output, cache, processes, scheduler)
    assert process.wait(120) == 0, output.read_text()
    assert ("resumed with" in output.read_text()) == saved
    found, expected = outcome(folder), outcome(undisturbed)
    for name, value in expected.items():
        assert found[name] == value, f"{name} differs\n{output.read_text()}"


def test_a_study_killed_at_any_second_has_lost_no_more_than_half_of_its_time() -> None:
    saved, saves = 0.0, []
    for now in (i / 100 for i in range(1, 6001)):
        if now - saved > runner._pause(now, 0.05):
            saved = now
            saves.append(now)
        assert now - saved <= min(max(now / 2, 1.0), 10.0) + 0.02
    assert len(saves) < 12
    # A checkpoint that takes 0.3 s is made every 30 s in the end.
    assert runner._pause(100.0, 0.3) == pytest.approx(30.0)
