"""Models: gradients against float64 and central differences, dropout's masks."""

from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hpjax import errors
from hpjax.losses import cross_entropy
from hpjax.models import MODELS, Dropout, Training

BATCH, OUTPUTS = 6, 5
INPUT = (8, 8, 1)
models = pytest.mark.parametrize("name", MODELS.names())


def build(name: str):
    """Returns the model at its default sizes, smooth where it lets us choose: differences meet no kink of relu."""
    smooth = {"activation": "tanh"} if "activation" in MODELS.settings(name) else {}
    return MODELS.get(name)(OUTPUTS, **smooth)


def problem(name: str, rng: np.random.Generator):
    """Returns the model, its float32 parameters, a batch, labels and positions."""
    model, x = build(name), rng.normal(size=(BATCH, *INPUT)).astype(np.float32)
    params = jax.jit(model.init)(jax.random.key(int(rng.integers(2**32))), x)["params"]
    # Away from the zeros that biases start from.
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params)
    labels = rng.integers(OUTPUTS, size=BATCH).astype(np.int32)
    return model, params, x, labels, rng.integers(2**32, size=BATCH, dtype=np.uint32)


def objective(model, params, x, labels, rate, position, seed):
    outputs = model.apply({"params": params}, x, Training(rate, position), rngs={"dropout": jax.random.key(seed)})
    return cross_entropy(outputs, labels).mean()


def in_float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def norm(tree) -> float:
    return float(np.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in jax.tree.leaves(tree))))


@models
def test_the_float32_gradient_is_the_float64_gradient(rng, name):
    """With dropout too: the masks do not depend on the dtype."""
    model, params, x, labels, position = problem(name, rng)
    gradient = jax.jit(jax.grad(partial(objective, model)))
    for rate in (0.0, 0.4):
        rest = labels, np.float32(rate), position, np.uint32(7)
        single = gradient(params, x, *rest)
        with jax.enable_x64(True):
            double = gradient(*in_float64((params, x)), *rest)
        assert {leaf.dtype for leaf in jax.tree.leaves(double)} == {np.dtype(np.float64)}
        difference = jax.tree.map(np.subtract, in_float64(single), in_float64(double))
        assert norm(difference) < 2e-6 * norm(double)


@models
def test_the_float64_gradient_is_the_central_difference(rng, name):
    """Along random directions; the median, because a direction may cross a kink of max pooling."""
    model, params, x, labels, position = problem(name, rng)
    step, errors = 1e-5, []
    with jax.enable_x64(True):
        params, x = in_float64((params, x))
        flat, restore = jax.flatten_util.ravel_pytree(params)
        value = jax.jit(lambda p: objective(model, restore(p), x, labels, np.float64(0.3), position, np.uint32(7)))
        gradient = np.asarray(jax.jit(jax.grad(value))(flat))
        size = np.linalg.norm(gradient)
        for _ in range(9):
            # Half along the gradient, so that the derivative is not small beside its rounding.
            random = rng.normal(size=flat.size)
            direction = gradient / size + random / np.linalg.norm(random)
            difference = float(value(flat + step * direction) - value(flat - step * direction)) / (2 * step)
            errors.append(abs(difference / (direction @ gradient) - 1))
    assert np.median(errors) < 1e-7


@models
def test_rate_zero_is_evaluation_bit_for_bit(rng, name):
    model, params, x, _, position = problem(name, rng)
    training = Training(np.float32(0), position)
    trained = jax.jit(lambda p: model.apply({"params": p}, x, training, rngs={"dropout": jax.random.key(1)}))(params)
    evaluated = jax.jit(lambda p: model.apply({"params": p}, x))(params)
    np.testing.assert_array_equal(trained, evaluated)


@models
def test_an_examples_output_does_not_depend_on_its_batch(rng, name):
    """In another order and in smaller batches each example meets the same masks: outputs differ by rounding alone."""
    model, params, x, _, position = problem(name, rng)

    @jax.jit
    def outputs(x, position):
        training = Training(np.float32(0.5), position)
        return model.apply({"params": params}, x, training, rngs={"dropout": jax.random.key(3)})

    whole = outputs(x, position)
    order = rng.permutation(BATCH)
    np.testing.assert_allclose(outputs(x[order], position[order]), whole[order], rtol=1e-5, atol=1e-5)
    single = np.concatenate([outputs(x[i : i + 1], position[i : i + 1]) for i in range(BATCH)])
    np.testing.assert_allclose(single, whole, rtol=1e-5, atol=1e-5)
    # And it does depend on the position: the masks are not all alike.
    assert (np.abs(outputs(x, position + np.uint32(1)) - whole).max(axis=1) > 1e-3).all()


@models
def test_the_dropout_rate_is_traced(rng, name):
    model, params, x, labels, position = problem(name, rng)
    loss = jax.jit(partial(objective, model))
    losses = [
        float(loss(params, x, labels, np.float32(rate), position, np.uint32(seed)))
        for seed in range(2)
        for rate in (0.0, 0.1, 0.5, 0.9)
    ]
    assert loss._cache_size() == 1
    # Rate 0 draws nothing, so that its loss alone comes twice.
    assert len(set(losses)) == 7


class TwoLayers(nn.Module):
    """The masks of two dropout layers, side by side."""

    @nn.compact
    def __call__(self, x, training):
        return jnp.stack([Dropout()(x, training), Dropout()(x, training)])


UNITS = 200


@jax.jit
def masks(seed, rate, position):
    """Returns float32 [2 layers, batch, UNITS]: what dropout multiplies by."""
    ones = jnp.ones((position.shape[0], UNITS))
    return TwoLayers().apply({}, ones, Training(rate, position), rngs={"dropout": jax.random.key(seed)})


def assert_fraction(hits: np.ndarray, expected: float) -> None:
    """The mean of independent 0/1 values, within six standard deviations: one false alarm in 5e8."""
    assert abs(hits.mean() - expected) < 6 * np.sqrt(expected * (1 - expected) / hits.size)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_the_kept_fraction_and_the_mean_are_right(rng, rate):
    start = rng.integers(2**31, dtype=np.uint32)
    mask = np.asarray(
        masks(rng.integers(2**32, dtype=np.uint32), np.float32(rate), start + np.arange(1000, dtype=np.uint32))
    )
    np.testing.assert_allclose(mask[mask != 0], 1 / (1 - rate), rtol=1e-6)
    assert_fraction(mask != 0, 1 - rate)
    # The expectation is the input's: a mean of ones, of which each unit's deviation is sqrt(rate / (1 - rate)).
    assert abs(mask.mean() - 1) < 6 * np.sqrt(rate / (1 - rate) / mask.size)
    # Of each unit and each example too, not over all of them alone.
    for axis in (1, 2):
        assert np.abs(mask.mean(axis) - 1).max() < 7 * np.sqrt(rate / (1 - rate) / mask.shape[axis]) + 0.1


def test_masks_of_layers_positions_and_seeds_are_independent(rng):
    """Two independent masks of rate r agree at r^2 + (1 - r)^2 of the units."""
    rate = 0.3
    agree = rate**2 + (1 - rate) ** 2
    position = rng.integers(2**31, dtype=np.uint32) + np.arange(500, dtype=np.uint32)
    seed = rng.integers(2**31, dtype=np.uint32)
    kept = np.asarray(masks(seed, np.float32(rate), position)) > 0
    other_seed = np.asarray(masks(seed + np.uint32(1), np.float32(rate), position)) > 0
    assert_fraction(kept[0] == kept[1], agree)
    assert_fraction(kept[:, :-1:2] == kept[:, 1::2], agree)
    assert_fraction(kept == other_seed, agree)
    # Layer, position and seed together name one mask: no two of all these are the same.
    every = np.concatenate([kept, other_seed]).reshape(-1, UNITS)
    assert len(np.unique(every, axis=0)) == len(every)


def test_the_mask_belongs_to_seed_layer_and_position(rng):
    position = rng.choice(2**32, 32, replace=False).astype(np.uint32)
    seed, rate = rng.integers(2**32, dtype=np.uint32), np.float32(0.5)
    whole = np.asarray(masks(seed, rate, position))
    order = rng.permutation(32)
    np.testing.assert_array_equal(masks(seed, rate, position[order]), whole[:, order])
    np.testing.assert_array_equal(masks(seed, rate, position[5:6]), whole[:, 5:6])
    # A higher rate drops what a lower one drops, and more: the draw is the same.
    higher = np.asarray(masks(seed, np.float32(0.8), position))
    assert not ((whole == 0) & (higher != 0)).any()


def test_lanes_draw_their_own_masks(rng):
    """Under vmap, with rates of which one is zero, each lane's masks are those it has alone."""
    position = np.arange(8, dtype=np.uint32)
    seeds, rates = rng.integers(2**32, size=3, dtype=np.uint32), np.float32([0.0, 0.3, 0.7])
    together = jax.vmap(masks, (0, 0, None))(seeds, rates, position)
    for lane in range(3):
        np.testing.assert_array_equal(together[lane], masks(seeds[lane], rates[lane], position))


def test_cnn_refuses_more_pooling_than_picture():
    model = MODELS.get("cnn")(10, channels=(1,) * 4)
    with pytest.raises(errors.ConfigError, match="channels has 4 sizes; pooling leaves no picture"):
        model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
