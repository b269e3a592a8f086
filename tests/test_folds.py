"""Folds of a data set's own: what each trains on and holds out, its standardisation, and the order of examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, StratifiedKFold, TimeSeriesSplit

import hpjax
from hpjax import build
from hpjax.batch import Reader
from hpjax.data import folds
from hpjax.data.order import Epoch, index_in
from hpjax.errors import ConfigError, DataError
from hpjax.sklearn import table


def drawn(rng, examples=None, features=3):
    examples = examples or int(rng.integers(30, 400))
    # Large means beside small differences: float32 of the numbers themselves would lose half of their digits.
    x = rng.normal(rng.uniform(-1e4, 1e4, features), rng.uniform(0.5, 20, features), (examples, features))
    return x, rng.integers(0, 3, examples).astype(np.int32)


SPLITTERS = {
    "kfold": KFold(5, shuffle=True),
    "stratified": StratifiedKFold(3),
    "groups": GroupKFold(4),
    "shuffle": ShuffleSplit(3, test_size=0.3),
    "time": TimeSeriesSplit(4),
}


@pytest.mark.parametrize("name", SPLITTERS)
def test_entries_are_the_splitters_examples_standardised_by_the_training_ones(rng, name):
    x, y = drawn(rng)
    cuts = list(SPLITTERS[name].split(x, y, np.arange(len(x)) % 9 if name == "groups" else None))
    made = table.make(x, y, cuts, classes=3, standardize=True)
    examples = jax.tree.map(jnp.asarray, build.examples(made.dataset))
    reader = Reader(own_folds=True)
    for fold, (train, test) in enumerate([*cuts, (np.arange(len(x)),) * 2]):
        mean, deviation = x[train].mean(axis=0), x[train].std(axis=0)
        own = made.dataset.folded(len(cuts) + 1, fold)
        assert own.held_out(fold) == own.splits["val"]
        for split, index in (("train", train), ("val", test)):
            start, size = own.splits[split]
            found, labels = reader.read(examples, start + jnp.arange(size))
            np.testing.assert_allclose(found, (x[index] - mean) / deviation, rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(labels, y[index])
            np.testing.assert_array_equal(own.part(split)[1], y[index])
        scale, shift = made.inputs(fold)
        np.testing.assert_allclose(x * scale + shift, (x - mean) / deviation, rtol=1e-4, atol=1e-5)


def test_an_epoch_of_a_fold_is_its_training_examples_once(rng):
    x, y = drawn(rng)
    cuts = list(KFold(4, shuffle=True).split(x))
    made = table.make(x, y, cuts, classes=3, standardize=False)
    tables = jax.tree.map(jnp.asarray, made.dataset.own_folds.tables)
    reader = Reader(own_folds=True)
    seed = jnp.uint32(rng.integers(2**32))
    for fold, (train, _) in enumerate(cuts):
        values, orders = {"fold": jnp.int32(fold)}, []
        for epoch in range(2):
            position = jnp.arange(len(train), dtype=jnp.uint32) + epoch * len(train)
            rows = np.asarray(tables.rows[reader.order(position, values, seed, tables)])
            np.testing.assert_array_equal(np.sort(rows), np.sort(train))
            orders.append(rows)
        assert (orders[0] != orders[1]).any()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 97, 100, 1437, 50_000])
def test_the_order_of_a_traced_size_holds_every_example_once(rng, size):
    epoch = jax.tree.map(jnp.uint32, Epoch.of(size))
    order = jax.jit(index_in)
    start = int(rng.integers(2**32 // size)) * size
    for first in (0, size, start):
        position = jnp.uint32(first) + jnp.arange(size, dtype=jnp.uint32)
        found = order(epoch, position, jnp.uint32(rng.integers(2**32)))
        np.testing.assert_array_equal(np.sort(found), np.arange(size))


@pytest.mark.parametrize("size", [5, 10, 40])
def test_pairs_of_places_of_a_traced_size_are_uniform(rng, size):
    """Over seeds, the examples at the first two places are any pair, as often as any other."""
    epoch = jax.tree.map(jnp.uint32, Epoch.of(size))
    seeds = jnp.asarray(rng.integers(2**32, size=size * (size - 1) * 60), jnp.uint32)
    position = jnp.arange(2, dtype=jnp.uint32)
    pairs = np.asarray(jax.jit(jax.vmap(lambda seed: index_in(epoch, position, seed)))(seeds))
    counts = np.zeros((size, size))
    np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
    assert (np.diag(counts) == 0).all()
    # Draws are new each time: one in a million fails by chance.
    assert chisquare(counts[~np.eye(size, dtype=bool)]).pvalue > 1e-6


def test_targets_of_a_regression_go_to_the_folds_scale_and_back(rng):
    x, _ = drawn(rng, 60)
    y = rng.normal(1e3, 50, (60, 2))
    cuts = list(KFold(3).split(x))
    made = table.make(x, y, cuts, classes=0, standardize=True).dataset
    examples = jax.tree.map(jnp.asarray, build.examples(made))
    for fold, (train, _) in enumerate(cuts):
        own = made.folded(4, fold)
        start, size = own.splits["train"]
        _, seen = Reader(task="regression", own_folds=True).read(examples, start + jnp.arange(size))
        np.testing.assert_allclose(seen, (y[train] - y[train].mean(axis=0)) / y[train].std(axis=0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(np.asarray(own.target_scale), y[train].std(axis=0), rtol=1e-5)
        np.testing.assert_allclose(
            np.asarray(seen) * np.asarray(own.unit(fold)) + made.own_folds.offset[fold], y[train], rtol=1e-5
        )


def test_other_folds_are_other_data(rng):
    x, y = drawn(rng, 50)
    hashes = {
        table.make(x, y, cuts, classes=3, standardize=standardize).dataset.fingerprint()
        for cuts in (list(KFold(5).split(x)), list(KFold(4).split(x)), [cut[::-1] for cut in KFold(5).split(x)])
        for standardize in (True, False)
    }
    assert len(hashes) == 6


def test_arrays_are_filled_up_to_few_sizes():
    sizes = {folds.filled(size) for size in range(1, 100_000)}
    assert len(sizes) < 90
    assert all(size <= folds.filled(size) <= max(256, size * 1.26) for size in range(1, 100_000))


def test_what_is_no_fold_is_refused(rng):
    x, y = drawn(rng, 20)
    with pytest.raises(DataError, match="fold 1 has no training example; expected at least one"):
        table.make(x, y, [(np.arange(5), np.arange(5)), (np.arange(0), np.arange(5))], classes=3, standardize=False)
    made = table.make(x, y, list(KFold(2).split(x)), classes=3, standardize=False).dataset
    with pytest.raises(ConfigError, match=r"folds is 5; expected 3, the folds that 'hpjax.sklearn.table:table' has"):
        made.folded(5, 0)


def test_a_table_comes_back_from_its_file(rng, tmp_path):
    x, y = drawn(rng, 50)
    settings = {"cuts": list(ShuffleSplit(3).split(x)), "classes": 3, "standardize": True}
    table.save(tmp_path / "data.npz", x, y, **settings)
    back = table.table(data_file=tmp_path / "data.npz")
    assert back.fingerprint() == table.make(x, y, **settings).dataset.fingerprint()
    (tmp_path / "data.npz").write_bytes(b"no npz")
    with pytest.raises(DataError, match="missing or damaged"):
        table.table(data_file=tmp_path / "data.npz")


def test_whichever_fold_comes_first_is_measured_on_its_own_examples(tmp_path):
    """One lane, so that each round has one fold: fold 0 alone must not be measured where the first trial's fold lies."""
    common = {"dataset": "iris", "model": "logistic", "batch_size": 16, "train_steps": "12", "eval_every": "6", "folds": 3}
    config = hpjax.Config(**common, tensorboard=False, progress=False)
    found = []
    for order in ("range(3)", "choice(2,0,1)"):
        vary = {"learning_rate": "choice(0.1)", "fold": order}
        study = hpjax.run_sweep(config, vary, trials=3, lanes="1", study=tmp_path / order)
        found.append({record.values["fold"]: record.objective for record in study.records})
    assert found[0] == found[1]
    assert len(set(found[0].values())) > 1
