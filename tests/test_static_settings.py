"""Settings of a person's own loss and augmentation that are not traced shape the program, and act."""

import sys
import types

import numpy as np
import optax
import pytest

import hpjax
import whole_runs as runs
from hpjax.data import AUGMENTATIONS
from hpjax.losses import LOSSES

SMALL = {"train_steps": "3", "eval_every": "3", "log_every": "3", "checkpoint_every": "3", "dropout_rate": 0.0}


@pytest.fixture
def module(monkeypatch):
    """A module 'my_statics' for the time of a test."""
    found = types.ModuleType("my_statics")
    monkeypatch.setitem(sys.modules, "my_statics", found)
    for registry in (LOSSES, AUGMENTATIONS):
        monkeypatch.setattr(registry, "_imported", {})
    return found


def history(folder, **changes):
    return [
        {name: value for name, value in point.items() if name.endswith("/loss")}
        for point in hpjax.run(runs.config(folder, **SMALL, **changes)).history
    ]


def test_of_a_loss(module, tmp_path):
    def scaled(outputs, targets, *, times: int = 1):
        return times * optax.softmax_cross_entropy_with_integer_labels(outputs, targets)

    module.scaled = scaled
    settings = {"optimizer": "sgd", "learning_rate": 0.25}
    once = history(tmp_path / "ours", **settings)
    twice = history(tmp_path / "own", loss="my_statics:scaled", set=("times=2",), **{**settings, "learning_rate": 0.125})
    for one, two in zip(once, twice, strict=True):
        assert one.keys() == two.keys()
        np.testing.assert_allclose(list(two.values()), 2 * np.array(list(one.values())), rtol=1e-4)


def test_of_an_augmentation(module, tmp_path):
    def darker(key, image, *, by: int = 1):
        return image / by

    module.darker = darker
    plain, same, dark = (
        history(tmp_path / name, **given)
        for name, given in (
            ("plain", {}),
            ("same", {"augment": ("my_statics:darker",)}),
            ("dark", {"augment": ("my_statics:darker",), "set": ("by=3",)}),
        )
    )
    np.testing.assert_allclose(plain[0]["train/loss"], same[0]["train/loss"], rtol=1e-5)
    assert abs(dark[0]["train/loss"] - plain[0]["train/loss"]) > 1e-2
