"""Runs of several real processes on loopback: trained, killed, resumed, stopped, refused."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest

import hpjax
import whole_runs as runs
from many_processes import SETTINGS, finish, saved, together
from whole_runs import ROOT

pytestmark = pytest.mark.xdist_group("processes")

LOST, STEPS = 3, int(SETTINGS["train_steps"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("cache")
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, cache: dict[str, str]) -> Path:
    """What two undisturbed processes leave."""
    folder = tmp_path_factory.mktemp("reference") / "two"
    finish(2, folder, cache)
    return folder


def relative(actual: Path, expected: Path, tick: int) -> float:
    """How far the parameters of two runs' checkpoints are apart, relative to their size."""
    flat = []
    for folder in (actual, expected):
        arrays = runs.arrays(folder)
        names = [name for name in sorted(arrays) if name.startswith(f"{tick}['params']")]
        flat.append(np.concatenate([np.frombuffer(arrays[name][2], np.float32) for name in names]).astype(np.float64))
    assert flat[0].size > 1000
    return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))


def test_two_processes_see_what_one_sees(two: Path, tmp_path: Path) -> None:
    """The same examples in the same order: the curves differ by rounding from those of one process with two devices."""
    result = hpjax.run(runs.config(tmp_path / "one", **{**SETTINGS, "devices": "2"}))
    assert result.status == "done"
    together_, alone = runs.lines(two), runs.lines(tmp_path / "one")
    assert [line["step"] for line in together_] == [line["step"] for line in alone]
    for mine, other in zip(together_, alone, strict=True):
        assert mine.keys() == other.keys()
        for name in mine:
            # Accuracies and losses of a few hundred examples, after up to 120 ticks.
            assert mine[name] == pytest.approx(other[name], rel=2e-3, abs=2e-3), (name, mine["step"])
    distance = relative(two, tmp_path / "one", 2 * STEPS)
    print(f"after {2 * STEPS} ticks the parameters are {distance:.2g} from those of one process")
    assert distance < 1e-5
    facts = runs.metadata(two)
    assert facts["identity"]["processes"] == 2 and facts["identity"]["data_devices"] == 2
    assert len(facts["devices"]) == 2
    # One log, one event file, one summary.
    assert len(list((two / "tb").iterdir())) == 1


COUNTING = """
# A model whose parameters count how often each example was seen: the gradient of example i's loss is 1 at i.
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from hpjax.data import Dataset, task

@task("regression")
def data():
    x = np.arange(480, dtype=np.float32)[:, None]
    splits = {"train": (0, 384), "val": (384, 64), "test": (448, 32)}
    return Dataset("numbered", x, np.zeros((480, 1), np.float32), splits, 0, task="regression")

class Counter(nn.Module):
    outputs: int
    @nn.compact
    def __call__(self, x, training=None):
        seen = self.param("seen", nn.initializers.zeros_init(), (480, 1))
        return seen[x[:, 0].astype(jnp.int32)]

def first_output(outputs, targets):
    return outputs[:, 0]
"""


def test_no_example_twice_and_none_lost(tmp_path: Path, cache: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three epochs shows each example once, over the processes, in one process's order: gradients count them."""
    (tmp_path / "counting.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(tmp_path)
    settings = {
        **{"dataset": "counting:data", "model": "counting:Counter", "loss": "counting:first_output", "metrics": ()},
        **{"optimizer": "sgd", "schedule": "constant", "learning_rate": 32.0, "batch_size": 32, "micro_batch_size": 16},
        **{"train_steps": "3epochs", "eval_every": "3epochs", "checkpoint_every": "3", "keep_newest": 20},
        **{"hidden_sizes": "", "dropout_rate": ""},
    }
    finish(2, tmp_path / "two", {**cache, "PYTHONPATH": f"{ROOT}:{tmp_path}"}, **settings)
    hpjax.run(
        runs.config(tmp_path / "one", **{**SETTINGS, **settings, "hidden_sizes": None, "dropout_rate": None, "devices": "1"})
    )
    seen = {}
    for name in ("two", "one"):
        arrays = runs.arrays(tmp_path / name)
        seen[name] = {tick: -np.frombuffer(arrays[f"{tick}['params']['seen']"][2], np.float32) for tick in range(6, 78, 6)}
    for tick in seen["two"]:
        # Of every three steps the same examples.
        np.testing.assert_array_equal(seen["two"][tick], seen["one"][tick])
        # So many have been seen once more than the others, none twice.
        count = tick * 16
        assert np.bincount(seen["two"][tick][:384].astype(int), minlength=4)[-(-count // 384)] == (count - 1) % 384 + 1
    for epoch in (1, 2, 3):
        np.testing.assert_array_equal(seen["two"][epoch * 24], [epoch] * 384 + [0] * 96)


def test_one_of_two_is_killed_then_the_other_and_the_run_ends_alike(
    two: Path, tmp_path: Path, cache: dict[str, str]
) -> None:
    folder = tmp_path / "two"
    with together(2, folder, pause=0.05, environment=cache) as run:
        run.until_saved()
        run.processes[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        assert run.wait(30) == [LOST, -signal.SIGKILL], run.said()
        assert time.monotonic() - killed < 10
        assert "process 1 of 2 (" in run.said(0) and "was lost; the same command goes on" in run.said(0)
        assert "Traceback" not in run.said(0)
    facts = runs.metadata(folder)
    assert facts["status"] == "failed" and facts["error"].startswith("process 1 of 2 (")
    before = max(saved(folder))
    with together(2, folder, pause=0.05, environment=cache) as run:
        run.until_saved()
        run.processes[0].send_signal(signal.SIGKILL)
        assert run.wait(30) == [-signal.SIGKILL, LOST], run.said()
        assert "process 0 of 2 (" in run.said(1) and "was lost" in run.said(1)
        assert f"resumed at step {before // 2} of {STEPS}" in run.said(0)
    finish(2, folder, cache)
    runs.assert_same(folder, two)


def test_sigterm_on_any_one_process_saves_all_at_the_same_step(two: Path, tmp_path: Path, cache: dict[str, str]) -> None:
    folder = tmp_path / "two"
    with together(2, folder, pause=0.05, environment=cache) as run:
        run.until_saved()
        run.processes[1].send_signal(signal.SIGTERM)
        assert run.wait(60) == [143, 143], run.said()
        facts = runs.metadata(folder)
        assert facts["status"] == "preempted"
        assert f"preempted at step {facts['step']} of {STEPS}; the same command goes on" in run.said(0)
        assert max(saved(folder)) // 2 == facts["step"] < STEPS
    # The launcher starts both, and gives what they end with.
    flags = runs.flags(folder, **{**SETTINGS, "num_processes": 2})
    code = "import sys; from hpjax import launch; sys.exit(launch.main(['launch', *sys.argv[1:]]))"
    launched = runs.start(flags, tmp_path / "output", code, JAX_NUM_CPU_DEVICES="1", **cache)
    assert launched.wait(200) == 0, (tmp_path / "output").read_text()
    assert f"resumed at step {facts['step']} of {STEPS}" in (tmp_path / "output").read_text()
    runs.assert_same(folder, two)


def test_four_processes_killed_at_once_go_on_as_four_as_two_and_on_eight_devices(
    two: Path, tmp_path: Path, cache: dict[str, str]
) -> None:
    folder = tmp_path / "elastic"
    # The optimizer's state shared out as well: a checkpoint holds it whole, and it fits any number.
    out = {"shard_optimizer_state": True}
    with together(4, folder, pause=0.05, environment=cache, **out) as run:
        run.until_saved()
        run.until(lambda: runs.lines(folder)[-1]["step"] > max(saved(folder)) // 2)
        run.kill()
    before, done = runs.lines(folder), max(saved(folder)) // 2
    with together(4, folder, pause=0.05, environment=cache, **out) as run:
        run.until_saved()
        run.processes[3].send_signal(signal.SIGTERM)
        assert run.wait(60) == [143] * 4, run.said()
        assert f"resumed at step {done} of {STEPS}" in run.said(0) and "begun elsewhere" not in run.said()
    # What the killed processes had done after their checkpoint came again, bit for bit.
    assert before[-1]["step"] > done
    assert runs.lines(folder)[: len(before)] == before
    with together(2, folder, pause=0.15, environment=cache, **out) as run:
        run.until_saved()
        run.processes[0].send_signal(signal.SIGTERM)
        assert run.wait(60) == [143] * 2, run.said()
        assert "this run was begun elsewhere (data_devices 4 -> 2; processes 4 -> 2): from here on its" in run.said(0)
        assert "begun elsewhere" not in run.said(1)
    # One process with eight devices: this one.
    result = hpjax.run(runs.config(folder, **{**SETTINGS, **out, "devices": "8"}))
    assert result.status == "done" and runs.metadata(folder)["step"] == STEPS
    assert runs.metadata(folder)["identity"]["data_devices"] == 8
    distance = relative(folder, two, 2 * STEPS)
    print(f"after {2 * STEPS} ticks on 4, 2 and 8 devices the parameters are {distance:.2g} from those of two")
    assert distance < 1e-5


def test_what_one_process_cannot_do_ends_all_with_one_line(tmp_path: Path) -> None:
    """Bad input in all of them, in one of them, or between them: exit code 2 everywhere, nothing left behind."""
    for settings, message in (
        ({"micro_batch_size": 64, "batch_size": 64, "eval_batch_size": 63}, "eval_batch_size is 63; expected a multiple of"),
        ({"devices": "3"}, "devices is 3; expected a multiple of num_processes, 2"),
        ({"parallel": "pmap"}, "parallel is pmap; expected shard_map for a run of 2 processes"),
    ):
        started = time.monotonic()
        with together(2, tmp_path / "bad", **settings) as run:
            assert run.wait(60) == [2, 2], run.said()
            assert time.monotonic() - started < 60
            for id_ in range(2):
                lines = [line for line in run.said(id_).splitlines() if "[Gloo]" not in line]
                assert len(lines) == 1 and message in lines[0], run.said()
        assert not (tmp_path / "bad").exists()


def test_processes_with_other_flags_or_without_the_data_end_all(tmp_path: Path) -> None:
    for second, message in (
        ({"learning_rate": 0.02}, "learning_rate is 0.02 in process 1, 0.01 in process 0; expected the same in all"),
        ({"dataset": "npz", "data_file": "/nowhere.npz"}, "/nowhere.npz"),
    ):
        with together(2, tmp_path / "bad", only={1: second}) as run:
            assert run.wait(60) == [2, 2], run.said()
            for id_ in range(2):
                lines = [line for line in run.said(id_).splitlines() if "[Gloo]" not in line]
                assert len(lines) == 1 and message in lines[0], run.said()
        assert not (tmp_path / "bad").exists()
