"""Losses against torch in float64, and the conformance of every registered loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpjax import losses
from hpjax.errors import ConfigError
from hpjax.losses import LOSSES, cross_entropy, weights
from hpjax.losses.registry import TASKS, tasks

CLASSES = 5


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


# Every loss against its oracle, in float64 and float32: values and gradients


def classes_of(torch, y):
    """Returns targets as distributions, float64 [..., classes], 0 where masked."""
    if y.dtype == torch.float64:
        return y
    return torch.eye(CLASSES, dtype=torch.float64)[y.clamp(min=0)] * (y >= 0)[..., None]


def smoothed(torch, y, uniform, share):
    """Mixes a distribution with the uniform one; a masked item stays 0."""
    return (1 - share) * y + share * uniform * (y.sum(-1, keepdim=True) > 0).double()


def torch_cross_entropy(torch, x, y, label_smoothing=0.0):
    settings = {"label_smoothing": label_smoothing, "reduction": "none"}
    if y.dtype != torch.float64:
        settings["ignore_index"] = -1
    # torch has the classes on the second axis.
    return torch.nn.functional.cross_entropy(
        x.movedim(-1, 1), y if y.dtype != torch.float64 else y.movedim(-1, 1), **settings
    )


def torch_focal(torch, x, y, focal_gamma=2.0, label_smoothing=0.0):
    """Equation 4 of the paper as it is written, from probabilities, in float64."""
    p = torch.softmax(x, -1)
    target = smoothed(torch, classes_of(torch, y), 1 / CLASSES, label_smoothing)
    return -(target * (1 - p) ** focal_gamma * torch.log(p)).sum(-1)


def torch_binary_cross_entropy(torch, x, y, label_smoothing=0.0):
    y = (1 - label_smoothing) * y + label_smoothing / 2
    return torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none").mean(-1)


def torch_binary_focal(torch, x, y, focal_gamma=2.0, label_smoothing=0.0):
    p, y = torch.sigmoid(x), (1 - label_smoothing) * y + label_smoothing / 2
    return -(y * (1 - p) ** focal_gamma * torch.log(p) + (1 - y) * p**focal_gamma * torch.log(1 - p)).mean(-1)


def torch_mse(torch, x, y):
    return torch.nn.functional.mse_loss(x, y, reduction="none").mean(-1)


def torch_huber(torch, x, y, huber_delta=1.0):
    return torch.nn.functional.huber_loss(x, y, reduction="none", delta=huber_delta).mean(-1)


ORACLES = {
    "cross_entropy": torch_cross_entropy,
    "focal": torch_focal,
    "binary_cross_entropy": torch_binary_cross_entropy,
    "binary_focal": torch_binary_focal,
    "mse": torch_mse,
    "huber": torch_huber,
}
RANGES = {"label_smoothing": (0.0, 0.99), "focal_gamma": (0.0, 5.0), "huber_delta": (0.1, 3.0)}
EDGES = {"focal_gamma": (0.0, 0.5, 1.0), "label_smoothing": (0.0,), "huber_delta": ()}


def targets_for(rng, task, batch=17, time=3):
    """Returns all kinds of targets that a task may have, by name."""
    if task == "classification":
        soft = rng.dirichlet(np.ones(CLASSES), size=batch)
        return {"labels": rng.integers(CLASSES, size=batch), "soft": soft, "masked": rng.integers(-1, CLASSES, size=batch)}
    if task == "language":
        masked = rng.integers(-1, CLASSES, size=(batch, time))
        return {"tokens": np.abs(masked), "masked": masked, "soft": rng.dirichlet(np.ones(CLASSES), size=(batch, time))}
    if task == "multilabel":
        return {"hard": rng.integers(2, size=(batch, CLASSES)) * 1.0, "soft": rng.uniform(size=(batch, CLASSES))}
    return {"several": rng.normal(size=(batch, CLASSES))}


def outputs_for(rng, task, batch=17, time=3):
    shape = (batch, time, CLASSES) if task == "language" else (batch, CLASSES)
    return (3 * rng.normal(size=shape)).astype(np.float32).astype(np.float64)


def converted(targets, dtype):
    return targets.astype(np.int32) if targets.dtype.kind == "i" else targets.astype(np.float32).astype(dtype)


def drawn(rng, name):
    """Returns settings to test a loss with: drawn ones, and every edge of each setting."""
    draw = lambda: {one: float(np.float32(rng.uniform(*RANGES[one]))) for one in LOSSES.settings(name)}  # noqa: E731
    return [draw(), draw(), *({**draw(), one: edge} for one in LOSSES.settings(name) for edge in EDGES[one])]


PAIRS = [(name, task) for name in LOSSES.names() for task in tasks(name)]


def program(name):
    """Returns the loss and its pullback as one function of arrays, its settings included."""

    @jax.jit
    def run(outputs, targets, settings, cotangent):
        loss, pullback = jax.vjp(lambda x: LOSSES.get(name)(x, targets, **settings), outputs)
        return loss, pullback(cotangent)[0]

    return run


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_values_and_gradients_are_the_oracles(torch, rng, name, task, dtype, tolerance):
    """Measured: at most 2e-7 in float32, 2e-15 in float64; 4e-14 where the oracle takes the logarithm of 1 - p."""
    run, outputs = program(name), outputs_for(rng, task)
    for targets in targets_for(rng, task).values():
        y = torch.tensor(converted(targets, np.float64))
        cotangent = rng.normal(size=outputs.shape[:-1])
        for settings in drawn(rng, name):
            x = torch.tensor(outputs, requires_grad=True)
            expected = ORACLES[name](torch, x, y.long() if targets.dtype.kind == "i" else y, **settings)
            expected.backward(torch.tensor(cotangent))
            with jax.enable_x64(dtype == np.float64), jax.numpy_dtype_promotion("strict"):
                traced = {one: dtype(value) for one, value in settings.items()}
                loss, gradient = run(outputs.astype(dtype), converted(targets, dtype), traced, cotangent.astype(dtype))
            assert loss.shape == outputs.shape[:-1] and loss.dtype == gradient.dtype == dtype
            assert relative(loss, expected.detach().numpy()) < tolerance
            assert relative(gradient, x.grad.numpy()) < tolerance


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_settings_are_traced_and_lanes_have_their_own(rng, name, task):
    assert LOSSES.static(name) == ()
    run, outputs = program(name), outputs_for(rng, task).astype(np.float32)
    targets = converted(next(iter(targets_for(rng, task).values())), np.float32)
    ones = np.ones(outputs.shape[:-1], np.float32)
    lanes = [{one: np.float32(value) for one, value in settings.items()} for settings in drawn(rng, name)]
    alone = [run(outputs, targets, settings, ones) for settings in lanes]
    assert run._cache_size() == 1
    stacked = {one: np.stack([settings[one] for settings in lanes]) for one in lanes[0]}
    if stacked:
        loss, gradient = jax.vmap(run, (None, None, 0, None))(outputs, targets, stacked, ones)
        np.testing.assert_allclose(loss, [each[0] for each in alone], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gradient, [each[1] for each in alone], rtol=1e-5, atol=1e-6)
    assert len({np.asarray(each[0]).tobytes() for each in alone}) == (len(lanes) if stacked else 1)


@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize(("name", "task"), [pair for pair in PAIRS if pair[1] != "regression"])
def test_extreme_logits_are_finite(rng, name, task, size):
    run = program(name)
    outputs = (size * rng.choice([-1, 0, 1], size=outputs_for(rng, task).shape)).astype(np.float32)
    for targets in targets_for(rng, task).values():
        for settings in drawn(rng, name):
            traced = {one: np.float32(value) for one, value in settings.items()}
            loss, gradient = run(outputs, converted(targets, np.float32), traced, np.ones(outputs.shape[:-1], np.float32))
            assert np.isfinite(loss).all() and np.isfinite(gradient).all()
            assert (np.asarray(loss) >= 0).all()


@pytest.mark.parametrize("name", ["mse", "huber"])
def test_large_errors_are_finite(name):
    error = np.float32([[1e4], [-1e4], [0]])
    loss, gradient = program(name)(error, np.zeros(3, np.float32), {}, np.ones(3, np.float32))
    expected = {"mse": [1e8, 1e8, 0], "huber": [1e4 - 0.5, 1e4 - 0.5, 0]}
    np.testing.assert_allclose(loss, expected[name], rtol=1e-6)
    np.testing.assert_allclose(gradient, {"mse": 2 * error, "huber": np.sign(error)}[name])


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_an_item_is_its_own(rng, name, task):
    """A masked item has loss 0 and no gradient, and no item's value depends on another's."""
    run, outputs = program(name), outputs_for(rng, task).astype(np.float32)
    settings = {one: np.float32(value) for one, value in drawn(rng, name)[0].items()}
    ones = np.ones(outputs.shape[:-1], np.float32)
    for kind, given in targets_for(rng, task).items():
        targets = converted(given, np.float32)
        order = rng.permutation(len(outputs))
        loss, gradient = run(outputs, targets, settings, ones)
        moved = run(outputs[order], targets[order], settings, ones)
        np.testing.assert_allclose(moved[0], loss[order], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(moved[1], gradient[order], rtol=1e-5, atol=1e-7)
        count = np.asarray(weights(jnp.asarray(targets)))
        assert count.shape == loss.shape and count.dtype == np.float32
        if kind == "masked":
            assert 0 < count.sum() < count.size
            assert (np.asarray(loss)[count == 0] == 0).all() and (np.asarray(gradient)[count == 0] == 0).all()
        else:
            assert (count == 1).all()


def test_gamma_0_is_the_cross_entropy(rng):
    for name, plain, task in [
        ("focal", "cross_entropy", "language"),
        ("binary_focal", "binary_cross_entropy", "multilabel"),
    ]:
        outputs = outputs_for(rng, task).astype(np.float32)
        for given in targets_for(rng, task).values():
            targets = jnp.asarray(converted(given, np.float32))
            focal = LOSSES.get(name)(outputs, targets, focal_gamma=0.0)
            np.testing.assert_allclose(focal, LOSSES.get(plain)(outputs, targets), rtol=1e-6)


def test_one_target_may_lack_its_axis(rng):
    outputs, targets = rng.normal(size=(7, 1)).astype(np.float32), rng.normal(size=7).astype(np.float32)
    for name in ("mse", "huber"):
        loss = LOSSES.get(name)(jnp.asarray(outputs), jnp.asarray(targets))
        assert loss.shape == weights(jnp.asarray(targets)).shape == (7,)
        np.testing.assert_array_equal(loss, LOSSES.get(name)(jnp.asarray(outputs), jnp.asarray(targets[:, None])))


# Which loss is for which task


def test_every_task_has_a_loss_that_is_for_it():
    for task in TASKS:
        losses.check(losses.default_for(task), task)
    assert [losses.default_for(task) for task in TASKS] == ["cross_entropy", "mse", "binary_cross_entropy", "cross_entropy"]


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("mse", "language", "loss 'mse' is not for language, the data set's task; expected one of cross_entropy, focal"),
        ("cross_entropy", "regression", "loss 'cross_entropy' is not for regression, the data set's task; expected one of "),
        ("hubber", "regression", "loss 'hubber' is unknown; did you mean 'huber'? known: "),
    ],
)
def test_refused(name, task, message):
    with pytest.raises(ConfigError) as error:
        losses.check(name, task)
    assert str(error.value).startswith(message)


def test_a_plug_in_is_for_every_task(monkeypatch):
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    monkeypatch.setattr(LOSSES, "_imported", {})
    losses.check("jax.numpy:hypot", "language")
