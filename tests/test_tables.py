"""The tables of scikit-learn: their rows, stratified splits, and scales of the training split only."""

import numpy as np
import pytest
import sklearn.datasets
from sklearn.preprocessing import StandardScaler

from hpjax.data import DATASETS, tables
from hpjax.errors import ConfigError

TABLES = ("iris", "wine", "breast_cancer", "diabetes")


def bunch(name):
    return getattr(sklearn.datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_scikit_learn_is_there_once(name):
    given, data = bunch(name), DATASETS.get(name)()
    y = data.y * data.target_scale + data.target_shift if name == "diabetes" else data.y
    rows = np.column_stack([data.x.astype(np.float64), y])
    expected = np.column_stack([given.data.astype(np.float32), given.target])
    order, expected_order = np.lexsort(rows.T), np.lexsort(expected.T)
    np.testing.assert_allclose(rows[order], expected[expected_order], rtol=1e-5)
    names = () if name == "diabetes" else tuple(given.target_names)
    assert data.class_names == names
    assert data.outputs == (len(names) or 1)


@pytest.mark.parametrize("name", TABLES)
def test_standardised_as_scikit_learn_does_on_the_training_split(name):
    data = DATASETS.get(name)(split_seed=3)
    train = data.part("train")[0].astype(np.float64)
    standard = StandardScaler().fit(train)
    for split in ("train", "val", "test"):
        x = data.part(split)[0]
        ours = np.array(data.scale) * x.astype(np.float64) + np.array(data.shift)
        np.testing.assert_allclose(ours, standard.transform(x.astype(np.float64)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", TABLES)
def test_the_splits_are_stratified(name):
    data = DATASETS.get(name)(validation_fraction=0.25, test_fraction=0.15)
    # A regression's tenths of the ranking stand for classes.
    labels = data.y.argsort(kind="stable").argsort() * 10 // len(data.y) if name == "diabetes" else data.y
    for split, (start, size) in data.splits.items():
        for label in np.unique(labels):
            share = np.sum(labels == label) * size / len(labels)
            assert abs(np.sum(labels[start : start + size] == label) - share) <= 1, (split, label)


def test_the_scales_do_not_see_the_held_out_rows(rng):
    x, y = rng.normal(size=(60, 3)), rng.normal(size=60)
    labels = (np.arange(60) % 3).astype(np.int64)
    for task, target, names in (("classification", labels, "abc"), ("regression", y, "")):
        settings = {"task": task, "class_names": tuple(names)}
        data = tables.from_table("mine", x, target, 0.2, 0.2, 0, **settings)
        position = {row.tobytes(): index for index, row in enumerate(x.astype(np.float32))}
        held_out = [position[row.tobytes()] for row in data.x[data.splits["val"][0] :]]
        changed = x.copy()
        changed[held_out] = rng.normal(100, 50, (len(held_out), 3))
        again = tables.from_table("mine", changed, target, 0.2, 0.2, 0, **settings)
        assert (again.scale, again.shift) == (data.scale, data.shift)
        assert (again.target_scale, again.target_shift) == (data.target_scale, data.target_shift)
        # And they do see the training rows.
        changed = x.copy()
        changed[sorted(set(range(60)) - set(held_out))[0]] += 1
        assert tables.from_table("mine", changed, target, 0.2, 0.2, 0, **settings).scale != data.scale


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("wrong", [{"validation_fraction": 1.0}, {"test_fraction": -0.5}, {"split_seed": -1}])
def test_bad_settings_are_named(name, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DATASETS.get(name)(**wrong)
