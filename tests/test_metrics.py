"""Metrics against scikit-learn on whole splits that are fed batch by batch, and the conformance of every one."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from hpjax import metrics
from hpjax.errors import ConfigError
from hpjax.losses import weights
from hpjax.losses.registry import TASKS
from hpjax.metrics import METRICS
from hpjax.metrics.registry import tasks

SCALE = (0.5, 3.0, 0.01, 1.0, 2.0, 1.0, 7.0)
"""What the targets of a regression were divided by."""


def measured(name, outputs, targets, batch_size=37, target_scale=1.0):
    """Returns a metric over a split as a trial measures it: whole batches, the last one filled up with its last example."""

    @jax.jit
    def batch(outputs, targets, present):
        with jax.numpy_dtype_promotion("strict"):
            value = METRICS.get(name)(outputs, targets)
        count = weights(targets) * present.reshape(-1, *(1,) * (targets.ndim - 1 if targets.dtype == jnp.int32 else 0))
        if metrics.reduction(name) == "mean":
            assert value.shape == count.shape and value.dtype == jnp.float32
            return (value * count).sum(), count.sum()
        if metrics.reduction(name) == "sum":
            return jnp.where(present.reshape(-1, *(1,) * (value.ndim - 1)) > 0, value, 0).sum(axis=0), count.sum()
        return value, count.sum()

    size, total, items, rows = len(outputs), 0, np.float32(0), []
    for start in range(0, size, batch_size):
        place = start + np.arange(batch_size)
        index = np.minimum(place, size - 1)
        present = (place < size).astype(np.float32)
        value, count = jax.device_get(batch(jnp.asarray(outputs[index]), jnp.asarray(targets[index]), jnp.asarray(present)))
        items = items + count
        if metrics.reduction(name) == "keep":
            rows.append(value)
        else:
            total = total + value
    if metrics.reduction(name) == "keep":
        total = np.concatenate(rows)[:size]
    elif metrics.is_mean(name):
        total = total / np.maximum(items, 1)
    return metrics.finish(name, total, target_scale)


# What to measure: random splits of every task, with what goes wrong in real ones


def classification(rng, size=211, classes=7, present=None):
    """Returns logits that know something of their labels; only the classes in `present` are among the labels."""
    labels = rng.choice(np.arange(classes) if present is None else present, size=size).astype(np.int32)
    logits = 2 * rng.normal(size=(size, classes)) + 2 * np.eye(classes)[labels]
    return away_from_edges(logits.astype(np.float32)), labels


def away_from_edges(logits):
    """Moves confidences that float32 could put into another bin than float64; at edges there is a test of its own."""
    near = np.abs(softmax(logits.astype(np.float64), -1).max(-1) * 15 % 1 - 0.5) > 0.4999
    logits[near] *= 1.01
    return logits


def masked(outputs, targets, rng):
    return outputs, np.where(rng.uniform(size=targets.shape) < 0.3, -1, targets).astype(np.int32)


def splits_of(task, rng):
    """Returns (outputs, targets) by what is special about them."""
    if task == "classification":
        plain, never = classification(rng), classification(rng, present=[0, 2, 3])
        never[0][:, 5] = -50
        tied = classification(rng)
        return {
            "plain": plain,
            "masked": masked(*classification(rng), rng),
            "two classes": classification(rng, classes=2),
            "classes without examples, one never predicted": never,
            "one class only": classification(rng, size=20, present=[1]),
            "fewer classes than five": classification(rng, classes=4),
            "ties": (away_from_edges(np.round(tied[0])), tied[1]),
            "one example": classification(rng, size=1),
        }
    if task == "language":
        logits, labels = classification(rng, size=45 * 6, classes=11)
        tokens = logits.reshape(45, 6, 11), labels.reshape(45, 6)
        return {"plain": tokens, "masked": masked(*tokens, rng)}
    if task == "multilabel":
        targets = (rng.uniform(size=(211, 7)) < 0.4).astype(np.float32)
        logits = (rng.normal(size=targets.shape) + 2 * targets - 1).astype(np.float32)
        empty, unsaid = targets.copy(), logits.copy()
        empty[:, 3] = 0
        unsaid[:, 3] = -1
        return {"plain": (logits, targets), "ties": (np.round(logits), targets), "an empty label": (unsaid, empty)}
    # As standardised targets are: mean 0 and deviation 1 on another split.
    targets = (0.3 + 1.1 * rng.normal(size=(211, 7))).astype(np.float32)
    noise = rng.uniform(0.1, 1.5, size=7) * rng.normal(size=targets.shape)
    outputs = (targets + noise).astype(np.float32)
    constant = np.where(np.arange(7) == 3, np.float32(0.3), targets)
    return {"plain": (outputs, targets), "one target": (outputs[:, :1], targets[:, :1]), "a constant": (outputs, constant)}


def shown(outputs, targets):
    """Returns items that are not masked as float64 [items, outputs], and their targets."""
    if targets.dtype == np.int32:
        outputs, targets = outputs[targets >= 0], targets[targets >= 0]
    return outputs.astype(np.float64), targets


# The oracles


def said(outputs, targets):
    return outputs.argmax(-1) if targets.dtype == np.int32 else (outputs > 0).astype(int)


def scores(function, average):
    def oracle(z, y):
        # Of all classes for a table of them; a mean takes scikit-learn's own choice of classes.
        labels = range(z.shape[1]) if average is None and y.dtype == np.int32 else None
        return function(y, said(z, y), average=average, labels=labels, zero_division=0.0)

    return oracle


def roc_auc_oracle(z, y):
    if y.dtype != np.int32:
        return sk.roc_auc_score(y, z, average="macro")
    if z.shape[1] == 2:
        return sk.roc_auc_score(y, z[:, 1] - z[:, 0])
    # The order of a sum must not tell apart what is a tie.
    exponential = np.exp(z - z.max(-1, keepdims=True))
    p = exponential / np.sort(exponential, -1).sum(-1, keepdims=True)
    return np.mean([sk.roc_auc_score(y == k, p[:, k]) for k in range(z.shape[1])])


def top5_oracle(z, y):
    # scikit-learn counts the last of equal ones as the larger: give it the classes the other way round.
    k = min(5, z.shape[1])
    places = np.argsort(-z, axis=-1, kind="stable")[:, :k]
    return np.mean((places == y[:, None]).any(-1))


def calibration_oracle(z, y):
    p = softmax(z, -1)
    confidence, right, error = p.max(-1), z.argmax(-1) == y, 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


def nats(z, y):
    return sk.log_loss(y, softmax(z, -1), labels=range(z.shape[1]))


ORACLES = {
    "accuracy": lambda z, y: sk.accuracy_score(y, said(z, y)),
    "top5": top5_oracle,
    "calibration_error": calibration_oracle,
    "precision_macro": scores(sk.precision_score, "macro"),
    "recall_macro": scores(sk.recall_score, "macro"),
    "f1_macro": scores(sk.f1_score, "macro"),
    "precision_per_class": scores(sk.precision_score, None),
    "recall_per_class": scores(sk.recall_score, None),
    "f1_per_class": scores(sk.f1_score, None),
    "confusion_matrix": lambda z, y: sk.confusion_matrix(y, said(z, y), labels=range(z.shape[1])),
    "perplexity": lambda z, y: np.exp(nats(z, y)),
    "bits_per_character": lambda z, y: nats(z, y) / np.log(2),
    "binary_accuracy": lambda z, y: 1 - sk.hamming_loss(y, said(z, y)),
    "exact_match": lambda z, y: sk.accuracy_score(y, said(z, y)),
    "roc_auc": roc_auc_oracle,
    "r2": lambda z, y: sk.r2_score(y.astype(np.float64), z),
    "mae": lambda z, y: sk.mean_absolute_error(y * np.array(SCALE[: y.shape[1]]), z * np.array(SCALE[: y.shape[1]])),
    "rmse": lambda z, y: sk.root_mean_squared_error(y * np.array(SCALE[: y.shape[1]]), z * np.array(SCALE[: y.shape[1]])),
}

EXACT = ("precision", "recall", "f1", "confusion", "roc_auc")
PAIRS = [(name, task) for name in METRICS.names() for task in tasks(name)]


def compare(name, got, expected):
    tolerance = 1e-12 if name.startswith(EXACT) else 2e-6
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_is_the_oracles(rng, name, task):
    for kind, (outputs, targets) in splits_of(task, rng).items():
        scale = SCALE[: targets.shape[1]] if task == "regression" else 1.0
        got = measured(name, outputs, targets, target_scale=scale)
        with warnings.catch_warnings():
            # Where a score is not defined scikit-learn warns.
            warnings.simplefilter("ignore")
            expected = ORACLES[name](*shown(outputs, targets))
        print(kind, got, expected)
        assert isinstance(got, float) == (np.ndim(expected) == 0) == metrics.is_scalar(name)
        compare(name, got, expected)


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_neither_batches_nor_order_matter(rng, name, task):
    outputs, targets = next(iter(splits_of(task, rng).values()))
    expected = measured(name, outputs, targets, len(outputs))
    for batch_size in (1, 10, 64, 1000):
        compare(name, measured(name, outputs, targets, batch_size), expected)
    order = rng.permutation(len(outputs))
    compare(name, measured(name, outputs[order], targets[order]), expected)


@pytest.mark.parametrize(("name", "task"), [pair for pair in PAIRS if pair[1] in ("classification", "language")])
def test_masked_items_are_as_if_left_out(rng, name, task):
    outputs, targets = splits_of(task, rng)["masked"]
    if task == "language":
        # Every example has items left, and all of them are masked in some.
        targets[:5] = -1
        outputs, targets = np.concatenate([outputs, outputs[:5]]), np.concatenate([targets, targets[:5]])
    got = measured(name, outputs, targets)
    outputs[targets < 0] = rng.normal(size=outputs.shape[-1]) * 100
    np.testing.assert_array_equal(measured(name, outputs, targets), got)


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_an_empty_split_has_no_value_and_no_error(rng, name, task):
    """A mean over nothing is 0, as the trial divides; the rest is not defined."""
    outputs, targets = next(iter(splits_of(task, rng).values()))
    shape = jax.eval_shape(METRICS.get(name), outputs[:1], targets[:1]).shape
    reduced = {"mean": (), "sum": shape[1:], "keep": (0, *shape[1:])}[metrics.reduction(name)]
    got = metrics.finish(name, np.zeros(reduced, np.float32))
    assert metrics.is_mean(name) or np.isnan(got).all() or not np.any(got)


@pytest.mark.parametrize(("name", "task"), [pair for pair in PAIRS if pair[0].startswith(("precision", "recall", "f1"))])
def test_counts_are_exact_for_any_number_of_examples(rng, name, task):
    """What is counted is int32, as if the split were seen 2^21 times here: float32 has no 2^24 + 1."""
    outputs, targets = next(iter(splits_of(task, rng).values()))
    statistics = np.asarray(jax.jit(METRICS.get(name))(outputs, targets))
    assert statistics.dtype == np.int32
    compare(name, metrics.finish(name, statistics.sum(axis=0) * np.int32(2**21)), measured(name, outputs, targets))


def test_confidences_on_an_edge_belong_to_the_bin_below():
    """1/3 is the upper edge of the fifth bin: what is just above it lies in the sixth."""
    on, above = np.zeros((10, 3), np.float32), np.tile(np.float32([1e-3, 0, 0]), (10, 1))
    labels = np.int32([0] * 10 + [1] * 10)
    p = softmax(np.float64(above[0]))[0]
    got = measured("calibration_error", np.concatenate([on, above]), labels)
    assert got == pytest.approx((2 / 3 + p) / 2, rel=1e-6)


def test_saturated_probabilities_are_still_ranked(rng):
    """Softmax rounds all of these to 1; the logits tell them apart."""
    margin = rng.permutation(np.arange(200, dtype=np.float32)) + 800
    labels = (margin + 60 * rng.normal(size=200) > 900).astype(np.int32)
    expected = sk.roc_auc_score(labels, margin)
    assert 0.5 < expected < 1
    two = np.stack([np.zeros_like(margin), margin], axis=1)
    assert measured("roc_auc", two, labels) == pytest.approx(expected, abs=1e-12)


def test_outputs_that_are_not_numbers_are_never_right():
    nothing, labels = np.full((4, 9), np.nan, np.float32), np.int32([1, 2, 3, 8])
    assert measured("accuracy", nothing, labels) == measured("top5", nothing, labels) == 0
    assert np.isnan(measured("roc_auc", nothing, labels)) and np.isnan(measured("perplexity", nothing, labels))


def test_accuracy_of_a_mixed_target_is_that_of_its_larger_part(rng):
    logits, labels = classification(rng)
    other = rng.integers(7, size=len(labels))
    mixed = np.float32(0.7) * np.eye(7, dtype=np.float32)[labels] + np.float32(0.3) * np.eye(7, dtype=np.float32)[other]
    for name in ("accuracy", "top5"):
        assert measured(name, logits, mixed) == measured(name, logits, labels)


def test_a_perplexity_past_float64_is_infinite():
    assert metrics.finish("perplexity", np.float32(1e4)) == np.inf


@pytest.mark.parametrize(("offset", "deviation", "tolerance"), [(0.0, 1.0, 1e-5), (0.3, 1.0, 1e-5), (3.0, 0.1, 1e-3)])
def test_r2_of_a_large_split_keeps_its_digits(rng, offset, deviation, tolerance):
    """Sums of squares in float32; a split whose mean is 30 of its own deviations from 0 loses digits, not more."""
    targets = (offset + deviation * rng.normal(size=(100_000, 1))).astype(np.float32)
    outputs = (targets + deviation * rng.normal(size=targets.shape)).astype(np.float32)
    expected = sk.r2_score(targets.astype(np.float64), outputs.astype(np.float64))
    assert measured("r2", outputs, targets, 512) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("value", [0.1, 0.3, 17.0])
def test_r2_of_a_constant_is_scikit_learns(value):
    targets = np.full((1000, 1), value, np.float32)
    assert measured("r2", targets, targets) == 1.0
    assert measured("r2", targets + np.float32(0.5), targets) == 0.0
    assert np.isnan(measured("r2", targets[:1], targets[:1]))


# Names and tasks


@pytest.mark.parametrize("task", TASKS)
def test_the_defaults_of_a_task_are_numbers_for_it(task):
    metrics.check(metrics.for_task(task), task)
    assert all(map(metrics.is_scalar, metrics.for_task(task)))


def test_only_means_are_logged_while_training():
    means = {name for name in METRICS.names() if metrics.is_mean(name)}
    assert {"accuracy", "top5", "perplexity", "bits_per_character", "binary_accuracy", "exact_match"} == means


@pytest.mark.parametrize(
    ("names", "task", "message"),
    [
        (("acuracy",), "classification", "metric 'acuracy' is unknown; did you mean 'accuracy'? known: "),
        (
            ("r2", "f1_macro"),
            "regression",
            "metric 'f1_macro' is not for regression, the data set's task; expected some of r2",
        ),
        (("mae", "r2", "mae"), "regression", "metrics is 'mae,r2,mae'; expected 'mae' once"),
    ],
)
def test_refused(names, task, message):
    with pytest.raises(ConfigError) as error:
        metrics.check(names, task)
    assert str(error.value).startswith(message)


def test_a_plug_in_is_a_mean_for_every_task(monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    monkeypatch.setattr(METRICS, "_imported", {})
    for task in TASKS:
        metrics.check(("jax.numpy:hypot",), task)
    assert metrics.is_mean("jax.numpy:hypot") and metrics.is_scalar("jax.numpy:hypot")
    assert metrics.finish("jax.numpy:hypot", np.float32(0.5)) == 0.5
