"""Whole runs of what is not a plain classification: tables, regression, language; a plateau; schedules in the logs."""

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

import hpjax
import whole_runs as runs
from hpjax import build, resolve
from hpjax.batch import Examples


def outputs(found: hpjax.Result, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the model's outputs and the targets over a split, with the run's parameters."""
    config = resolve.resolve(found.config)
    dataset = build.load(config)
    part = build.trial(config, dataset)
    start, size = dataset.splits[split]
    examples = Examples(jnp.asarray(dataset.x), jnp.asarray(dataset.y))
    x, y = part.reader.read(examples, jnp.arange(start, start + size))
    return np.asarray(part.model.apply({"params": found.params}, x), np.float64), np.asarray(y)


def test_tables_and_metrics_of_ones_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"metrics": ("accuracy", "confusion_matrix", "recall_per_class"), "objective": "val/f1_macro:max"}
    found = hpjax.run(runs.config(tmp_path / "run", **settings))
    assert set(found.test) == {"test/loss", "test/accuracy", "test/f1_macro"}
    assert set(found.tables) == {"val", "test"}
    for split, tables in found.tables.items():
        logits, labels = outputs(found, split)
        guess = logits.argmax(axis=1)
        assert tables["confusion_matrix"] == sklearn.metrics.confusion_matrix(labels, guess).tolist()
        recall = sklearn.metrics.recall_score(labels, guess, average=None, zero_division=0)
        np.testing.assert_allclose(tables["recall_per_class"], recall, atol=1e-12)
    logits, labels = outputs(found, "val")
    f1 = sklearn.metrics.f1_score(labels, logits.argmax(axis=1), average="macro", zero_division=0)
    assert found.objective == found.best["value"] == pytest.approx(f1, abs=1e-12)
    # A table is no curve: neither in the log nor in TensorBoard. A sum over a split is no mean of a log window.
    logged = {name for line in found.history for name in line}
    assert logged >= {"train/accuracy", "val/accuracy", "val/f1_macro"}
    assert not logged & {"val/confusion_matrix", "val/recall_per_class", "train/f1_macro"}
    assert runs.metadata(tmp_path / "run")["tables"] == found.tables
    monkeypatch.setattr(hpjax.runner, "_train", None)
    assert hpjax.run(runs.config(tmp_path / "run", **settings)).tables == found.tables


def test_regression(tmp_path: Path) -> None:
    data = {
        "dataset": "diabetes",
        "dropout_rate": 0.0,
        "learning_rate": 0.01,
        "batch_size": 32,
        "metrics": ("mae", "rmse", "r2"),
    }
    found = hpjax.run(runs.config(tmp_path / "run", **data))
    dataset = build.load(found.config)
    predicted, targets = outputs(found, "test")
    own = lambda y: y * dataset.target_scale + dataset.target_shift  # noqa: E731
    expected = {
        "loss": ((predicted - targets) ** 2).mean(),
        "mae": np.abs(own(predicted) - own(targets)).mean(),
        "rmse": math.sqrt(((own(predicted) - own(targets)) ** 2).mean()),
        "r2": sklearn.metrics.r2_score(targets, predicted),
    }
    assert set(found.test) == {f"test/{name}" for name in expected}
    for name, value in expected.items():
        assert found.test[f"test/{name}"] == pytest.approx(value, rel=1e-5), name
    assert found.config.objective == "val/loss:min"
    assert found.test["test/r2"] > 0.2
    assert found.test["test/mae"] > 10, "in the target's own units"


def test_language(tmp_path: Path) -> None:
    data = {"dataset": "synthetic_tokens", "examples": 300, "classes": 7, "context_length": 6, "batch_size": 32}
    model = {"model": "lstm", "depth": 1, "width": 16, "hidden_sizes": None, "dropout_rate": 0.1}
    rate = {"optimizer": "adamw", "learning_rate": 0.02}
    found = hpjax.run(runs.config(tmp_path / "run", **data, **model, **rate))
    for line in found.history:
        for split in {name.partition("/")[0] for name in line} & {"train", "val", "test"}:
            loss = line[f"{split}/loss"]
            assert line[f"{split}/perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
            assert line[f"{split}/bits_per_character"] == pytest.approx(loss / math.log(2), rel=1e-5)
    logits, targets = outputs(found, "test")
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    loss = -np.take_along_axis(log_p, targets[..., None], axis=-1).mean()
    assert found.test["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert found.test["test/loss"] < 0.9 * math.log(7)


# The objective never gets better: the rate falls at the third evaluation since the last fall, with patience 1.
STALLED = {
    "learning_rate": 1e-9,
    "schedule": "plateau",
    "plateau_patience": 1,
    "gamma": 0.5,
    "eval_every": "5",
    "optimizer": "sgd",
}


@pytest.fixture(scope="module")
def stalled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stalled") / "run"
    hpjax.run(runs.config(folder, **STALLED))
    return folder


def test_a_plateau_lowers_the_rate(stalled: Path) -> None:
    rates = [line["optimizer/learning_rate"] for line in runs.lines(stalled) if "optimizer/learning_rate" in line]
    # Evaluations: 5 is the best, 10 and 15 are bad; after that 20 and 25, 30 and 35.
    assert rates == pytest.approx([1e-9 * 0.5**n for n in (0, 0, 0, 1, 1, 2, 2, 3)], rel=1e-6)


@pytest.mark.parametrize("tick", [10, 15, 20, 30])
def test_a_plateau_is_resumed(stalled: Path, tmp_path: Path, tick: int) -> None:
    with runs.killed_before(tick):
        hpjax.run(runs.config(tmp_path / "run", **STALLED))
    hpjax.run(runs.config(tmp_path / "run", **STALLED))
    runs.assert_same(tmp_path / "run", stalled)


def test_a_plateau_grows_the_batch(tmp_path: Path) -> None:
    """A step of 64 examples has 2 ticks, an evaluation comes every 10; what is left in the end are 6 ticks. Resumed too."""
    grows = "plateau(gamma=2,plateau_patience=1,max_factor=4)"
    settings = {**{name: STALLED[name] for name in ("learning_rate", "eval_every", "optimizer")}, "micro_batch_size": 32}
    for folder in (tmp_path / "run", tmp_path / "again"):
        config = runs.config(folder, **settings, batch_size_schedule=grows)
        if folder.name == "again":
            with runs.killed_before(60):
                hpjax.run(config)
        hpjax.run(config)
    sizes = [line["optimizer/batch_size"] for line in runs.lines(folder) if "optimizer/batch_size" in line]
    # Evaluations: 5 is the best, 10 and 15 are bad; after that 20 and 25.
    assert sizes == [64, 64, 64, 128, 128, 256, 256, 192]
    runs.assert_same(tmp_path / "again", tmp_path / "run")


def test_what_is_scheduled_is_logged(tmp_path: Path) -> None:
    scheduled: dict[str, Any] = {
        "weight_decay": 0.1,
        "weight_decay_schedule": "linear(start_factor=1,end_factor=0)",
        "momentum_schedule": "constant(start_factor=0.5)",
        "batch_size_schedule": "step(step_size=20,gamma=2)",
        "micro_batch_size": 32,
        "log_every": "10",
    }
    found = hpjax.run(runs.config(tmp_path / "run", **scheduled))
    lines = [line for line in found.history if "optimizer/batch_size" in line]
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    assert [line["optimizer/batch_size"] for line in lines] == [64, 64, 128, 128]
    assert [line["optimizer/momentum"] for line in lines] == pytest.approx([0.45] * 4, rel=1e-6)
    # Of the step that ends there, by the time at which it began.
    assert [line["optimizer/weight_decay"] for line in lines] == pytest.approx(
        [0.1 * (1 - began / 40) for began in (9, 19, 28, 38)], rel=1e-5
    )
    with runs.killed_before(50):
        hpjax.run(runs.config(tmp_path / "killed", **scheduled))
    hpjax.run(runs.config(tmp_path / "killed", **scheduled))
    runs.assert_same(tmp_path / "killed", tmp_path / "run")


def test_how_often_gradients_are_clipped_is_logged(tmp_path: Path) -> None:
    clipped: dict[str, Any] = {"clip_norm": 1.0, "micro_batch_size": 32, "eval_every": "40"}
    found = hpjax.run(runs.config(tmp_path / "each", log_every="1", **clipped))
    lines = [line for line in found.history if "train/clipped" in line]
    norms, shares = ([line[name] for line in lines] for name in ("norm/gradient", "train/clipped"))
    assert shares == [float(norm > 1.0) for norm in norms] and set(shares) == {0.0, 1.0}
    found = hpjax.run(runs.config(tmp_path / "means", log_every="8", **clipped))
    means = [line["train/clipped"] for line in found.history if "train/clipped" in line]
    assert means == np.reshape(shares, (5, 8)).mean(1).tolist()
