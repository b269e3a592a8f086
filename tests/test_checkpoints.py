"""Which checkpoints are kept, that they come back as they were, and that damage is noticed, said and survived."""

import errno
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import hpjax
import whole_runs as runs
from hpjax import build, resolve
from hpjax import checkpoints as checkpoints_module
from hpjax.checkpoints import Checkpoints, damage, read
from hpjax.errors import RunFolderError
from hpjax.loop import Loop

STATE = {"params": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, "tick": np.int32(7)}
NONE = -math.inf


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 steps; the best evaluation, 20 steps, is not among the newest checkpoints."""
    folder = tmp_path_factory.mktemp("reference") / "undisturbed"
    hpjax.run(runs.config(folder, **SETTINGS))
    assert runs.metadata(folder)["best"]["step"] == 20
    assert kept(folder) == [20, 35, 40]
    return folder


SETTINGS = {"learning_rate": 0.1, "schedule": "step", "step_size": "20", "gamma": 30.0}


def kept(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def stopped(folder: Path, undisturbed: Path) -> Path:
    """Makes a copy of the run that looks as if it was killed right after the last checkpoint."""
    shutil.copytree(undisturbed, folder)
    facts = {**runs.metadata(folder), "status": "running"}
    (folder / "metadata.json").write_text(json.dumps(facts))
    return folder


# Which are kept.


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([NONE, NONE, NONE, NONE], [3, 4], id="no score: the newest"),
        pytest.param([3.0, 9.0, 5.0, 4.0, 4.0], [2, 4, 5], id="the best and the newest"),
        pytest.param([9.0, 9.0, 5.0, 4.0], [1, 3, 4], id="a tie: the earlier"),
        pytest.param([1.0, math.nan, 0.5, 0.5], [1, 3, 4], id="NaN is never the best"),
        pytest.param([math.nan, math.nan, math.nan], [2, 3], id="NaN alone is not the best either"),
        pytest.param([NONE, -1e30, NONE, NONE], [2, 3, 4], id="the lowest score is better than none"),
    ],
)
def test_newest_two_and_best_are_kept(tmp_path: Path, scores: list[float], expected: list[int]) -> None:
    checkpoints = Checkpoints(tmp_path, keep_newest=2, keep_best=1)
    for tick, score in enumerate(scores, 1):
        checkpoints.save(tick, STATE, {}, score)
    assert checkpoints.ticks() == expected
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(tick) for tick in expected]


def test_what_is_kept_against_the_definition(tmp_path: Path, rng: np.random.Generator) -> None:
    """Random scores, many of them tied, opened anew in between.

    Kept are the newest N, the last whatever it is, what was the best when each of those was made, and the best N.
    """
    newest, best = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    checkpoints = Checkpoints(tmp_path, newest, best)
    saved: list[tuple[int, float, bool]] = []
    kept: set[int] = set()
    best_then: dict[int, set[int]] = {}
    for tick in range(3, 75, 3):
        score, regular = float(rng.choice([math.nan, NONE, 0.0, 0.25, 0.5])), bool(rng.random() < 0.7)
        checkpoints.save(tick, STATE, {}, score, regular)
        saved = [entry for entry in saved if entry[0] in kept] + [(tick, score, regular)]
        scored = [entry for entry in saved if math.isfinite(entry[1])]
        ranked = [entry[0] for entry in sorted(scored, key=lambda entry: -entry[1])]
        best_then[tick] = set(ranked[:1])
        recent = {entry[0] for entry in [entry for entry in saved if entry[2]][-newest:]} | {tick}
        kept = recent.union(ranked[:best], *(best_then[entry] for entry in recent))
        assert checkpoints.ticks() == sorted(kept)
        if rng.random() < 0.2:
            checkpoints.close()
            checkpoints = Checkpoints(tmp_path, newest, best)
            assert checkpoints.ticks() == sorted(kept)
    checkpoints.close()


def test_what_a_killed_save_or_deletion_left_is_cleared_away(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 1, 1)
    checkpoints.save(1, STATE, {}, 0.5)
    checkpoints.save(2, STATE, {}, 0.4)
    checkpoints.close()
    # Killed after 3 was renamed and before 2 was deleted; 2 half deleted; 4 half saved.
    shutil.copytree(tmp_path / "2", tmp_path / "3")
    record = json.loads((tmp_path / "2" / "record.json").read_text())
    (tmp_path / "3" / "record.json").write_text(json.dumps({**record, "tick": 3}))
    (tmp_path / "2" / "state" / "manifest.ocdbt").unlink()
    shutil.copytree(tmp_path / "1", tmp_path / "4.new")
    checkpoints = Checkpoints(tmp_path, 1, 1)
    assert checkpoints.ticks() == [1, 3]
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]


# They come back as they were.


# Every optimizer's state goes through a checkpoint in the conformance table.
@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "lars", "schedule_free_sgd"])
def test_state_and_record_round_trip(tmp_path: Path, optimizer: str) -> None:
    config = resolve.resolve(runs.config(tmp_path / "run", optimizer=optimizer, micro_batch_size=32))
    dataset = build.load(config)
    lengths, _ = resolve.lengths(config, dataset.splits["train"][1])
    single = build.single_run(config, dataset, resolve.traced(config, lengths))
    states, _ = single.program.chunk(single.init(), single.values, single.examples, 7)
    state = jax.device_get(single.program.take(states, 0))
    leaves = jax.tree.leaves(state.optimizer)
    assert optimizer == "sgd" or any(np.any(leaf) for leaf in leaves), "a zero optimizer state would show nothing"
    record = {"tick": 7, "evaluations": [[3, math.nan], [7, -0.1]], "none": None, "text": "Grüße", "sizes": {"tb/events": 5}}

    checkpoints = Checkpoints(tmp_path, 1, 1)
    checkpoints.save(7, state, record, 0.5)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, 1, 1)
    found, found_record = checkpoints.restore(7, single.like())
    params = read(tmp_path / "7")["params"]
    checkpoints.close()

    assert repr(found_record) == repr(record)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for path, expected in jax.tree_util.tree_leaves_with_path(state):
        value = dict(jax.tree_util.tree_leaves_with_path(found))[path]
        assert (value.dtype, value.shape) == (expected.dtype, expected.shape), path
        assert value.tobytes() == expected.tobytes(), path
    jax.tree.map(np.testing.assert_array_equal, params, state.params)


# Damage.


def all_files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def flip(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def test_every_flipped_bit_is_noticed(tmp_path: Path, rng: np.random.Generator) -> None:
    checkpoints = Checkpoints(tmp_path, 1, 1)
    checkpoints.save(1, STATE, {"text": "with blanks"}, 0.5)
    checkpoints.close()
    assert damage(tmp_path / "1") is None
    files = [path for path in all_files(tmp_path / "1") if path.stat().st_size]
    for _ in range(20):
        for path in files:
            before = path.read_bytes()
            flip(path, rng)
            problem = damage(tmp_path / "1")
            assert problem is not None
            assert path.name in problem or path.name == "checksums.json"
            path.write_bytes(before)
    assert damage(tmp_path / "1") is None


def largest(checkpoint: Path) -> Path:
    return max(all_files(checkpoint / "state"), key=lambda path: path.stat().st_size)


def truncate(checkpoint: Path, rng: np.random.Generator) -> str:
    path = largest(checkpoint)
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])
    return f"file {path.relative_to(checkpoint)} is damaged"


def flip_data(checkpoint: Path, rng: np.random.Generator) -> str:
    path = largest(checkpoint)
    flip(path, rng)
    return f"file {path.relative_to(checkpoint)} is damaged"


def flip_anywhere(checkpoint: Path, rng: np.random.Generator) -> str:
    flip(rng.choice([path for path in all_files(checkpoint) if path.stat().st_size]), rng)
    return ""


def lose(checkpoint: Path, rng: np.random.Generator) -> str:
    path = rng.choice(all_files(checkpoint / "state"))
    path.unlink()
    return f"file {path.relative_to(checkpoint)} is missing"


def lose_record(checkpoint: Path, rng: np.random.Generator) -> str:
    (checkpoint / "record.json").unlink()
    return "file record.json is missing"


def lose_checksums(checkpoint: Path, rng: np.random.Generator) -> str:
    (checkpoint / "checksums.json").unlink()
    return "file checksums.json is missing"


def add(checkpoint: Path, rng: np.random.Generator) -> str:
    (checkpoint / "state" / "stranger").write_text("")
    return "file state/stranger is damaged"


@pytest.mark.parametrize("harm", [truncate, flip_data, flip_anywhere, lose, lose_record, lose_checksums, add])
def test_a_damaged_newest_checkpoint_is_said_and_the_one_before_it_used(
    tmp_path: Path, undisturbed: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture, harm: Callable[..., str]
) -> None:
    folder = stopped(tmp_path / "run", undisturbed)
    problem = harm(folder / "checkpoints" / "40", rng)
    hpjax.run(runs.config(folder, **SETTINGS, progress=True))
    said = capsys.readouterr().out
    assert f"checkpoint 40 cannot be used: {problem}" in said
    assert "looking for the one before it" in said
    assert "resumed at step 35 of 40" in said
    runs.assert_same(folder, undisturbed)


def test_without_progress_damage_is_said_all_the_same(
    tmp_path: Path, undisturbed: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture
) -> None:
    folder = stopped(tmp_path / "run", undisturbed)
    for tick in kept(folder):
        flip_data(folder / "checkpoints" / str(tick), rng)
    hpjax.run(runs.config(folder, **SETTINGS))
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == [
        "checkpoint 40 cannot be used",
        "checkpoint 35 cannot be used",
        "checkpoint 20 cannot be used",
        "no checkpoint can be used",
    ]
    assert "the run starts anew" in said[-1]
    runs.assert_same(folder, undisturbed)


def test_newest_and_the_one_before_damaged_leaves_the_best(
    tmp_path: Path, undisturbed: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture
) -> None:
    folder = stopped(tmp_path / "run", undisturbed)
    flip_data(folder / "checkpoints" / "40", rng)
    lose(folder / "checkpoints" / "35", rng)
    hpjax.run(runs.config(folder, **SETTINGS, progress=True))
    assert "resumed at step 20 of 40" in capsys.readouterr().out
    runs.assert_same(folder, undisturbed)


def test_a_damaged_best_checkpoint_is_made_again(
    tmp_path: Path, undisturbed: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture
) -> None:
    """The newest is whole, but the parameters that the run will be judged by are not."""
    folder = stopped(tmp_path / "run", undisturbed)
    flip_data(folder / "checkpoints" / "20", rng)
    hpjax.run(runs.config(folder, **SETTINGS))
    said = capsys.readouterr().out
    assert "checkpoint 40 cannot be used: the best one before it, 20, is lost: file state/" in said
    assert "the run starts anew" in said
    runs.assert_same(folder, undisturbed)


def test_damaged_parameters_of_a_finished_run_are_refused(
    tmp_path: Path, undisturbed: Path, rng: np.random.Generator
) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    flip_data(tmp_path / "run" / "checkpoints" / "20", rng)
    with pytest.raises(RunFolderError, match=r"checkpoint '.*20' cannot be used: file state.*; expected --overwrite"):
        hpjax.run(runs.config(tmp_path / "run", **SETTINGS))
    assert runs.metadata(tmp_path / "run")["status"] == "done"


# Killed inside a save.


class Killed(BaseException):
    """Passes every `except Exception`, as a kill would."""


@pytest.mark.parametrize("moment", ["the state is saved", "the record is written", "all is written", "it is renamed"])
def test_killed_inside_a_save_when(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, moment: str
) -> None:
    folder = tmp_path / "run"

    def killed_if(now: bool) -> None:
        if now and (folder / "checkpoints" / "30").exists():
            raise Killed

    write, rename, drop = checkpoints_module._write, Path.rename, Checkpoints._drop_old

    def writing(path: Path, values: Any) -> None:
        killed_if(moment == "the state is saved" or (moment == "the record is written" and path.name == "checksums.json"))
        write(path, values)

    def renaming(self: Path, target: Path) -> None:
        killed_if(moment == "all is written" and self.suffix == ".new")
        rename(self, target)

    def dropping(self: Checkpoints) -> None:
        killed_if(moment == "it is renamed" and (folder / "checkpoints" / "35").exists())
        drop(self)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoints_module, "_write", writing)
        patch.setattr(Path, "rename", renaming)
        patch.setattr(Checkpoints, "_drop_old", dropping)
        hpjax.run(runs.config(folder, **SETTINGS))
    before = {path.name for path in (folder / "checkpoints").iterdir()}
    # 25 goes when 35 is safe, and not before.
    assert before == {"20", "25", "30"} | ({"35"} if moment == "it is renamed" else {"35.new"})
    hpjax.run(runs.config(folder, **SETTINGS, progress=True))
    said = capsys.readouterr().out
    assert f"resumed at step {35 if moment == 'it is renamed' else 30} of 40" in said
    assert "cannot be used" not in said
    runs.assert_same(folder, undisturbed)


# The disk.


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: Error writing 'x': [OS error 28: ENOSPC No space left on device]\nmore lines"),
    ],
)
def test_a_save_that_fails_in_the_background_ends_the_run_with_one_line(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    save, saves = ocp.Checkpointer.save, []

    def full(self: Any, directory: Path, *args: Any, **kwargs: Any) -> None:
        saves.append(directory)
        save(self, directory, *args, **kwargs)
        if len(saves) == 4:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(ocp.Checkpointer, "save", full)
        with pytest.raises(RunFolderError, match=r"^a checkpoint could not be written: the disk is full$"):
            hpjax.run(runs.config(tmp_path / "run", **SETTINGS))
    facts = runs.metadata(tmp_path / "run")
    assert (facts["status"], facts["error"]) == ("failed", "a checkpoint could not be written: the disk is full")
    assert len(saves) == 4
    # The checkpoints before it stay good.
    hpjax.run(runs.config(tmp_path / "run", **SETTINGS))
    runs.assert_same(tmp_path / "run", undisturbed)


def test_the_last_save_that_fails_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ocp.Checkpointer, "save", full)
    with pytest.raises(RunFolderError, match="the disk is full"):
        hpjax.run(runs.config(tmp_path / "run", eval_every="40", checkpoint_every="40"))


def test_nothing_but_the_best_and_what_is_due_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation between two checkpoints is saved if, and only if, it is the best so far."""
    ticks = []
    save = Loop._save
    monkeypatch.setattr(Loop, "_save", lambda self, tick, *args, **kwargs: (ticks.append(tick), save(self, tick, *args))[1])
    result = hpjax.run(runs.config(tmp_path / "run", eval_every="4", checkpoint_every="20"))
    values = [(line["step"], line["val/accuracy"]) for line in result.history if "val/accuracy" in line]
    best = [step for i, (step, value) in enumerate(values) if all(value > before for _, before in values[:i])]
    assert 2 < len(best) < len(values), "the test needs evaluations of both kinds"
    assert ticks == sorted({*best, 20, 40})
