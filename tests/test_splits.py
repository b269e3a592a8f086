"""The stratified split: exact sizes, proportions, determinism."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpjax.data.splits import stratified
from hpjax.errors import ConfigError, DataError

# Class sizes from single examples to uneven classes; the labels themselves need not be 0, 1, 2.
LABELS = st.lists(st.integers(1, 40), min_size=1, max_size=12).flatmap(
    lambda sizes: st.permutations([7 * c - 3 for c, size in enumerate(sizes) for _ in range(size)])
)
FRACTION = st.one_of(st.just(0.0), st.floats(0, 0.45))
SEED = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(labels=LABELS, validation=FRACTION, test=FRACTION, seed=SEED)
def test_every_example_once_with_exact_sizes_and_proportions(labels, validation, test, seed):
    labels = np.array(labels)
    try:
        split = stratified(labels, validation_fraction=validation, test_fraction=test, split_seed=seed)
    except DataError:
        assert round(validation * len(labels)) + round(test * len(labels)) >= len(labels)
        return
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(len(labels)))
    assert len(split.val) == round(validation * len(labels))
    assert len(split.test) == round(test * len(labels))
    for indices in split:
        for label in np.unique(labels):
            share = np.sum(labels == label) * len(indices) / len(labels)
            assert math.floor(share) <= np.sum(labels[indices] == label) <= math.floor(share) + 1


@settings(deadline=None)
@given(labels=LABELS, seed=SEED)
def test_depends_on_seed_and_labels_only(labels, seed):
    def split():
        return np.concatenate(stratified(np.array(labels), validation_fraction=0.3, test_fraction=0.1, split_seed=seed))

    np.random.seed(0)
    first, state = split(), np.random.get_state()[1].copy()
    np.random.seed(1)
    np.testing.assert_array_equal(split(), first)
    np.random.seed(0)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # the global state was not drawn from


def test_other_seeds_hold_out_other_examples():
    labels = np.arange(1000) % 10
    held_out = [set(stratified(labels, validation_fraction=0.2, split_seed=seed).val.tolist()) for seed in (0, 1)]
    assert len(held_out[0] & held_out[1]) < 80  # 40 expected by chance, of 200


def test_the_split_never_changes():
    """A change here changes the numbers of every recorded run."""
    split = stratified(np.arange(12) % 3, validation_fraction=0.25, test_fraction=0.25, split_seed=5)
    assert [indices.tolist() for indices in split] == [[0, 1, 3, 8, 10, 11], [5, 6, 7], [2, 4, 9]]


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"validation_fraction": 1.0}, r"validation_fraction is 1\.0; expected a number in \[0, 1\)"),
        ({"validation_fraction": math.nan}, "validation_fraction is nan"),
        ({"validation_fraction": 0.1, "test_fraction": -0.1}, r"test_fraction is -0\.1"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, r"validation_fraction \+ test_fraction is 1\.0"),
        ({"validation_fraction": 0.5, "split_seed": -1}, "split_seed is -1"),
    ],
)
def test_bad_settings_are_named(given_settings, message):
    with pytest.raises(ConfigError, match=message):
        stratified(np.zeros(10, np.int32), **given_settings)


@pytest.mark.parametrize("size", [0, 1])
def test_nothing_left_to_train_on(size):
    with pytest.raises(DataError, match="no training example is left: of"):
        stratified(np.zeros(size, np.int32), validation_fraction=0.9)
