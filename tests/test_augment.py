"""Augmentation and mixup: each against NumPy, its distribution, and that it belongs to the example."""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hpjax.data.augment import AUGMENTATIONS, augment, check
from hpjax.data.mixup import mixup_lambda, partner_seed
from hpjax.data.order import GENERATOR, example_index
from hpjax.errors import ConfigError, DataError

NAMES = AUGMENTATIONS.names()
HEIGHT, WIDTH, CHANNELS = 9, 7, 2

# Settings with which an augmentation does nothing.
OFF = {"flip_probability": 0.0, "crop_padding": 0, "cutout_size": 0}

PVALUE = 1e-6


@partial(jax.jit, static_argnums=0)
def run(names, seed, position, images, settings):
    with jax.numpy_dtype_promotion("strict"):
        return augment(names, jax.random.key(seed, impl=GENERATOR), position, images, settings)


def seed_of(rng):
    return np.uint32(rng.integers(2**32))


def positions(rng, count):
    return rng.choice(2**32, count, replace=False).astype(np.uint32)


def pictures(rng, count, shape=(HEIGHT, WIDTH, CHANNELS), dtype=np.float32):
    # From 1 to 2: a zero in the result is one that the augmentation wrote.
    return (1 + rng.random((count, *shape))).astype(dtype)


def keys_of(name, seed, position):
    base = jax.random.fold_in(jax.random.key(seed, impl=GENERATOR), zlib.crc32(name.encode()))
    return [jax.random.fold_in(base, p) for p in position]


def flip_oracle(key, image, probability):
    return np.flip(image, axis=1) if float(jax.random.uniform(key)) < probability else image


def crop_oracle(key, image, padding):
    down, right = np.asarray(jax.random.randint(key, (2,), -padding, padding + 1)) + padding
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return padded[down : down + image.shape[0], right : right + image.shape[1]]


def cutout_oracle(key, image, size):
    height, width, _ = image.shape
    row, column = np.asarray(jax.random.randint(key, (2,), 0, jnp.array([height, width], jnp.int32)))
    result = image.copy()
    for i in range(row - size // 2, row - size // 2 + size):
        for j in range(column - size // 2, column - size // 2 + size):
            if 0 <= i < height and 0 <= j < width:
                result[i, j] = 0
    return result


@pytest.mark.parametrize(
    ("name", "oracle", "setting", "values"),
    [
        ("flip", flip_oracle, "flip_probability", (0.0, 0.3, 1.0)),
        ("crop", crop_oracle, "crop_padding", (0, 1, 4, 12)),
        ("cutout", cutout_oracle, "cutout_size", (0, 1, 2, 5, 30)),
    ],
)
def test_against_numpy(rng, name, oracle, setting, values):
    seed, position, images = seed_of(rng), positions(rng, 16), pictures(rng, 16)
    for value in values:
        # As a trial gives it: a float32 scalar, traced.
        got = run((name,), seed, position, images, {setting: np.float32(value)})
        expected = [oracle(key, image, value) for key, image in zip(keys_of(name, seed, position), images, strict=True)]
        np.testing.assert_array_equal(got, expected)
    # The default is the one in the signature.
    default = AUGMENTATIONS.settings(name)[setting]
    expected = [oracle(key, image, default) for key, image in zip(keys_of(name, seed, position), images, strict=True)]
    np.testing.assert_array_equal(run((name,), seed, position, images, {}), expected)


@pytest.mark.parametrize("name", NAMES)
def test_off_is_the_identity(rng, name):
    images = pictures(rng, 32)
    for settings in (OFF, {setting: np.float32(value) for setting, value in OFF.items()}):
        np.testing.assert_array_equal(run((name,), seed_of(rng), positions(rng, 32), images, settings), images)


@pytest.mark.parametrize("name", NAMES)
def test_it_changes_images_and_the_seed_and_the_position_matter(rng, name):
    image = np.broadcast_to(pictures(rng, 1), (64, HEIGHT, WIDTH, CHANNELS))
    seed, position = seed_of(rng), positions(rng, 64)
    first = np.asarray(run((name,), seed, position, image, {}))
    assert (first != image).any()
    assert len(np.unique(first, axis=0)) > 1
    assert (first != run((name,), seed ^ 1, position, image, {})).any()
    assert (first != run((name,), seed, position ^ 1, image, {})).any()


@pytest.mark.parametrize("names", [*((name,) for name in NAMES), NAMES])
def test_an_example_is_changed_alike_in_any_batch(rng, names):
    seed, position, images = seed_of(rng), positions(rng, 24), pictures(rng, 24)
    whole = np.asarray(run(names, seed, position, images, {}))
    order = rng.permutation(24)
    np.testing.assert_array_equal(run(names, seed, position[order], images[order], {}), whole[order])
    for start in range(0, 24, 8):
        part = slice(start, start + 8)
        np.testing.assert_array_equal(run(names, seed, position[part], images[part], {}), whole[part])


def test_several_come_one_after_the_other_and_do_not_change_each_other(rng):
    seed, position, images = seed_of(rng), positions(rng, 16), pictures(rng, 16)
    settings = {"cutout_size": np.float32(3), "flip_probability": np.float32(0.5)}
    expected = images
    for name in ("cutout", "flip"):
        expected = run((name,), seed, position, expected, settings)
    np.testing.assert_array_equal(run(("cutout", "flip"), seed, position, images, settings), expected)
    np.testing.assert_array_equal(run((), seed, position, images, settings), images)


@pytest.mark.parametrize("name", NAMES)
def test_float64_images_stay_float64(rng, name):
    seed, position, images = seed_of(rng), positions(rng, 8), pictures(rng, 8)
    expected = np.asarray(run((name,), seed, position, images, {}))
    with jax.enable_x64(True):
        got = run((name,), seed, position, images.astype(np.float64), {})
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, expected)


DRAWS = 20_000


def test_the_flip_rate(rng):
    images = np.broadcast_to(np.arange(2, dtype=np.float32).reshape(1, 1, 2, 1), (DRAWS, 1, 2, 1))
    for rate in (0.5, float(rng.uniform(0.05, 0.95))):
        got = run(("flip",), seed_of(rng), np.arange(DRAWS, dtype=np.uint32), images, {"flip_probability": np.float32(rate)})
        flipped = int((np.asarray(got)[:, 0, 0, 0] == 1).sum())
        assert stats.binomtest(flipped, DRAWS, rate).pvalue > PVALUE


def test_crop_offsets_are_uniform_and_independent(rng):
    # One bright pixel in the middle of an image that it cannot leave: where it lands is the offset.
    image = np.zeros((9, 9, 1), np.float32)
    image[4, 4] = 1
    got = run(
        ("crop",),
        seed_of(rng),
        np.arange(DRAWS, dtype=np.uint32),
        np.broadcast_to(image, (DRAWS, 9, 9, 1)),
        {"crop_padding": np.float32(3)},
    )
    places = np.asarray(got).reshape(DRAWS, 81).argmax(axis=1)
    rows, columns = places // 9 - 1, places % 9 - 1
    assert rows.min() == columns.min() == 0
    assert rows.max() == columns.max() == 6
    assert stats.chisquare(np.bincount(rows * 7 + columns, minlength=49)).pvalue > PVALUE


def test_cutout_centres_are_uniform(rng):
    images = np.ones((DRAWS, HEIGHT, WIDTH, 1), np.float32)
    got = run(("cutout",), seed_of(rng), np.arange(DRAWS, dtype=np.uint32), images, {"cutout_size": np.float32(1)})
    holes = np.asarray(got).reshape(DRAWS, HEIGHT * WIDTH) == 0
    np.testing.assert_array_equal(holes.sum(axis=1), 1)
    assert stats.chisquare(holes.sum(axis=0)).pvalue > PVALUE


def test_check():
    check((), "iris", (4,))
    check(NAMES, "cifar10", (32, 32, 3))
    for shape in ((4,), (28, 28)):
        with pytest.raises(DataError, match=r"dataset 'iris' has inputs of shape \[.*expected \[height, width, channels\]"):
            check(("flip",), "iris", shape)
    with pytest.raises(ConfigError, match="augmentation 'flop' is unknown; did you mean 'flip'"):
        check(("flop",), "cifar10", (32, 32, 3))
    with pytest.raises(ConfigError, match="augment has 'flip' twice"):
        check(("flip", "crop", "flip"), "cifar10", (32, 32, 3))


@jax.jit
def weights(seed, position, alpha):
    return mixup_lambda(jax.random.key(seed, impl=GENERATOR), position, alpha)


def test_mixup_weights_are_of_the_beta_distribution(rng):
    for alpha in (0.2, 1.0, float(rng.uniform(0.1, 4))):
        drawn = np.asarray(weights(seed_of(rng), np.arange(DRAWS, dtype=np.uint32), np.float32(alpha)), np.float64)
        assert ((drawn >= 0) & (drawn <= 1)).all()
        # The lower half, which float32 does not round to an end, and how many are in it.
        lower = drawn[drawn < 0.5]
        assert stats.kstest(lower, lambda x, a=alpha: 2 * stats.beta(a, a).cdf(x)).pvalue > PVALUE
        assert stats.binomtest(len(lower), DRAWS, 0.5).pvalue > PVALUE
        # Mean 1/2 and variance 1 / (4 (2 alpha + 1)), each within 6 standard errors.
        variance = 1 / (4 * (2 * alpha + 1))
        assert abs(drawn.mean() - 0.5) < 6 * np.sqrt(variance / DRAWS)
        squares = (drawn - 0.5) ** 2
        assert abs(squares.mean() - variance) < 6 * squares.std() / np.sqrt(DRAWS)


def test_mixup_weights_belong_to_the_example(rng):
    seed, position, alpha = seed_of(rng), positions(rng, 32), np.float32(0.4)
    whole = np.asarray(weights(seed, position, alpha))
    assert whole.dtype == np.float32
    order = rng.permutation(32)
    np.testing.assert_array_equal(weights(seed, position[order], alpha), whole[order])
    np.testing.assert_array_equal(weights(seed, position[:8], alpha), whole[:8])
    assert (whole != weights(seed ^ 1, position, alpha)).any()


def test_mixup_at_the_ends_of_its_domain(rng):
    seed, position = seed_of(rng), positions(rng, 64)
    np.testing.assert_array_equal(weights(seed, position, np.float32(0)), 1)
    # Almost 0: one of the two, hardly ever a mixture. Very large: half and half.
    small = np.asarray(weights(seed, position, np.float32(1e-6)))
    assert np.isin(small, [0, 1]).all()
    assert len(np.unique(small)) == 2
    np.testing.assert_allclose(weights(seed, position, np.float32(1e8)), 0.5, atol=1e-3)


def test_partners_are_another_order_of_the_same_examples(rng):
    size, seed = 300, seed_of(rng)
    position = jnp.arange(size, dtype=jnp.uint32)
    partner = jax.jit(partner_seed)(seed)
    assert partner.dtype == jnp.uint32
    assert int(partner) != int(seed)
    own, other = (np.asarray(example_index(position, size, s)) for s in (jnp.uint32(seed), partner))
    np.testing.assert_array_equal(np.sort(other), np.arange(size))
    # Fixed points of a random permutation: one on average, more than 12 once in 10^10 times.
    assert (own == other).sum() <= 12
