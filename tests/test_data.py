"""Data sets: what every registered one holds to, what is refused, and the files of MNIST."""

import dataclasses
import gzip
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from hpjax.config import FIELDS
from hpjax.data import DATASETS
from hpjax.data import dataset as dataset_lib
from hpjax.data.scaling import scale_and_shift
from hpjax.errors import ConfigError, DataError
from sources import SOURCES, idx, mnist_arrays, write_mnist


@pytest.fixture
def mnist_dir(tmp_path):
    write_mnist(tmp_path)
    return tmp_path


def one_line_error(call, **settings):
    with pytest.raises(DataError) as raised:
        call(**settings)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", DATASETS.names())
def test_conformance(name, tmp_path, monkeypatch):
    monkeypatch.delenv("HPJAX_DATA_DIR", raising=False)
    known = DATASETS.settings(name)
    settings = SOURCES[name](tmp_path) if name in SOURCES else {}
    data = DATASETS.load(name, settings)
    assert data.name == name
    assert data.task == DATASETS.task(name)
    assert data.splits["train"][1] > 0
    assert data.splits["val"][1] > 0
    assert data.outputs == (data.y.shape[1] if data.y.ndim == 2 else data.num_classes or 1)
    if not data.tokens:
        x = data.part("train")[0].astype(np.float64)
        axes = tuple(range(x.ndim if np.ndim(data.scale) == 0 else x.ndim - 1))
        x = np.asarray(data.scale) * x + np.asarray(data.shift)
        np.testing.assert_allclose(x.mean(axes), 0, atol=1e-9)
        np.testing.assert_allclose(x.std(axes), 1, atol=1e-9)
    if data.task == "regression":
        np.testing.assert_allclose(data.part("train")[1].mean(0, np.float64), 0, atol=1e-6)
        np.testing.assert_allclose(data.part("train")[1].std(0, np.float64), 1, atol=1e-6)

    again = DATASETS.load(name, settings)
    assert again.fingerprint() == data.fingerprint()
    if "split_seed" in known:
        other = DATASETS.load(name, {**settings, "split_seed": 1})
        assert (data.x != other.x).any()
        assert other.fingerprint() != data.fingerprint()
    if "validation_fraction" in known:
        assert DATASETS.load(name, {**settings, "validation_fraction": 0.0}).splits["val"][1] == 0
        for wrong in (-0.1, 1.0, float("nan")):
            with pytest.raises(ConfigError, match="validation_fraction"):
                DATASETS.load(name, {**settings, "validation_fraction": wrong})


@pytest.mark.parametrize("file", ["where it is", "elsewhere"])
def test_digits_are_those_of_sklearn(file, monkeypatch):
    from sklearn.datasets import load_digits

    if file == "elsewhere":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    bunch, data = load_digits(), DATASETS.get("digits")()
    assert data.x.shape == (1797, 8, 8, 1)
    assert data.x.dtype == np.uint8
    assert data.splits == {"train": (0, 1079), "val": (1079, 359), "test": (1438, 359)}
    expected = sorted((*image.ravel().tolist(), label) for image, label in zip(bunch.images, bunch.target, strict=True))
    assert sorted((*image.ravel().tolist(), label) for image, label in zip(data.x, data.y, strict=True)) == expected


def test_digits_need_no_import_of_sklearn():
    code = "import sys; from hpjax.data import DATASETS; DATASETS.load('digits', {}); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_standardisation_is_of_the_training_split_per_channel():
    random = np.random.default_rng(0)
    # Channel 1 lies far from 0, where float32 sums lose the deviation; channel 2 is a constant.
    x = (random.normal(size=(3000, 4, 4, 3)) * [1, 0.5, 0] + [0, 1000, 0.1]).astype(np.float32)
    train, test = (x, np.zeros(3000, np.int32)), (x[:5] + 100, np.zeros(5, np.int32))
    data = dataset_lib.create("mine", train=train, test=test, num_classes=1, per_channel=True)
    standardised = np.array(data.scale) * x.astype(np.float64) + np.array(data.shift)
    np.testing.assert_allclose(standardised.mean((0, 1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(standardised.std((0, 1, 2)), [1, 1, 0], atol=1e-9)
    np.testing.assert_array_equal(data.part("test")[0], test[0])
    assert data.part("val")[0].shape == (0, 4, 4, 3)


def sound(count=6, dtype=np.float32):
    return np.arange(2 * count).reshape(count, 2).astype(dtype), (np.arange(count) % 3).astype(np.int32)


NOT_FINITE = sound()[0].copy()
NOT_FINITE[4, 1] = np.inf


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": (sound()[0], sound()[1] - 1)}, "label -1 of example 0 is out of range; expected 0 to 2"),
        ({"train": (sound()[0], sound()[1] + 1)}, "label 3 of example 2 is out of range; expected 0 to 2"),
        ({"train": (sound()[0], sound(5)[1])}, "split 'train' has 6 inputs and 5 labels"),
        ({"train": sound(0), "test": sound()}, "the training split is empty"),
        ({"train": (NOT_FINITE, sound()[1])}, "1 input values are not finite, the first in example 4"),
        ({"train": sound(dtype=np.float64)}, "x is float64 and y int32"),
        ({"train": sound(), "test": sound(dtype=np.uint8)}, "split 'test' has inputs uint8"),
    ],
)
def test_bad_data_are_refused(parts, message):
    error = one_line_error(dataset_lib.create, name="mine", num_classes=3, **parts)
    assert error.startswith("dataset 'mine': ")
    assert message in error


@pytest.mark.parametrize(
    "splits",
    [
        {"train": (0, 6)},
        {"train": (0, 4), "val": (4, 1), "test": (5, 0)},
        {"train": (2, 4), "val": (0, 2), "test": (6, 0)},
    ],
)
def test_check_refuses_other_splits(splits):
    data = dataset_lib.create("mine", train=sound(), num_classes=3)
    with pytest.raises(DataError, match="expected train, val and test one after the other over 6 examples"):
        dataset_lib.check(dataclasses.replace(data, splits=splits))


# The tasks


def language(**changes):
    tokens = np.arange(40, dtype=np.uint8) % 7
    given = {"train": tokens[:20], "val": tokens[20:31], "test": tokens[31:], "window": 4, "num_classes": 7}
    return dataset_lib.create_language("mine", **{**given, **changes})


def regression(y, **parts):
    return dataset_lib.create("mine", train=(np.ones((len(y), 2), np.float32), y), task="regression", **parts)


def test_regression_targets_are_standardised_by_the_training_split(rng):
    y = rng.normal(1e6, [3.0, 0.1], (50, 2))
    other = rng.normal(0, 1, (9, 2))
    data = regression(y, val=(np.ones((9, 2), np.float32), other))
    assert (data.y.dtype, data.y.shape, data.outputs, data.num_classes) == (np.float32, (59, 2), 2, 0)
    standard = StandardScaler().fit(y)
    np.testing.assert_allclose(data.target_scale, standard.scale_, rtol=1e-9)
    np.testing.assert_allclose(data.target_shift, standard.mean_, rtol=1e-12)
    np.testing.assert_allclose(data.part("train")[1], standard.transform(y), rtol=1e-6, atol=1e-6)
    back = data.part("val")[1].astype(np.float64) * data.target_scale + data.target_shift
    np.testing.assert_allclose(back, other, atol=1e6 * 2**-23)


def test_one_target_and_a_constant_one():
    data = regression(np.full(5, 0.1, np.float32))
    assert (data.outputs, data.y.tolist(), data.target_scale) == (1, [0.0] * 5, 1.0)
    assert data.target_shift == pytest.approx(0.1)


def test_multilabel_takes_its_classes_from_the_targets():
    y = np.eye(3, dtype=np.uint8)
    data = dataset_lib.create("mine", train=(np.ones((3, 2), np.float32), y), task="multilabel", class_names="abc")
    assert (data.outputs, data.num_classes, data.class_names) == (3, 3, ("a", "b", "c"))
    np.testing.assert_array_equal(data.y, y)


def test_a_label_an_item_may_be_masked():
    y = np.array([[0, -1], [2, 1]], np.int32)
    tokens = dataset_lib.create("mine", train=(np.abs(y), y), num_classes=3)
    assert tokens.tokens
    assert (tokens.scale, tokens.shift) == (1.0, 0.0)
    features = dataset_lib.create("mine", train=(np.arange(12, dtype=np.float32).reshape(2, 2, 3), y), num_classes=3)
    assert not features.tokens


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: regression(np.array([1.0, np.nan])), "1 target values are not finite, the first in example 1"),
        (lambda: regression(np.array([1, 2])), "x is float32 and y int64; expected uint8 or float32, and float32"),
        (lambda: regression(np.ones((3, 0))), "expected at least one value in each example"),
        (lambda: regression(np.ones(3), num_classes=3), "num_classes is 3 for a regression; expected 0"),
        (
            lambda: dataset_lib.create("mine", train=sound(), num_classes=3, task="regresion"),
            "expected one of classification, regression, multilabel, language; did you mean 'regression'?",
        ),
        (lambda: dataset_lib.create("mine", train=sound()), "num_classes is 0; expected the number of classes"),
        (
            lambda: dataset_lib.create("mine", train=sound(), num_classes=3, class_names=("a", "b")),
            "class_names has 2 names; expected 3, one for each output, or none",
        ),
        (
            lambda: dataset_lib.create("mine", train=(np.ones((2, 1), np.float32), np.eye(2) * 2), task="multilabel"),
            "y float64; expected uint8 or float32, and uint8 or float32",
        ),
        (
            lambda: dataset_lib.create(
                "mine", train=(np.ones((2, 1), np.float32), 2 * np.eye(2, dtype=np.uint8)), task="multilabel"
            ),
            "target 2 of example 0; expected 0 or 1",
        ),
        (
            lambda: dataset_lib.create("mine", train=(np.ones((2, 3), np.int32), np.zeros((2, 4), np.int32)), num_classes=3),
            "x is int32 and y int32",
        ),
        (
            lambda: dataset_lib.create(
                "mine", train=(np.ones((2, 3, 1), np.uint8), np.zeros((2, 4), np.int32)), num_classes=3
            ),
            "expected a label for each of an input's items",
        ),
        (
            lambda: dataset_lib.create("mine", train=(np.full((2, 4), 3), np.zeros((2, 4), np.int32)), num_classes=3),
            "x is int64",
        ),
        (
            lambda: dataset_lib.create(
                "mine", train=(np.full((2, 4), 3, np.int32), np.zeros((2, 4), np.int32)), num_classes=3
            ),
            "token 3 is out of range; expected 0 to 2",
        ),
        (
            lambda: dataset_lib.create(
                "mine", train=(np.ones((2, 4), np.int32), np.full((2, 4), -1, np.int32)), num_classes=3
            ),
            "every label of the training split is negative",
        ),
        (lambda: language(num_classes=6), "token 6 is out of range; expected 0 to 5"),
        (lambda: language(val=np.zeros(4, np.uint8)), "split 'val' has 4 tokens; expected at least 5"),
        (lambda: language(train=np.zeros(0, np.uint8)), "split 'train' has 0 tokens; expected at least 5"),
        (
            lambda: dataset_lib.check(dataclasses.replace(language(), window=9)),
            "example 18 begins at token 31; expected 0 to 30",
        ),
        (lambda: dataset_lib.check(dataclasses.replace(language(), window=0)), "window is 0; expected a whole number >= 1"),
        (lambda: dataset_lib.check(dataclasses.replace(language(), x=np.zeros((40, 1), np.uint8))), "one stream of tokens"),
        (lambda: dataset_lib.check(dataclasses.replace(language(), x=np.zeros(40, np.int64))), "x is int64 and y int32"),
        (
            lambda: dataset_lib.check(dataclasses.replace(language(), task="classification", window=4)),
            "expected one label for each input",
        ),
        (
            lambda: dataset_lib.check(
                dataclasses.replace(dataset_lib.create("mine", train=sound(), num_classes=3), window=4)
            ),
            "window is 4 for the task 'classification'; expected None",
        ),
        (
            lambda: dataset_lib.check(
                dataclasses.replace(dataset_lib.create("mine", train=sound(), num_classes=3), y=[0] * 6)  # type: ignore
            ),
            "y is a list; expected a NumPy array",
        ),
    ],
)
def test_data_that_do_not_fit_their_task(call, message):
    error = one_line_error(call)
    assert error.startswith("dataset 'mine': ")
    assert message in error


def test_the_fingerprint_covers_what_the_examples_mean():
    data = language()
    changes = [{"window": 3}, {"num_classes": 9}, {"task": "other"}, {"class_names": ("a",) * 7}, {"target_scale": 2.0}]
    changes += [{"target_shift": 1.0}, {"splits": {**data.splits, "val": (0, 1)}}, {"x": data.x[::-1]}, {"y": data.y + 1}]
    prints = {dataclasses.replace(data, **change).fingerprint() for change in changes}
    assert len(prints | {data.fingerprint()}) == len(changes) + 1
    assert dataclasses.replace(data, name="other", x=data.x.copy()).fingerprint() == data.fingerprint()


def test_the_scale_of_large_data_is_summed_in_blocks(rng):
    x = rng.integers(0, 256, (40, 200, 200, 3), np.uint8)
    x[..., 2] = 7
    scale, shift = scale_and_shift(x, per_channel=True)
    # In whole numbers: NumPy's own sums over outer axes are no better than 1e-12.
    count, wide = x.size // 3, x.reshape(-1, 3).astype(np.int64)
    sums, squares = wide.sum(0), (wide**2).sum(0)
    mean, deviation = sums / count, np.sqrt((count * squares - sums**2) / count**2)
    deviation[2] = 1.0
    np.testing.assert_allclose(scale, 1 / deviation, rtol=1e-12)
    np.testing.assert_allclose(shift, -mean / deviation, rtol=1e-12)


# What is registered, and what a person's own function returns


def test_a_task_is_declared_or_chosen():
    assert DATASETS.task("iris") == "classification"
    assert DATASETS.task("diabetes") == "regression"
    assert DATASETS.task("text", None) == "language"
    assert DATASETS.task("csv") == "classification"
    assert DATASETS.task("csv", "regression") == "regression"


def test_every_setting_has_its_flag():
    for name in DATASETS.names():
        assert set(DATASETS.settings(name)) <= set(FIELDS), name
        assert DATASETS.traced(name) == ()


OWN = """
import numpy as np
import hpjax.data

X, Y = np.arange(24, dtype=np.float32).reshape(12, 2), (np.arange(12) % 3).astype(np.int32)

def good(*, shifted: float = 0.5, validation_fraction: float = 0.25):
    cut = round(len(X) * validation_fraction)
    parts = {"train": (X[cut:] + np.float32(shifted), Y[cut:]), "val": (X[:cut], Y[:cut])}
    return hpjax.data.create("good", **parts, num_classes=3)

@hpjax.data.task("regression")
def numbers():
    return hpjax.data.create("numbers", train=(X, Y.astype(np.float64)), task="regression")

def undeclared():
    return numbers()

def pair():
    return X, Y

def named():
    return {"x": X, "y": Y}

def nothing():
    pass

def array():
    return X
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a module of a person's own with data sets; no other test sees it."""
    (tmp_path / "own_data.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_data"
    sys.modules.pop("own_data", None)
    for name in list(DATASETS._entries):
        if name.startswith("own_data:"):
            del DATASETS._entries[name]


def test_a_function_of_ones_own_with_its_own_settings(own):
    assert DATASETS.own(f"{own}:good") == {"shifted": 0.5}
    data = DATASETS.load(f"{own}:good", {"shifted": 2.0, "validation_fraction": 0.5})
    assert data.splits == {"train": (0, 6), "val": (6, 6), "test": (12, 0)}
    assert data.x[0, 0] == 14.0
    assert DATASETS.task(f"{own}:numbers") == "regression"
    assert DATASETS.load(f"{own}:numbers", {}).outputs == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pair", "gave a tuple of 2 (ndarray, ndarray); expected a hpjax.data.Dataset: return hpjax.data.create("),
        ("named", "gave a dict of 2 ('x', 'y'); expected a hpjax.data.Dataset: return hpjax.data.create("),
        ("nothing", "gave nothing; expected a hpjax.data.Dataset"),
        ("array", "gave a ndarray; expected a hpjax.data.Dataset"),
        (
            "undeclared",
            "gave data for the task 'regression'; expected 'classification': "
            "write @hpjax.data.task('regression') above its function",
        ),
    ],
)
def test_what_is_no_data_set_is_refused(own, name, message):
    error = one_line_error(lambda: DATASETS.load(f"{own}:{name}", {}))
    assert error.startswith(f"dataset '{own}:{name}' {message}")


# The files of MNIST


def test_mnist_keeps_pictures_and_labels_together(mnist_dir):
    arrays, data = mnist_arrays(), DATASETS.get("mnist")(data_dir=mnist_dir)
    assert data.splits == {"train": (0, 55), "val": (55, 5), "test": (60, 20)}
    x, y = data.part("test")
    np.testing.assert_array_equal(x[..., 0], arrays["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(y, arrays["t10k-labels-idx1-ubyte"])
    images, labels = arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"]
    pairs = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert {image.tobytes(): label for image, label in zip(data.x[:60], data.y[:60], strict=True)} == pairs


@pytest.mark.parametrize("folder", ["", "mnist"])
@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_files_are_found_by_their_usual_names(tmp_path, monkeypatch, folder, mark, packed):
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, array in mnist_arrays().items():
        path = tmp_path / folder / (name.replace("-idx", f"{mark}idx") + (".gz" if packed else ""))
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    monkeypatch.setenv("HPJAX_DATA_DIR", str(tmp_path))
    assert len(DATASETS.get("mnist")(data_dir=None).x) == 80


def test_mnist_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("HPJAX_DATA_DIR", raising=False)
    error = one_line_error(DATASETS.get("mnist"), data_dir=None)
    assert "--data_dir" in error
    assert "HPJAX_DATA_DIR" in error
    for folder in (tmp_path, tmp_path / "missing"):
        error = one_line_error(DATASETS.get("mnist"), data_dir=folder)
        assert str(folder) in error
        assert "t10k-labels-idx1-ubyte.gz" in error


def test_mnist_does_not_mix_folders(mnist_dir):
    (mnist_dir / "mnist").mkdir()
    name = "t10k-labels-idx1-ubyte"
    (mnist_dir / name).rename(mnist_dir / "mnist" / name)
    error = one_line_error(DATASETS.get("mnist"), data_dir=mnist_dir)
    assert f"no file {name}[.gz] in '{mnist_dir}'" in error


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
PACKED = gzip.compress(idx(mnist_arrays()[IMAGES]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, idx(mnist_arrays()[LABELS]), "begins with 0x00000801; expected the IDX magic number 0x00000803"),
        (IMAGES, b"", "begins with 0x; expected the IDX magic number"),
        (IMAGES, bytes([0, 0, 8, 3, 0, 0]), "is truncated: 6 bytes; expected a header of 16"),
        (
            LABELS,
            idx(mnist_arrays()[LABELS])[:-1],
            "is truncated: 67 bytes; expected 68 for the sizes in its header, 60",
        ),
        (LABELS, idx(mnist_arrays()[LABELS]) + b"\0", "has bytes after its end: 69 bytes; expected 68"),
        (IMAGES, b"\0\0\x08\x03" + b"\xff" * 12, "expected 79228162458924105385300197391 for the sizes in its header"),
        (IMAGES, PACKED[:-20], "is a damaged or truncated gzip file"),
        (IMAGES, PACKED[:5000] + bytes([PACKED[5000] ^ 255]) + PACKED[5001:], "is a damaged or truncated gzip file"),
        (IMAGES, PACKED[:10] + b"\xff" + PACKED[11:], "is a damaged or truncated gzip file"),
        (LABELS, idx(np.zeros(59, np.uint8)), "has 60 images, "),
        (LABELS, idx(np.arange(60, dtype=np.uint8) % 11), "has label 10 at example 10; expected 0 to 9"),
        (IMAGES, idx(np.zeros((60, 28, 27), np.uint8)), "has images of 28 x 27; expected 28 x 28"),
    ],
)
def test_damaged_files_are_refused(mnist_dir, name, content, message):
    (mnist_dir / name).write_bytes(content)
    error = one_line_error(DATASETS.get("mnist"), data_dir=mnist_dir)
    assert str(mnist_dir / name) in error
    assert message in error


@pytest.mark.skipif(not os.environ.get("HPJAX_DATA_DIR"), reason="HPJAX_DATA_DIR is not set: no real MNIST")
def test_real_mnist():
    data = DATASETS.get("mnist")(data_dir=None)
    assert data.x.shape == (70000, 28, 28, 1)
    assert data.splits == {"train": (0, 55000), "val": (55000, 5000), "test": (60000, 10000)}
    x, y = data.part("train")
    standardised = np.float32(data.scale) * x + np.float32(data.shift)
    assert standardised.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert standardised.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    # The published digits: 5,923 zeros among the 60,000, 980 among the 10,000 whose first is a seven.
    assert np.sum(np.concatenate([y, data.part("val")[1]]) == 0) == 5923
    assert np.sum(data.part("test")[1] == 0) == 980
    assert data.part("test")[1][0] == 7


@pytest.mark.parametrize("size", [1e300, 1e-42])
def test_numbers_that_float32_cannot_standardise_are_refused(rng, size):
    x = rng.normal(size=(20, 3)).astype(np.float32)
    y = size * rng.normal(size=20)
    with pytest.raises(DataError, match="cannot be standardised in float32"):
        dataset_lib.create("own", train=(x, y), task="regression")
