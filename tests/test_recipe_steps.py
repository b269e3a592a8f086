"""The first steps of the recipe: planted faults are found and named, a healthy run gets no warning."""

import dataclasses

import numpy as np
import pytest

from hpjax import build, resolve
from hpjax.config import Config
from hpjax.data import Dataset
from hpjax.recipe import batch
from hpjax.recipe.context import Clock, Context, first_fold
from hpjax.recipe.data_checks import data_notes
from hpjax.recipe.diagnosis import curves_of, diagnose
from hpjax.recipe.finder import finder
from hpjax.recipe.finding import Finding
from hpjax.recipe.gradient import gradient
from hpjax.recipe.initial import initial
from hpjax.recipe.overfit import overfit
from hpjax.recipe.schedule_checks import schedule_notes
from hpjax.study.study import run_sweep

BASE = Config(
    dataset="digits", model="mlp", hidden_sizes="32", optimizer="adamw", learning_rate=0.003, train_steps="3epochs",
    batch_size=64, test_fraction=0.2,
)  # fmt: skip


def context(config: Config = BASE, **changes) -> Context:
    resolved = resolve.resolve(config)
    dataset = dataclasses.replace(build.load(resolved), **changes)
    return Context(resolved, dataset, {}, 2, Clock(60.0), None, None, lambda line: None)  # type: ignore[arg-type]


def warnings(found: Finding) -> dict[str, str]:
    return {note.rule: note.evidence for note in found.notes if note.verdict != "ok"}


def digits() -> Dataset:
    return context().dataset


def test_a_target_that_never_changes_is_found():
    config = resolve.resolve(Config(dataset="diabetes", batch_size=32))
    dataset = build.load(config)
    same = dataclasses.replace(dataset, y=np.zeros_like(dataset.y))
    found = initial(Context(config, same, {}, 2, Clock(60.0), None, None, lambda line: None))  # type: ignore[arg-type]
    assert found.verdict == "failed" and "same value in all examples" in warnings(found)["constant_targets"]


def test_of_folds_the_first_is_looked_at(rng):
    config = resolve.resolve(BASE.replace(folds=5))
    folded = build.load(config)
    apart = first_fold(folded, 5)
    assert {note.rule for note in data_notes(folded) if note.verdict != "ok"} == {"val_overlap"}
    assert all(note.verdict == "ok" for note in data_notes(apart))
    for split in ("val", "test"):
        for got, expected in zip(apart.part(split), folded.part(split), strict=True):
            np.testing.assert_array_equal(got, expected)
    start, size = folded.splits["val"]
    rest = folded.y[start + size : folded.splits["test"][0]]
    np.testing.assert_array_equal(apart.part("train")[1], rest)
    assert first_fold(folded, None) is folded


@pytest.mark.parametrize("size", [batch.SMALLEST, batch.LARGEST])
def test_every_batch_size_is_timed(monkeypatch, size):
    """A run without an end has fewer than 2^31 examples in large batches, too."""
    monkeypatch.setattr(batch, "SECONDS", 0.01)
    config = BASE.replace(dataset="synthetic", examples=6000, model="logistic", hidden_sizes=None, test_fraction=0.0)
    assert batch._rate(context(config), size) > 0


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_gets_no_warning(seed):
    healthy = context(BASE.replace(seed=seed))
    for step in (initial, gradient, overfit, finder):
        found = step(healthy)
        assert warnings(found) == {}
        assert found.verdict == "ok" and not found.stops


def test_healthy_curves_of_five_seeds_get_no_warning(tmp_path):
    healthy = Config(
        dataset="digits", model="mlp", hidden_sizes="64", dropout_rate=0.2, optimizer="adamw", learning_rate=0.003,
        batch_size=64, weight_decay=0.01, schedule="cosine", warmup="5%", train_steps="30epochs", eval_every="3epochs",
        progress=False, tensorboard=False,
    )  # fmt: skip
    study = run_sweep(healthy, {"seed": "range(5)"}, trials=5, study=str(tmp_path / "study"))
    assert len(study.records) == 5
    for record in study.records:
        notes = list(diagnose(curves_of(record, study.objective, np.log(10), record.curve[-1].step)))
        assert [note for note in notes if note.verdict != "ok"] == []


def test_the_finder_shows_other_optimizers_and_stops_in_time():
    found = finder(context())
    assert found.tables["suggestions"]["optimizer"] == ["adamw", "momentum", "lars", "lamb"]
    for name in ("optimizers", "ramps"):
        assert set(found.tables[name]["optimizer"]) == {"adamw", "momentum", "lars", "lamb"}
    assert "optimizer" in {note.rule for note in found.notes}
    hurried = context()
    # It is over before it has begun: the least that says anything is done all the same.
    hurried.deadline = 0.0
    found = finder(hurried)
    assert "suggestions" not in found.tables and found.facts["steps"] == 10
    assert found.settings["learning_rate"]


def test_a_sample_that_there_was_no_time_for_fails_nothing():
    hurried = context(BASE.replace(hidden_sizes="3"))
    hurried.deadline = 0.0
    found = overfit(hurried)
    assert found.verdict == "warning" and not found.stops
    assert "no time for more" in found.notes[0].evidence


def test_the_loss_at_chance_is_that_of_the_labels(rng):
    found = initial(context())
    assert found.facts["chance"] == pytest.approx(np.log(10), rel=1e-5)
    y = digits().part("train")[1]
    shares = np.bincount(y, minlength=10) / len(y)
    assert found.facts["constant"] == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-4)
    table = found.tables["layers"]
    assert {"output"} < set(table["layer"]) and set(table["kind"]) == {"activation", "gradient"}


def test_inputs_that_are_not_normalised_are_named():
    assert "standardised" in warnings(initial(context(scale=1.0, shift=1000.0)))


def test_one_feature_that_dwarfs_the_others_is_named(rng):
    table = rng.normal(size=(200, 5)).astype(np.float32)
    table[:, 2] *= 1e4
    splits = {"train": (0, 180), "val": (180, 20), "test": (200, 0)}
    found = data_notes(dataclasses.replace(digits(), x=table, y=np.arange(200, dtype=np.int32) % 10, splits=splits))
    (note,) = (note for note in found if note.rule == "standardised")
    assert note.verdict == "warning" and "one feature spreads" in note.evidence


@pytest.mark.parametrize("split", ["val", "test"])
def test_rows_copied_from_the_training_split_are_named(rng, split):
    data = digits()
    x = data.x.copy()
    start, size = data.splits[split]
    share = 0.1
    copies = rng.choice(size, int(share * size), replace=False)
    x[start + copies] = x[rng.choice(data.splits["train"][1], len(copies))]
    found = warnings(initial(context(x=x)))
    assert set(found) == {f"{split}_overlap"}
    assert f"{len(copies) / size:.1%} of the {split} inputs" in found[f"{split}_overlap"]


def test_a_class_that_is_rare_or_absent_is_named():
    data = digits()
    y = data.y.copy()
    y[y == 3] = 4
    assert "label_balance" in warnings(initial(context(y=y)))
    y = data.y.copy()
    y[np.flatnonzero(y == 3)[5:]] = 4
    assert "to 1" in warnings(initial(context(y=y)))["label_balance"]


@pytest.mark.parametrize(
    ("model", "rule"),
    [("zero_layer", "silent_layers"), ("dead_relu", "dead_units")],
)
def test_layers_that_are_dead_at_the_start_are_named(model, rule):
    found = initial(context(BASE.replace(model=f"faulty_models:{model}", hidden_sizes=None)))
    assert "hidden" in warnings(found)[rule]
    assert "vanishing_gradients" in warnings(found)


def test_a_wrong_gradient_is_named_with_its_layer():
    found = gradient(context(BASE.replace(model="faulty_models:wrong_gradient", hidden_sizes=None)))
    assert found.stops and found.verdict == "failed"
    assert "hidden/" in warnings(found)["gradient"]
    off = dict(zip(found.tables["gradients"]["parameter"], found.tables["gradients"]["difference"], strict=True))
    assert off["hidden/kernel"] > 1 and off["out/kernel"] < 1e-6


def test_a_model_that_is_too_small_cannot_learn_a_sample_by_heart():
    for size in ("1", "3"):
        found = overfit(context(BASE.replace(hidden_sizes=size)))
        assert set(warnings(found)) == {"overfit"}
        assert "model" in found.notes[0].remedy


def test_a_network_that_sees_nothing_stops_the_recipe():
    data = digits()
    found = overfit(context(x=np.zeros_like(data.x)))
    assert found.stops and found.verdict == "failed"


def test_labels_that_are_shuffled_are_named(rng):
    y = rng.permutation(digits().y)
    assert "labels" in warnings(finder(context(y=y)))


@pytest.mark.parametrize(("rate", "word"), [(3.0, "high"), (1e-6, "low")])
def test_a_configured_rate_that_is_far_off_is_named(rate, word):
    found = finder(context(BASE.replace(learning_rate=rate)))
    assert f"is too {word}" in warnings(found)["configured_rate"]
    assert 1e-3 <= float(found.settings["learning_rate"]) <= 0.1


def test_a_schedule_that_decays_at_a_tenth_of_the_run_is_named():
    early = BASE.replace(schedule="step", step_size="5%", gamma=0.01, train_steps="200")
    (note,) = schedule_notes(resolve.resolve(early), 1000)
    assert (note.rule, note.verdict) == ("decays_too_early", "warning")
    for schedule in ("constant", "cosine", "linear", "wsd"):
        (note,) = schedule_notes(resolve.resolve(BASE.replace(schedule=schedule, warmup="10%")), 1000)
        assert note.verdict == "ok"
