"""The measure of a split: exact whatever its size, on one device and on two, for metrics of every reduction."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from jax.sharding import Mesh, PartitionSpec

from hpjax import metrics
from hpjax.batch import Examples, Reader
from hpjax.evaluation import COUNT, Measure, finish

BATCH, CLASSES, FEATURES, EXAMPLES = 8, 3, 4, 61
NAMES = ("accuracy", "perplexity", "f1_macro", "f1_per_class", "calibration_error", "roc_auc", "confusion_matrix")


def measured(measure, outputs, examples, start, size, devices):
    """Returns what `Measure.split` gives on some devices, as NumPy arrays."""
    if devices == 1:
        return jax.device_get(jax.jit(partial(measure.split, outputs))(examples, start, size))
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    split = partial(measure.split, outputs, shards=devices, axis="data")
    everywhere = PartitionSpec()
    mapped = jax.shard_map(split, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)
    return jax.device_get(jax.jit(mapped)(examples, start, size))


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_exact_over_splits_of_odd_sizes(rng, devices, masked):
    names = ("accuracy", "perplexity") if masked else NAMES
    x = rng.normal(size=(EXAMPLES, FEATURES)).astype(np.float32)
    y = rng.integers(CLASSES, size=EXAMPLES).astype(np.int32)
    if masked:
        y[rng.permutation(EXAMPLES)[:20]] = -1
    weights = rng.normal(size=(FEATURES, CLASSES)).astype(np.float32)
    measure = Measure("cross_entropy", names, Reader(), BATCH, EXAMPLES, masked)
    examples = Examples(jnp.asarray(x), jnp.asarray(y))
    run = partial(measured, measure, lambda x: x @ weights, examples, devices=devices)
    for start, size in ((0, 61), (3, 8), (5, 37), (60, 1), (10, 7), (20, 41)):
        found = run(np.int32(start), np.int32(size))
        numbers, tables = finish(found, size)
        labels, logits = y[start : start + size], (x @ weights)[start : start + size].astype(np.float64)
        here = labels >= 0
        assert found[COUNT] == here.sum()
        if not here.any():
            continue
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        loss = -log_p[np.arange(size), labels][here].mean()
        # A small loss is the difference of logits, which are rounded as large as they are.
        assert numbers["loss"] == pytest.approx(loss, rel=2e-6, abs=2**-23 * np.abs(logits).max())
        assert numbers["perplexity"] == pytest.approx(np.exp(loss), rel=2e-6)
        right = logits.argmax(axis=1) == labels
        assert numbers["accuracy"] == pytest.approx(right[here].mean(), abs=1e-7)
        if masked:
            continue
        guess = logits.argmax(axis=1)
        np.testing.assert_array_equal(
            tables["confusion_matrix"], sklearn.metrics.confusion_matrix(labels, guess, labels=range(CLASSES))
        )
        f1 = sklearn.metrics.f1_score(labels, guess, labels=range(CLASSES), average=None, zero_division=0)
        present = [c for c in range(CLASSES) if c in labels or c in guess]
        np.testing.assert_allclose(np.asarray(tables["f1_per_class"])[present], f1[present], atol=1e-12)
        if set(labels) == set(range(CLASSES)):
            p = np.exp(log_p)
            area = sklearn.metrics.roc_auc_score(labels, p / p.sum(axis=1, keepdims=True), multi_class="ovr")
            assert numbers["roc_auc"] == pytest.approx(area, abs=1e-9)
        assert 0 <= numbers["calibration_error"] <= 1
        assert set(numbers) == {"loss", *filter(metrics.is_scalar, NAMES)}
        assert set(tables) == set(NAMES) - set(numbers)


def test_sums_and_kept_values_do_not_depend_on_the_devices(rng):
    """Counts are whole numbers and kept values are copies: equal to the last bit, where the outputs are.

    The outputs are whole numbers, for a product of another batch rounds otherwise.
    """
    x = rng.integers(-8, 9, size=(EXAMPLES, FEATURES)).astype(np.float32)
    y = rng.integers(CLASSES, size=EXAMPLES).astype(np.int32)
    measure = Measure("cross_entropy", NAMES, Reader(), BATCH, EXAMPLES, False)
    weights = rng.integers(-8, 9, size=(FEATURES, CLASSES)).astype(np.float32)
    examples = Examples(jnp.asarray(x), jnp.asarray(y))
    one, two, four = (measured(measure, lambda x: x @ weights, examples, np.int32(4), np.int32(57), n) for n in (1, 2, 4))
    for other in (two, four):
        for name in ("confusion_matrix", "f1_macro", "roc_auc"):
            kept = slice(57) if metrics.reduction(name) == "keep" else slice(None)
            np.testing.assert_array_equal(other[name][kept], one[name][kept], err_msg=name)


def test_outputs_that_are_nan_have_no_metrics():
    """They would all be taken for class 0: an accuracy of 1 on a split of class 0."""
    names = ("accuracy", "f1_macro", "roc_auc")
    measure = Measure("cross_entropy", names, Reader(), BATCH, EXAMPLES, False)
    examples = Examples(jnp.ones((9, FEATURES)), jnp.zeros(9, jnp.int32))
    found = measured(measure, lambda x: x[:, :CLASSES] * jnp.nan, examples, np.int32(0), np.int32(9), 1)
    numbers, _ = finish(found, 9)
    assert set(numbers) == {"loss", *names}
    assert all(map(math.isnan, numbers.values()))


def test_an_empty_split_has_nothing():
    measure = Measure("cross_entropy", ("accuracy", "f1_macro", "roc_auc"), Reader(), BATCH, EXAMPLES, False)
    examples = Examples(jnp.ones((9, FEATURES)), jnp.zeros(9, jnp.int32))
    found = measured(measure, lambda x: x[:, :CLASSES], examples, np.int32(9), np.int32(0), 1)
    assert found["loss"] == found["accuracy"] == found[COUNT] == 0


def test_a_regression_is_measured_in_the_targets_own_units(rng):
    x = rng.normal(size=(EXAMPLES, FEATURES)).astype(np.float32)
    y = rng.normal(size=EXAMPLES).astype(np.float32)
    weights = rng.normal(size=(FEATURES, 1)).astype(np.float32)
    measure = Measure("mse", ("mae", "rmse", "r2"), Reader(task="regression"), BATCH, EXAMPLES, False)
    examples = Examples(jnp.asarray(x), jnp.asarray(y))
    found = measured(measure, lambda x: x @ weights, examples, np.int32(0), np.int32(EXAMPLES), 2)
    numbers, _ = finish(found, EXAMPLES, target_scale=20.0)
    error = (x @ weights)[:, 0].astype(np.float64) - y
    assert numbers["loss"] == pytest.approx((error**2).mean(), rel=2e-6)
    assert numbers["mae"] == pytest.approx(20 * np.abs(error).mean(), rel=2e-6)
    assert numbers["rmse"] == pytest.approx(20 * np.sqrt((error**2).mean()), rel=2e-6)
    assert numbers["r2"] == pytest.approx(sklearn.metrics.r2_score(y, (x @ weights)[:, 0]), rel=1e-4)
