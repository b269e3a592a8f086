"""The order of examples: a bijection per epoch, uniform over seeds, the same however the stream is cut."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from hpjax.data.order import example_index

SIZES = [1, 2, 3, 4, 5, 7, 97, 100, 1437, 4096, 50_000]


@partial(jax.jit, static_argnums=(1, 3))
def batches(starts, size, seeds, batch):
    """Returns [starts, batch]: the examples at `batch` consecutive positions from each start, with that start's seed."""
    read = lambda start, seed: example_index(start + jnp.arange(batch, dtype=jnp.uint32), size, seed)  # noqa: E731
    return jax.vmap(read)(starts, seeds)


def read(starts, size, seeds, batch) -> np.ndarray:
    starts, seeds = np.broadcast_arrays(np.asarray(starts, np.uint32), np.asarray(seeds, np.uint32))
    return np.asarray(batches(starts, size, seeds, batch))


def assert_epochs(epochs: np.ndarray, size: int) -> None:
    """Each row holds every example once."""
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.broadcast_to(np.arange(size), epochs.shape))


@pytest.mark.parametrize("size", SIZES)
def test_an_epoch_holds_every_example_once(rng, size):
    last = (2**32 // size - 1) * size
    starts = np.array([0, size, 5 * size, int(rng.integers(2**32 // size)) * size, last])
    seeds = np.array([0, 1, 2**32 - 1, rng.integers(2**32), rng.integers(2**32)])
    for seed in seeds:
        epochs = read(starts, size, seed, size)
        assert epochs.dtype == np.int32
        assert_epochs(epochs, size)


def test_the_largest_size_stays_in_range(rng):
    size = 2**31 - 1
    index = read([0, size - 2048, 2**32 - 4096 - 5], size, rng.integers(2**32, size=3), 4096).astype(np.int64)
    assert (index >= 0).all() and (index < size).all()
    assert len(np.unique(index[0])) == 4096
    # The second batch is the end of one epoch and the beginning of the next.
    assert len(np.unique(index[1, :2048])) == len(np.unique(index[1, 2048:])) == 2048


@pytest.mark.parametrize("size", [1, 5, 1437])
def test_the_stream_does_not_depend_on_how_it_is_cut(rng, size):
    """Batches of every size up to an epoch, those that straddle two epochs included, read one stream."""
    seed, epochs = rng.integers(2**32), 6
    total = epochs * size
    for first in (0, size * int(rng.integers(2**32 // size - epochs))):
        stream = read(first + np.arange(total), size, seed, 1)[:, 0]
        assert_epochs(stream.reshape(epochs, size), size)
        for batch in sorted({1, min(3, size), max(1, size * 2 // 3), size}):
            starts = first + np.arange(0, total - batch + 1, batch)
            got = read(starts, size, seed, batch).ravel()
            np.testing.assert_array_equal(got, stream[: len(got)])


def test_positions_near_the_end_of_uint32(rng):
    size, seed = 1000, rng.integers(2**32)
    end = 2**32
    boundary = end // size * size
    straddling = read([boundary - 500], size, seed, 500 + 2**32 - boundary)[0]
    np.testing.assert_array_equal(straddling[:500], read([boundary - size], size, seed, size)[0, 500:])
    assert len(np.unique(straddling[500:])) == end - boundary


def test_seeds_and_epochs_give_different_orders(rng):
    size, seeds = 97, rng.choice(2**32, 200, replace=False)
    orders = np.concatenate([read(0, size, seeds, size), read(size * np.arange(1, 201), size, seeds[0], size)])
    assert len(np.unique(orders, axis=0)) == 400
    # Two random permutations agree at one place on average: 200 * 199 / 2 pairs of epochs of one seed, 6 standard errors.
    epochs = orders[200:]
    agreements = [(epochs[i] == epochs[j]).sum() for i in range(200) for j in range(i)]
    assert abs(np.mean(agreements) - 1) < 6 / np.sqrt(len(agreements))


DRAWS = 40_000


def assert_uniform(cells: np.ndarray, count: int) -> None:
    assert chisquare(np.bincount(cells, minlength=count)).pvalue > 1e-6


@pytest.mark.parametrize("size", [2, 3, 5, 10, 97, 1000])
def test_the_example_at_a_position_is_uniform_over_seeds_and_over_epochs(rng, size):
    # Seeds as people choose them: one after the other.
    seeds = (rng.integers(2**32) + np.arange(DRAWS)) % 2**32
    assert_uniform(read(0, size, seeds, 1)[:, 0], size)
    assert_uniform(read(int(rng.integers(size)), size, seeds, 1)[:, 0], size)
    assert_uniform(read(size * np.arange(DRAWS), size, seeds[0], 1)[:, 0], size)


@pytest.mark.parametrize("size", [3, 5, 9, 10, 50])
def test_two_positions_are_jointly_uniform_over_seeds(rng, size):
    seeds = (rng.integers(2**32) + np.arange(DRAWS)) % 2**32
    for other in {1, size // 2, size - 1}:
        first, second = read(0, size, seeds, size)[:, [0, other]].T
        # The second lies in what the first left: size - 1 places, counted on from the first.
        assert_uniform(first * (size - 1) + (second - first) % size - 1, size * (size - 1))


@pytest.mark.parametrize("size", [97, 300, 1437])
def test_the_distance_of_two_positions_is_uniform_over_seeds(rng, size):
    seeds = (rng.integers(2**32) + np.arange(DRAWS)) % 2**32
    # Places that share a row or a column of the Feistel network mix last.
    for other in (1, math.isqrt(size - 1) + 1, size - 1):
        first, second = (read(position, size, seeds, 1)[:, 0] for position in (0, other))
        assert_uniform((second - first) % size - 1, size - 1)


def test_all_orders_of_four_examples_come_alike(rng):
    orders = read(0, 4, (rng.integers(2**32) + np.arange(DRAWS)) % 2**32, 4)
    names, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(names) == 24
    assert chisquare(counts).pvalue > 1e-6


def test_the_seed_is_traced(rng):
    order = jax.jit(partial(example_index, size=97))
    for seed in rng.integers(2**32, size=5, dtype=np.uint32):
        order(np.arange(50, dtype=np.uint32), seed=seed)
    assert order._cache_size() == 1
