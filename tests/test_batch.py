"""What a micro-batch is made of: examples of every task read, standardised, augmented, mixed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpjax.batch import Examples, Reader
from hpjax.data.augment import AUGMENTATIONS
from hpjax.data.mixup import partner_seed
from hpjax.data.order import example_index

VALUES = {
    "seed": jnp.uint32(3),
    "data_seed": jnp.uint32(5),
    "mixup_alpha": jnp.float32(0.4),
    **{s: jnp.float32(AUGMENTATIONS.settings(n)[s]) for n in AUGMENTATIONS.names() for s in AUGMENTATIONS.traced(n)},
}


def test_inputs_are_standardised_channel_by_channel(rng):
    x = rng.integers(0, 256, (4, 6, 6, 3)).astype(np.uint8)
    scale, shift = (0.5, 2.0, 0.25), (-1.0, 0.0, 3.0)
    reader = Reader(scale=scale, shift=shift)
    found, y = reader.read(Examples(jnp.asarray(x), jnp.arange(4)), jnp.array([2, 0]))
    np.testing.assert_array_equal(found, x[[2, 0]].astype(np.float32) * np.float32(scale) + np.float32(shift))
    assert found.dtype == jnp.float32
    assert y.tolist() == [2, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_a_language_example_is_a_window_and_the_next_tokens(rng, dtype):
    tokens = rng.integers(0, 200, 50).astype(dtype)
    starts = np.array([0, 7, 43], np.int32)
    reader = Reader(task="language", window=6, tokens=True, train_size=3)
    x, y = reader.read(Examples(jnp.asarray(tokens), jnp.asarray(starts)), jnp.array([2, 0, 1]))
    assert x.dtype == y.dtype == jnp.int32
    for row, start in enumerate((43, 0, 7)):
        np.testing.assert_array_equal(x[row], tokens[start : start + 6])
        np.testing.assert_array_equal(y[row], tokens[start + 1 : start + 7])


@pytest.mark.parametrize(
    ("task", "shape", "dtype", "expected"),
    [
        ("classification", (5,), np.int32, (2,)),
        ("regression", (5,), np.float32, (2, 1)),
        ("regression", (5, 2), np.float32, (2, 2)),
        ("multilabel", (5, 3), np.uint8, (2, 3)),
    ],
)
def test_targets_of_each_task(rng, task, shape, dtype, expected):
    y = rng.integers(0, 2, shape).astype(dtype)
    _, found = Reader(task=task).read(Examples(jnp.zeros((5, 4)), jnp.asarray(y)), jnp.array([4, 1]))
    assert found.shape == expected
    assert found.dtype == (jnp.int32 if task == "classification" else jnp.float32)
    np.testing.assert_array_equal(found, y[[4, 1]].reshape(expected))


def pictures(rng):
    x = rng.integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    return Examples(jnp.asarray(x), jnp.arange(40, dtype=jnp.int32))


@pytest.mark.parametrize("augment", [(), ("flip", "crop", "cutout")])
def test_mixup_mixes_with_the_second_stream(rng, augment):
    examples, position = pictures(rng), jnp.arange(100, 116, dtype=jnp.uint32)
    plain = Reader(train_size=40, scale=1 / 255, augment=augment).training(VALUES, examples, position)
    mixed = Reader(train_size=40, scale=1 / 255, augment=augment, mixup=True).training(VALUES, examples, position)
    assert (plain.other, plain.share) == (None, None)
    np.testing.assert_array_equal(mixed.y, plain.y)
    np.testing.assert_array_equal(mixed.y, example_index(position, 40, jnp.uint32(5)))
    np.testing.assert_array_equal(mixed.other, example_index(position, 40, partner_seed(jnp.uint32(5))))
    assert ((mixed.share >= 0) & (mixed.share <= 1)).all()
    assert len(np.unique(mixed.share)) == 16
    if not augment:
        # The targets are the examples' numbers.
        x = np.asarray(examples.x, np.float64) / 255
        share = np.asarray(mixed.share, np.float64)[:, None, None, None]
        np.testing.assert_allclose(mixed.x, share * x[mixed.y] + (1 - share) * x[mixed.other], atol=1e-6)


def test_what_is_done_to_an_example_belongs_to_its_place_in_the_stream(rng):
    """Not to the batch nor to the device: halves of a batch are those of the whole."""
    examples, position = pictures(rng), jnp.arange(2**32 - 8, 2**32, dtype=jnp.uint32)
    reader = Reader(train_size=40, scale=1 / 255, augment=("flip", "crop", "cutout"), mixup=True)
    read = jax.jit(lambda position: reader.training(VALUES, examples, position))
    whole = jax.device_get(read(position))
    halves = [jax.device_get(read(position[i : i + 4])) for i in (0, 4)]
    for all_, first, last in zip(whole, *halves, strict=True):
        np.testing.assert_array_equal(all_, np.concatenate([first, last]))
