"""Losses against torch in float64 and metrics against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from hpjax.losses import METRICS, cross_entropy


@jax.jit
def loss_and_gradient(logits, labels, smoothing, cotangent):
    loss, pullback = jax.vjp(lambda x: cross_entropy(x, labels, label_smoothing=smoothing), logits)
    return loss, pullback(cotangent)[0]


def relative(got, expected) -> float:
    return np.linalg.norm(np.asarray(got, np.float64) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 1e-6)])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_cross_entropy_is_torch_cross_entropy(torch, rng, classes, dtype, tolerance):
    logits = (3 * rng.normal(size=(17, classes))).astype(np.float32).astype(np.float64)
    labels = rng.integers(classes, size=17)
    cotangent = rng.normal(size=17).astype(np.float32).astype(np.float64)
    for smoothing in map(float, np.float32([0.0, 0.1, rng.uniform(), 0.99])):
        x = torch.tensor(logits, requires_grad=True)
        expected = torch.nn.functional.cross_entropy(x, torch.tensor(labels), label_smoothing=smoothing, reduction="none")
        expected.backward(torch.tensor(cotangent))
        with jax.enable_x64(dtype == np.float64):
            loss, gradient = loss_and_gradient(
                logits.astype(dtype), labels.astype(np.int32), dtype(smoothing), cotangent.astype(dtype)
            )
        assert loss.dtype == gradient.dtype == dtype
        assert relative(loss, expected.detach().numpy()) < tolerance
        assert relative(gradient, x.grad.numpy()) < tolerance


def test_label_smoothing_is_traced_and_zero_by_default(rng):
    logits, labels = rng.normal(size=(8, 5)).astype(np.float32), rng.integers(5, size=8)
    smoothed = jax.jit(lambda smoothing: cross_entropy(logits, labels, label_smoothing=smoothing))
    values = [smoothed(np.float32(smoothing)) for smoothing in (0.0, 0.1, 0.5)]
    assert smoothed._cache_size() == 1
    np.testing.assert_allclose(values[0], cross_entropy(logits, labels), rtol=1e-6)
    assert (values[0] != values[1]).all() and (values[1] != values[2]).all()


@pytest.mark.parametrize("size", [1e3, 1e30])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_extreme_logits_give_the_exact_finite_loss(size, smoothing):
    """The softmax has saturated: right is 0 and wrong is the difference of the logits, but for smoothing."""
    logits = np.float32([[size, -size, 0], [size, -size, 0], [0, 0, 0], [-size, -size, -size]])
    loss, gradient = loss_and_gradient(logits, np.int32([0, 1, 2, 0]), np.float32(smoothing), np.ones(4, np.float32))
    flat = np.log(3)
    spread = 3 * size * smoothing / 3
    expected = [spread, (1 - smoothing) * 2 * size + spread, flat, flat]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    high, low = 1 - smoothing + smoothing / 3, smoothing / 3
    softmax = np.array([[1, 0, 0], [1, 0, 0], [1 / 3] * 3, [1 / 3] * 3])
    target = np.array([[high, low, low], [low, high, low], [low, low, high], [high, low, low]])
    np.testing.assert_allclose(gradient, softmax - target, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("classes", [2, 10])
def test_accuracy_is_scikit_learns(rng, classes):
    logits = rng.normal(size=(500, classes)).astype(np.float32)
    labels = np.where(rng.uniform(size=500) < 0.5, logits.argmax(axis=1), rng.integers(classes, size=500))
    each = METRICS.get("accuracy")(jnp.asarray(logits), jnp.asarray(labels))
    assert (each.shape, each.dtype) == ((500,), jnp.float32)
    assert float(each.sum()) == accuracy_score(labels, logits.argmax(axis=1), normalize=False)
