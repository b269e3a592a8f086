"""The host's loop against values computed by other means, and what it may not do."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hpjax
import whole_runs as runs
from hpjax import build, loop, resolve, runner, train
from hpjax.build import SingleRun
from hpjax.checkpoints import Checkpoints, read
from hpjax.data.order import example_index
from hpjax.interrupt import Interrupt
from hpjax.logs import RunLog
from hpjax.loop import Loop
from hpjax.objective import Objective
from hpjax.progress import ProgressView

Tree = Any


def prepared(folder: Path, **changes: Any) -> tuple[SingleRun, resolve.Lengths, Any]:
    """A run's program, lengths and data set, without a folder."""
    config = resolve.resolve(runs.config(folder, **changes))
    dataset = build.load(config)
    lengths, _ = resolve.lengths(config, dataset.splits["train"][1])
    return build.single_run(config, dataset, resolve.traced(config, lengths)), lengths, dataset


def inputs(x: np.ndarray, dataset: Any) -> np.ndarray:
    return x.astype(np.float64) * dataset.scale + dataset.shift


def forward(params: Tree, x: np.ndarray) -> np.ndarray:
    """The perceptron in NumPy, float64: its layers in the order of their numbers, ReLU between them."""
    names = sorted(params, key=lambda name: int(name.rpartition("_")[2]))
    x = x.reshape(len(x), -1)
    for i, name in enumerate(names):
        x = x @ np.asarray(params[name]["kernel"], np.float64) + np.asarray(params[name]["bias"], np.float64)
        x = np.maximum(x, 0) if i < len(names) - 1 else x
    return x


def measured(params: Tree, dataset: Any, split: str) -> tuple[float, float]:
    """Loss and accuracy over a split."""
    x, y = dataset.part(split)
    logits = forward(params, inputs(x, dataset))
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_p[np.arange(len(y)), y].mean()), float((logits.argmax(axis=1) == y).mean())


def norm(tree: Tree) -> float:
    return math.sqrt(sum(float((np.asarray(leaf, np.float64) ** 2).sum()) for leaf in jax.tree.leaves(tree)))


def params_at(folder: Path, step: int) -> Tree:
    return read(folder / "checkpoints" / str(step))["params"]


# What is logged is true.


def test_logged_numbers_against_independent_ones(tmp_path: Path) -> None:
    """Every step is logged and kept; loss, gradient and norms are computed again from the kept parameters in float64."""
    settings = {
        "dropout_rate": 0.0,
        "learning_rate": 0.2,
        "momentum": 0.0,
        "schedule": "cosine",
        "end_factor": 0.1,
        "warmup": "4",
        "train_steps": "12",
        "log_every": "1",
        "eval_every": "1",
        "checkpoint_every": "1",
        "keep_newest": 1000,
        "weight_decay": 0.0,
        "data_seed": 5,
    }
    result = hpjax.run(runs.config(tmp_path / "run", **settings))
    _, _, dataset = prepared(tmp_path / "run", **settings)
    x, y = dataset.part("train")
    position = jnp.arange(12 * 64, dtype=jnp.uint32)
    order = np.concatenate([example_index(part, len(x), jnp.uint32(5)) for part in position.reshape(12, 64)])

    with jax.enable_x64(True):

        def loss(params: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
            hidden = jax.nn.relu(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None])
            logits = hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"][None]
            return -jax.nn.log_softmax(logits)[jnp.arange(len(y)), y].mean()

        log = {}
        for line in result.history:
            log.setdefault(line["step"], {}).update(line)
        for step in range(2, 13):
            # The parameters before the step are those that the step before left.
            before, after = params_at(tmp_path / "run", step - 1), params_at(tmp_path / "run", step)
            index = order[(step - 1) * 64 : step * 64]
            batch = inputs(x[index], dataset).reshape(64, -1)
            wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), before)
            value, gradient = jax.value_and_grad(loss)(wide, jnp.asarray(batch), jnp.asarray(y[index]))
            accuracy = (forward(before, batch).argmax(axis=1) == y[index]).mean()
            update = jax.tree.map(lambda new, old: np.float64(new) - np.float64(old), after, before)
            # The learning rate of update number step - 1, counted from 0; warmup is part of the run.
            done = step - 1
            rate = 0.2 * ((done + 1) / 4 if done < 4 else 0.1 + 0.9 * (1 + math.cos(math.pi * (done - 4) / 8)) / 2)

            assert log[step]["optimizer/learning_rate"] == pytest.approx(rate, rel=1e-6), step
            assert log[step]["train/loss"] == pytest.approx(float(value), rel=2e-6), step
            assert log[step]["train/accuracy"] == pytest.approx(accuracy, abs=1e-6), step
            assert log[step]["norm/gradient"] == pytest.approx(norm(gradient), rel=2e-6), step
            assert log[step]["norm/parameters"] == pytest.approx(norm(after), rel=1e-6), step
            assert log[step]["norm/update"] == pytest.approx(norm(update), rel=1e-5), step
            assert log[step]["norm/update"] == pytest.approx(rate * norm(gradient), rel=1e-5), step
            val_loss, val_accuracy = measured(after, dataset, "val")
            assert log[step]["val/loss"] == pytest.approx(val_loss, rel=2e-6), step
            assert log[step]["val/accuracy"] == pytest.approx(val_accuracy, abs=1e-6), step


def test_a_log_point_is_the_mean_since_the_last_one(tmp_path: Path) -> None:
    one = hpjax.run(runs.config(tmp_path / "one", log_every="1", eval_every="40"))
    five = hpjax.run(runs.config(tmp_path / "five", log_every="5", eval_every="40"))
    for name in ("train/loss", "train/accuracy"):
        every = [line[name] for line in one.history if name in line]
        means = [line[name] for line in five.history if name in line]
        assert len(every) == 40
        assert means == pytest.approx(np.reshape(every, (8, 5)).mean(axis=1), rel=1e-6)
    assert [line["speed/examples_per_second"] > 0 for line in five.history if "train/loss" in line] == [True] * 8


# Where the host looks does not matter, and it does not wait.


def test_the_looks_of_the_host_do_not_change_a_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks: dict[str, list[int]] = {"often": [], "seldom": []}
    chunk = hpjax.lanes.LaneProgram.chunk
    for name, seconds in (("often", 1e-9), ("seldom", 1e9)):

        def counted(self: Any, states: Any, values: Any, examples: Any, ticks: int, name: str = name) -> Any:
            chunks[name].append(ticks)
            return chunk(self, states, values, examples, ticks)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "SECONDS_BETWEEN_LOOKS", seconds)
            patch.setattr(hpjax.lanes.LaneProgram, "chunk", counted)
            hpjax.run(runs.config(tmp_path / name, micro_batch_size=32))
    assert chunks["often"] == [0] + [1] * 80
    assert max(chunks["seldom"]) == 10
    runs.assert_same(tmp_path / "often", tmp_path / "seldom")


def test_the_host_waits_only_for_the_chunk_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the device does a chunk, nothing is asked of it but the next: results are read one boundary late."""
    events: list[str] = []
    program = hpjax.lanes.LaneProgram
    for name in ("chunk", "evaluate", "take"):
        wrapped = getattr(program, name)

        def noted(self: Any, *args: Any, name: str = name, wrapped: Any = wrapped) -> Any:
            events.append(name)
            return wrapped(self, *args)

        monkeypatch.setattr(program, name, noted)
    get, wait = jax.device_get, jax.block_until_ready
    monkeypatch.setattr(jax, "device_get", lambda tree: (events.append("get"), get(tree))[1])
    monkeypatch.setattr(jax, "block_until_ready", lambda tree: (events.append("wait"), wait(tree))[1])
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_LOOKS", 1e9)

    single, lengths, dataset = prepared(tmp_path, checkpoint_every="20", eval_every="20")
    log, checkpoints = RunLog(tmp_path, True), Checkpoints(tmp_path / "checkpoints", 1, 1)
    one = Loop(single, lengths, Objective("val/accuracy", True, "best"), dataset.splits, log, checkpoints)
    one.train(Interrupt(leave_at_second=True), ProgressView(40, False))
    log.close()
    checkpoints.close()
    plain, full = ["chunk"], ["chunk", "evaluate", "take"]
    read, read_full = ["get"], ["get", "get", "get"]
    assert events == [
        *("chunk", "evaluate", "take", "wait"),  # compiled
        *plain,  # 1: the first two chunks are a tick each, to learn the speed
        *(*plain, *read),  # 2
        *(*plain, *read),  # 5, while the results of 2 are read, and so on
        *(*plain, *read),  # 10
        *(*plain, *read),  # 15
        *(*full, *read),  # 20
        *(*plain, *read_full),  # 25
        *(*plain, *read),  # 30
        *(*plain, *read),  # 35
        *(*full, *read),  # 40
        *read_full,
    ]


@pytest.mark.parametrize("parallel", ["shard_map", "pmap"])
def test_one_compilation_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: str) -> None:
    made = []
    single_run = build.single_run
    monkeypatch.setattr(build, "single_run", lambda *args: made.append(single_run(*args)) or made[-1])
    settings = {"learning_rate": 0.1, "schedule": "step", "step_size": "20", "gamma": 30.0, "parallel": parallel}
    result = hpjax.run(runs.config(tmp_path / "run", **settings))
    assert result.best["step"] == 20, "the end must go back to another checkpoint than the last"
    assert made[-1].program.traces == {"init": 1, "chunk": 1, "evaluate": 1, "take": 1, "put": 1}
    # Resumed: again one each.
    (tmp_path / "run" / "metadata.json").unlink()
    Checkpoints(tmp_path / "run" / "checkpoints", 2, 1).delete(40)
    hpjax.run(runs.config(tmp_path / "run", **settings))
    assert made[-1].program.traces == {"init": 1, "chunk": 1, "evaluate": 1, "take": 1, "put": 1}


# What the run came to.


@pytest.mark.parametrize(
    ("value", "objective"),
    [("best", "val/accuracy:max"), ("best", "val/loss:min"), ("last", "val/accuracy:max"), ("smoothed", "val/loss:min")],
)
def test_the_objective_chooses_the_parameters(tmp_path: Path, value: str, objective: str) -> None:
    # The rate jumps to where the accuracy falls apart: the best evaluation is not the last.
    settings = {
        "learning_rate": 0.1,
        "schedule": "step",
        "step_size": "20",
        "gamma": 30.0,
        "eval_every": "4",
        "checkpoint_every": "10",
        "keep_newest": 1,
    }
    result = hpjax.run(runs.config(tmp_path / "run", objective=objective, objective_value=value, **settings))
    name, direction = objective.split(":")
    values = [(line["step"], line[name]) for line in result.history if name in line]
    assert [step for step, _ in values] == list(range(4, 41, 4))
    sign = 1 if direction == "max" else -1
    best_value = max(sign * v for _, v in values) * sign
    best_step = next(step for step, v in values if v == best_value)
    assert result.best == {"step": best_step, "value": best_value}
    assert best_step < 40
    expected = {"best": best_value, "last": values[-1][1], "smoothed": float(np.mean([v for _, v in values[-5:]]))}
    assert result.objective == pytest.approx(expected[value], rel=1e-12)

    # The parameters are those of that step, and the test split's numbers are theirs.
    _, _, dataset = prepared(tmp_path / "run", **settings)
    step = best_step if value == "best" else 40
    loss, accuracy = measured(result.params, dataset, "val")
    assert (loss, accuracy) == pytest.approx(
        [
            next(line[n] for line in result.history if line["step"] == step and n in line)
            for n in ("val/loss", "val/accuracy")
        ],
        rel=1e-5,
    )
    loss, accuracy = measured(result.params, dataset, "test")
    assert result.test["test/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert result.test["test/loss"] == pytest.approx(loss, rel=1e-5)
    # The test split is read once.
    assert sum("test/loss" in line for line in result.history) == 1
    assert {n: v for n, v in result.history[-1].items() if n != "step"} == result.test


def test_the_result_and_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = hpjax.run(runs.config(tmp_path / "run"))
    assert isinstance(result, hpjax.Result)
    assert result.run_dir == tmp_path / "run"
    assert result.status == "done"
    assert result.diverged_at is None
    assert result.seconds > 0
    assert result.config.devices == "1"
    assert result.history[-1]["step"] == 40
    monkeypatch.setattr(runner, "_train", None)
    again = hpjax.run(runs.config(tmp_path / "run"))
    assert again.config == result.config
    for name in ("run_dir", "status", "objective", "best", "test", "diverged_at", "seconds", "history"):
        assert getattr(again, name) == getattr(result, name), name
    assert jax.tree.structure(again.params) == jax.tree.structure(result.params)
    jax.tree.map(np.testing.assert_array_equal, again.params, result.params)


def test_without_a_validation_split_the_objective_is_the_training_loss(tmp_path: Path) -> None:
    result = hpjax.run(runs.config(tmp_path / "run", validation_fraction=0, objective="train/loss:min"))
    values = [line["train/loss"] for line in result.history if "train/loss" in line and line["step"] % 10 == 0]
    assert result.objective == min(values)
    assert not any(name.startswith("val/") for line in result.history for name in line)


# Divergence.


def finite(tree: Tree) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def kept_parameters(folder: Path) -> dict[int, Tree]:
    return {int(p.name): params_at(folder, int(p.name)) for p in sorted((folder / "checkpoints").iterdir())}


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = runs.flags(tmp_path / "run", learning_rate=1e30)
    assert train.main(["hpjax.train", *arguments]) == 1
    said = capsys.readouterr().out
    facts = runs.metadata(tmp_path / "run")
    assert facts["status"] == "diverged"
    assert f"diverged at step {facts['diverged_at']}: the training loss is not finite" in said
    assert "try a lower --learning_rate, a longer --warmup or --clip_norm=1" in said
    assert facts["test"] == {}
    lines = runs.lines(tmp_path / "run")
    assert lines[-1] == {"step": facts["diverged_at"], "train/loss": None}
    assert sum("train/loss" in line and line["train/loss"] is None for line in lines) == 1, "said once"
    assert all(finite(params) for params in kept_parameters(tmp_path / "run").values())
    # The same command again says the same, and trains nothing.
    assert train.main(["hpjax.train", *arguments]) == 1
    assert f"diverged at step {facts['diverged_at']}" in capsys.readouterr().out
    assert runs.metadata(tmp_path / "run") == facts


@pytest.mark.parametrize("looks", [1e-9, 1e9])
@pytest.mark.parametrize("bad_step", [0, 3, 12, 15])
def test_nan_at_a_known_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad_step: int, looks: float) -> None:
    """NaN comes with one example: every step before it counts and none after, however the host cuts its chunks."""
    _, _, dataset = prepared(tmp_path)
    x = dataset.x.astype(np.float32)
    # In the first epoch an example is seen by one step only, here in the second half of its two ticks.
    place = jnp.arange(bad_step * 64 + 40, bad_step * 64 + 41, dtype=jnp.uint32)
    x[int(example_index(place, dataset.splits["train"][1], jnp.uint32(0))[0]), 4, 4] = np.nan
    poisoned = dataclasses.replace(dataset, x=x)
    monkeypatch.setattr(build, "load", lambda config, streams: poisoned)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_LOOKS", looks)
    result = hpjax.run(runs.config(tmp_path / "run", micro_batch_size=32))
    assert result.status == "diverged"
    assert result.diverged_at == bad_step
    logged = [(line["step"], line["train/loss"]) for line in result.history if "train/loss" in line]
    assert [step for step, _ in logged] == [*range(5, bad_step + 1, 5), bad_step]
    assert [value is None for _, value in logged] == [False] * (len(logged) - 1) + [True]
    evaluated = [line["step"] for line in result.history if "val/loss" in line]
    assert evaluated == list(range(10, bad_step + 1, 10))
    assert (result.best is None) == (not evaluated)
    kept = kept_parameters(tmp_path / "run")
    # What was reached is kept: the first of the two ticks of the bad step.
    assert max(kept) == bad_step * 2 + 1
    assert all(finite(params) for params in [*kept.values(), result.params])
    assert runs.metadata(tmp_path / "run")["diverged_at"] == bad_step


@pytest.mark.parametrize("steps", ["1", "40"])
def test_an_update_out_of_the_finite_numbers_is_neither_kept_nor_the_best(tmp_path: Path, steps: str) -> None:
    """The loss before the update is finite, and so is the accuracy of NaN logits: a tenth, by argmax."""
    settings = {"learning_rate": 3e38, "l2": 1e6, "train_steps": steps, "eval_every": "1", "checkpoint_every": "1"}
    for _ in range(2):
        result = hpjax.run(runs.config(tmp_path / "run", **settings))
        assert (result.status, result.diverged_at) == ("diverged", 1)
        assert result.best is None
        assert math.isnan(result.objective)
        assert result.params is None
        assert result.test == {}
        assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_an_accuracy_of_nan_logits_is_no_value(tmp_path: Path) -> None:
    """The parameters are finite, and far too large: the validation loss is NaN, and so is the accuracy."""
    result = hpjax.run(runs.config(tmp_path / "run", learning_rate=1e30, train_steps="1", eval_every="1"))
    (line,) = [line for line in result.history if "val/loss" in line]
    assert line["val/loss"] is None
    assert line["val/accuracy"] is None
    assert result.status == "done"
    assert math.isnan(result.objective)
    assert result.best is None
    assert finite(result.params)


def test_a_diverged_run_keeps_its_best(tmp_path: Path) -> None:
    settings = {"schedule": "step", "step_size": "20", "gamma": 1e30}
    result = hpjax.run(runs.config(tmp_path / "run", **settings))
    assert result.status == "diverged"
    assert 20 < result.diverged_at < 40
    assert result.best["step"] in (10, 20)
    assert result.objective == result.best["value"]
    _, _, dataset = prepared(tmp_path / "run", **settings)
    assert measured(result.params, dataset, "val")[1] == pytest.approx(result.best["value"], abs=1e-6)


def test_no_evaluation_has_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss over the validation split is NaN throughout, though training goes well: the last parameters are taken."""
    _, _, dataset = prepared(tmp_path)
    x = dataset.x.astype(np.float32)
    x[dataset.splits["val"][0]] = np.nan
    poisoned = dataclasses.replace(dataset, x=x)
    monkeypatch.setattr(build, "load", lambda config, streams: poisoned)
    result = hpjax.run(runs.config(tmp_path / "run", objective="val/loss:min"))
    assert result.status == "done"
    assert math.isnan(result.objective)
    assert result.best is None
    assert measured(result.params, dataset, "test")[1] == pytest.approx(result.test["test/accuracy"], abs=1e-6)
    jax.tree.map(np.testing.assert_array_equal, result.params, params_at(tmp_path / "run", 40))


# Accumulation.


def test_a_batch_in_four_parts_is_the_batch(tmp_path: Path) -> None:
    """Dropout masks included: they belong to the example. The bound is a step, in last places of the largest weight."""
    settings = {
        "batch_size": 128,
        "dropout_rate": 0.4,
        "label_smoothing": 0.1,
        "train_steps": "20",
        "checkpoint_every": "1",
        "keep_newest": 1000,
    }
    one = hpjax.run(runs.config(tmp_path / "one", **settings))
    four = hpjax.run(runs.config(tmp_path / "four", **settings, micro_batch_size=32))
    assert [line["step"] for line in one.history] == [line["step"] for line in four.history]
    worst = 0.0
    for step in range(1, 21):
        a, b = params_at(tmp_path / "one", step), params_at(tmp_path / "four", 4 * step)
        scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(a))
        difference = max(float(np.abs(p - q).max()) for p, q in zip(*map(jax.tree.leaves, (a, b)), strict=True))
        worst = max(worst, difference / (step * scale * 2**-23))
    print(f"largest difference a step: {worst:.3g} units in the last place of the largest weight")
    assert worst < 1
    assert max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(a)) > 0.3
