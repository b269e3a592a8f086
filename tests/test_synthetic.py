"""Synthetic data: what is drawn is what the docstrings say, the same every time, and never float64 as a whole."""

import math
import tracemalloc

import numpy as np
import pytest

from hpjax.data import DATASETS
from hpjax.errors import ConfigError, DataError

NAMES = ("synthetic", "synthetic_images", "synthetic_tokens")


def test_clusters_are_balanced_and_apart():
    data = DATASETS.load("synthetic", {"examples": 3001, "features": 7, "classes": 4, "noise": 0.5})
    assert data.x.shape == (3001, 7)
    assert np.ptp(np.bincount(data.y)) == 1
    centres = np.stack([data.x[data.y == label].mean(0) for label in range(4)])
    # The noise about a centre has the deviation asked for; 3,000 x 7 values give it within a few per cent.
    assert (data.x - centres[data.y]).std() == pytest.approx(0.5, rel=0.03)
    nearest = ((data.x[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (nearest == data.y).mean() > 0.9


def test_without_noise_a_class_is_a_point_and_a_target_a_function():
    data = DATASETS.load("synthetic", {"noise": 0.0, "examples": 50, "classes": 5})
    assert len(np.unique(data.x, axis=0)) == 5
    smooth, noisy = (
        DATASETS.load("synthetic", {"task": "regression", "noise": noise, "examples": 9000, "validation_fraction": 0.0})
        for noise in (0.0, 1.0)
    )
    assert smooth.outputs == 1
    assert 0.5 < smooth.target_scale < 2
    assert noisy.target_scale**2 - smooth.target_scale**2 == pytest.approx(1, abs=0.2)


def test_pictures_are_patches_and_noise():
    plain = DATASETS.load("synthetic_images", {"noise": 0.0, "examples": 40, "image_size": 20, "classes": 3})
    assert plain.x.shape == (40, 20, 20, 3)
    assert plain.x.dtype == np.uint8
    assert len(np.unique(plain.x.reshape(40, -1), axis=0)) == 3
    noisy = DATASETS.load("synthetic_images", {"noise": 1.0, "examples": 40, "image_size": 20, "classes": 3})
    np.testing.assert_array_equal(noisy.y, plain.y)
    difference = noisy.x.astype(int) - plain.x
    assert (difference.min(), difference.max()) == (-64, 64)
    assert len(plain.scale) == 3
    assert DATASETS.load("synthetic_images", {"image_size": 3, "examples": 20}).x.shape == (20, 3, 3, 3)


def test_tokens_follow_their_chain():
    settings = {"examples": 400, "context_length": 50, "classes": 20}
    fixed = DATASETS.load("synthetic_tokens", {**settings, "noise": 0.0}).x
    follows = dict(zip(fixed[:-1].tolist(), fixed[1:].tolist(), strict=True))
    assert len(follows) == 20
    assert (fixed[20:] == fixed[:-20]).all()
    data = DATASETS.load("synthetic_tokens", {**settings, "noise": 0.3})
    assert (len(data.x), data.outputs, data.window) == (20000, 20, 50)
    assert data.splits["train"][1] == 16000 - 50
    assert data.splits["val"][1] == (2000 - 1) // 50
    kept = np.mean([follows[token] == after for token, after in zip(data.x[:-1].tolist(), data.x[1:].tolist(), strict=True)])
    # 1 - p + p / V, give or take five standard deviations.
    assert kept == pytest.approx(0.7 + 0.3 / 20, abs=5 * math.sqrt(0.715 * 0.285 / 20000))
    assert DATASETS.load("synthetic_tokens", {**settings, "classes": 300}).x.dtype == np.uint16


def test_the_draw_never_changes():
    """A change here changes the numbers of every recorded run."""
    small = {"examples": 12, "validation_fraction": 0.0, "test_fraction": 0.0}
    data = DATASETS.load("synthetic", {**small, "features": 2, "classes": 3})
    assert data.y.tolist() == [0, 2, 1, 1, 2, 2, 1, 1, 0, 0, 0, 2]
    np.testing.assert_allclose(data.x[0], [0.34064439, 0.74427283], rtol=1e-6)
    images = DATASETS.load("synthetic_images", {**small, "image_size": 2, "classes": 3})
    assert images.x[0].ravel().tolist() == [140, 56, 115, 145, 107, 62, 188, 139, 153, 181, 97, 128]
    tokens = DATASETS.load("synthetic_tokens", {**small, "context_length": 1, "classes": 5, "noise": 0.5})
    assert tokens.x.tolist() == [2, 0, 4, 2, 2, 0, 1, 1, 3, 4, 2, 0]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_no_float64_copy_of_a_large_set(task):
    tracemalloc.start()
    data = DATASETS.load("synthetic", {"examples": 100_000, "features": 200, "task": task})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 80 MB of float32; a mask of which are finite takes a quarter more, a block a few float64 copies of itself.
    assert peak < 1.9 * data.x.nbytes


def test_a_stand_in_for_imagenet_fits_where_its_pictures_do():
    tracemalloc.start()
    data = DATASETS.load("synthetic_images", {"examples": 500, "image_size": 224, "classes": 100})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.x.shape == (500, 224, 224, 3)
    assert peak < data.x.nbytes + 60e6


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("synthetic", {"task": "language"}, "task is 'language'; expected one of classification, regression"),
        ("synthetic", {"task": "regression", "classes": 3}, "classes is 3, but task is 'regression'"),
        ("synthetic", {"features": 0}, r"features is 0; expected a whole number in \[1, 2\^31\)"),
        ("synthetic", {"noise": math.inf}, "noise is inf; expected a finite number >= 0"),
        ("synthetic_images", {"image_size": 0}, r"image_size is 0; expected a whole number in \[1, 2\^31\)"),
        ("synthetic_images", {"noise": 1.5}, r"noise is 1.5; expected a number in \[0, 1\]"),
        ("synthetic_tokens", {"noise": 1.5}, r"noise is 1.5; expected a number in \[0, 1\]"),
        ("synthetic_tokens", {"context_length": 0}, "context_length is 0"),
        ("synthetic_tokens", {"context_length": 2**22}, "expected fewer than 2\\^31 tokens"),
        *((name, {"examples": 0}, "examples is 0") for name in NAMES),
        *((name, {"classes": 1}, r"classes is 1; expected a whole number in \[2, 2\^31\)") for name in NAMES),
        *((name, {"noise": -0.1}, r"noise is -0\.1") for name in NAMES),
        *((name, {"noise": math.nan}, "noise is nan") for name in NAMES),
        *((name, {"split_seed": 2**32}, "split_seed is 4294967296") for name in NAMES),
        *((name, {"validation_fraction": 0.5, "test_fraction": 0.5}, "is 1.0; expected less than 1") for name in NAMES),
    ],
)
def test_bad_settings_are_named(name, given, message):
    with pytest.raises(ConfigError, match=message):
        DATASETS.load(name, given)


def test_too_few_examples_for_a_split():
    with pytest.raises(DataError, match="no training example is left: of 1 examples"):
        DATASETS.load("synthetic", {"examples": 1, "validation_fraction": 0.7})
    with pytest.raises(DataError, match="split 'val' has 26 tokens; expected at least 65"):
        DATASETS.load("synthetic_tokens", {"examples": 4})
