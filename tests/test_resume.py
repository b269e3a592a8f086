"""A run that is killed, at any moment and any number of times, ends like one that was left alone."""

import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import hpjax
import whole_runs as runs
from hpjax.loop import Loop

KILLS = ["any time"] * 3 + ["save begun"] * 3 + ["state written"] * 2 + ["renamed"] * 2

# Two ticks a step, so that a kill also falls inside a step; both kinds of kept checkpoints change until the end.
LONG = {
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "schedule": "cosine",
    "warmup": "10%",
    "batch_size": 32,
    "micro_batch_size": 16,
    "train_steps": "450",
    "log_every": "6",
    "eval_every": "30",
    "checkpoint_every": "15",
    "keep_best": 2,
}

START = """
import sys, time
from hpjax import checkpoints, loop, train
sys.argv = ["hpjax.train", *sys.argv[1:]]
{patch}
sys.exit(train.main(sys.argv))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The subprocesses' compile cache: what the first compiles the others load, and that must not change a bit."""
    folder = tmp_path_factory.mktemp("cache")
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "undisturbed"
    output = folder.parent / "output"
    before = programs(cache)
    process = runs.start(runs.flags(folder, **LONG), output, **cache)
    assert process.wait(300) == 0, output.read_text()
    assert len(programs(cache) - before) == 3, "init, chunk and evaluate were compiled, not loaded"
    return folder


@pytest.fixture(scope="module")
def undisturbed_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "undisturbed"
    hpjax.run(runs.config(folder))
    return folder


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen]]:
    """Processes that a failing test must not leave behind."""
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 120, pause: float = 0.001) -> bool:
    """Waits until the condition holds; False if the process ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "the process did not get there in time"
        time.sleep(pause)
    return True


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()


def programs(cache: dict[str, str]) -> set[str]:
    """The cache's entries of lane programs."""
    entries = names(Path(cache["JAX_COMPILATION_CACHE_DIR"]))
    return {name for name in entries if name.startswith("jit_sharded") and name.endswith("-cache")}


def await_moment(kind: str, checkpoints: Path, process: subprocess.Popen, rng: np.random.Generator) -> bool:
    """Waits for a moment of the kind; False if the process ended before."""
    if kind == "any time":
        moment = time.monotonic() + rng.uniform(0, 12)
        return wait_for(lambda: time.monotonic() > moment, process)
    for _ in range(1 + rng.integers(0, 4)):
        before = names(checkpoints)
        if kind == "renamed":
            condition = lambda: any(name.isdecimal() for name in names(checkpoints) - before)  # noqa: E731, B023
        elif kind == "save begun":
            condition = lambda: any(name.endswith(".new") for name in names(checkpoints) - before)  # noqa: E731, B023
        else:
            condition = lambda: any("state" in names(checkpoints / n) for n in names(checkpoints) - before)  # noqa: E731, B023
        if not wait_for(condition, process, pause=0.0002):
            return False
    if kind == "save begun":
        time.sleep(rng.uniform(0, 0.1))
    return process.poll() is None


@pytest.mark.slow
def test_a_resumed_run_is_the_same_program(
    tmp_path: Path, undisturbed: Path, cache: dict[str, str], processes: list
) -> None:
    """Promise 2 rests on it: a run that goes on loads init, chunk and evaluate from the cache and compiles no other."""
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run" / "metadata.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "900")
    compiled, output = programs(cache), tmp_path / "output"
    process = runs.start(runs.flags(tmp_path / "run", **LONG), output, **cache)
    processes.append(process)
    assert process.wait(120) == 0, output.read_text()
    assert "resumed at step 4" in output.read_text()
    runs.assert_same(tmp_path / "run", undisturbed)
    assert programs(cache) == compiled


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path, undisturbed: Path, cache: dict[str, str], processes: list) -> None:
    seed = int(os.environ.get("HPJAX_TEST_SEED") or secrets.randbits(32))
    print(f"repeat these moments with HPJAX_TEST_SEED={seed}")
    rng = np.random.default_rng(seed)
    output = tmp_path / "output"
    kinds = list(rng.permutation(KILLS))
    folders, in_a_save = 1, 0
    while kinds:
        folder = tmp_path / f"run{folders}"
        process = runs.start(runs.flags(folder, **LONG), output, **cache)
        processes.append(process)
        if await_moment(kinds[0], folder / "checkpoints", process, rng):
            process.send_signal(signal.SIGKILL)
            if process.wait(30) == -signal.SIGKILL:
                in_a_save += any(name.endswith(".new") for name in names(folder / "checkpoints"))
                print(f"killed: {kinds.pop(0)}; left {sorted(names(folder / 'checkpoints'))}")
                continue
        assert process.wait(120) == 0, output.read_text()
        runs.assert_same(folder, undisturbed)
        folders += 1
    folder = tmp_path / f"run{folders}"
    process = runs.start(runs.flags(folder, **LONG), output, **cache)
    processes.append(process)
    assert process.wait(300) == 0, output.read_text()
    runs.assert_same(folder, undisturbed)
    assert in_a_save >= 2, "too few of the kills fell into a save"


@pytest.mark.slow
def test_sigterm_and_ctrl_c_save_and_the_same_command_goes_on(
    tmp_path: Path, undisturbed: Path, cache: dict[str, str], processes: list
) -> None:
    folder, output = tmp_path / "run", tmp_path / "output"
    steps = [0]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = runs.start(runs.flags(folder, **LONG), output, **cache)
        processes.append(process)
        saved = names(folder / "checkpoints")
        assert wait_for(lambda saved=saved: names(folder / "checkpoints") - saved, process), output.read_text()
        process.send_signal(number)
        assert process.wait(60) == code, output.read_text()
        facts = runs.metadata(folder)
        assert facts["status"] == "preempted"
        assert steps[-1] < facts["step"] < 450
        steps.append(facts["step"])
        assert f"preempted at step {facts['step']} of 450; the same command goes on" in output.read_text()
        # What was reached was saved, not only what was due.
        ticks = [int(name) for name in names(folder / "checkpoints")]
        assert max(ticks) // 2 == facts["step"]
    process = runs.start(runs.flags(folder, **LONG), output, **cache)
    processes.append(process)
    assert process.wait(300) == 0, output.read_text()
    assert f"resumed at step {steps[-1]} of 450" in output.read_text()
    # The checkpoints made by the signals are gone too.
    runs.assert_same(folder, undisturbed)


SLOW_SAVE = "checkpoints.Checkpoints._save = lambda *args: (print('SLOW', flush=True), time.sleep(100))"
SLOW_CHUNK = """
loop.SECONDS_BETWEEN_LOOKS = 1e6
wrapped = loop.Loop._advance
def advance(self, look):
    if self.tick > 0: print('SLOW', flush=True)
    return wrapped(self, look)
loop.Loop._advance = advance
"""
SLOW_COMPILE = """
wrapped = loop.Loop._compile
def compile(self):
    print('SLOW', flush=True); wrapped(self); print('FAST', flush=True)
loop.Loop._compile = compile
"""
LONG_CHUNK = {"train_steps": "20000000", "eval_every": "20000000", "log_every": "20000000", "checkpoint_every": "20000000"}


@pytest.mark.parametrize(
    ("patch", "settings"),
    [
        pytest.param(SLOW_SAVE, {}, id="save"),
        pytest.param(SLOW_CHUNK, LONG_CHUNK, id="chunk"),
        pytest.param(SLOW_COMPILE, {"hidden_sizes": (8,) * 150}, id="compilation"),
    ],
)
def test_a_second_ctrl_c_leaves_at_once(
    tmp_path: Path, cache: dict[str, str], processes: list, patch: str, settings: dict
) -> None:
    output = tmp_path / "output"
    environment = cache if patch != SLOW_COMPILE else {}
    process = runs.start(runs.flags(tmp_path / "run", **settings), output, START.format(patch=patch), **environment)
    processes.append(process)
    assert wait_for(lambda: "SLOW" in output.read_text(), process), output.read_text()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert wait_for(lambda: "once more leaves at once" in output.read_text(), process, 5), output.read_text()
    time.sleep(0.5)
    assert process.poll() is None, "what must be slow for this test was not"
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    assert "FAST" not in output.read_text()
    assert "Traceback" not in output.read_text()


def test_ctrl_c_during_compilation(tmp_path: Path, undisturbed_tiny: Path, processes: list) -> None:
    folder, output = tmp_path / "run", tmp_path / "output"
    process = runs.start(runs.flags(folder), output, START.format(patch=SLOW_COMPILE))
    processes.append(process)
    assert wait_for(lambda: "SLOW" in output.read_text(), process), output.read_text()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, output.read_text()
    assert "Traceback" not in output.read_text()
    facts = runs.metadata(folder)
    assert facts["status"] == "preempted"
    assert facts["step"] == 0
    process = runs.start(runs.flags(folder), output)
    processes.append(process)
    assert process.wait(120) == 0, output.read_text()
    runs.assert_same(folder, undisturbed_tiny)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_from_python_a_signal_ends_the_run_after_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, number: int
) -> None:
    handler = signal.getsignal(number)
    settings = {"train_steps": "60", "checkpoint_every": "20", "eval_every": "20", "log_every": "1"}
    handle, boundaries = Loop._handle, []

    def interrupted(self: Loop, *args: object) -> None:
        handle(self, *args)
        boundaries.append(self.tick)
        if len(boundaries) == 43:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_handle", interrupted)
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as caught:
            hpjax.run(runs.config(tmp_path / "run", **settings))
    if number == signal.SIGTERM:
        assert caught.value.code == 143
    assert signal.getsignal(number) is handler
    assert "the run is saved first" in capsys.readouterr().err
    facts = runs.metadata(tmp_path / "run")
    assert facts["status"] == "preempted"
    assert 43 <= facts["step"] <= 45
    # Beside what was due, the step that was reached; when the run goes on it does not take the place of 40.
    assert names(tmp_path / "run" / "checkpoints") >= {"20", "40", str(facts["step"])}
    assert runs.lines(tmp_path / "run")[-1]["step"] == facts["step"]

    hpjax.run(runs.config(tmp_path / "run", **settings))
    hpjax.run(runs.config(tmp_path / "undisturbed", **settings))
    runs.assert_same(tmp_path / "run", tmp_path / "undisturbed")


def test_outside_the_main_thread_a_run_trains_and_leaves_signals_alone(tmp_path: Path) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(hpjax.run(runs.config(tmp_path / "run"))))
    thread.start()
    thread.join()
    assert results[0].status == "done"


def test_killed_between_the_last_checkpoint_and_the_result(
    tmp_path: Path, undisturbed_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: object, **changes: object) -> None:
        if changes["status"] == "done":
            raise Killed
        update(self, **changes)

    update = hpjax.runner.RunFolder.update_metadata
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(hpjax.runner.RunFolder, "update_metadata", killed)
        hpjax.run(runs.config(tmp_path / "run"))
    assert any("test/loss" in line for line in runs.lines(tmp_path / "run"))
    assert runs.metadata(tmp_path / "run")["status"] == "running"
    # The test split's numbers are already in the logs: they must be there once.
    hpjax.run(runs.config(tmp_path / "run"))
    runs.assert_same(tmp_path / "run", undisturbed_tiny)


def test_killed_before_the_first_checkpoint(tmp_path: Path, undisturbed_tiny: Path) -> None:
    shutil.copytree(undisturbed_tiny, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints" / "5.new" / "state").mkdir(parents=True)
    (tmp_path / "run" / "metadata.json").unlink()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "train/lo')
    hpjax.run(runs.config(tmp_path / "run"))
    runs.assert_same(tmp_path / "run", undisturbed_tiny)
