"""Data sets: what every registered one holds to, what is refused, and the files of MNIST."""

import dataclasses
import gzip
import os
import struct

import numpy as np
import pytest

from hpjax.data import DATASETS
from hpjax.data import dataset as dataset_lib
from hpjax.errors import DataError

COUNTS = {"train": 60, "t10k": 20}


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_arrays():
    random = np.random.default_rng(0)
    arrays = {}
    for stem, count in COUNTS.items():
        arrays[f"{stem}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{stem}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    return arrays


@pytest.fixture
def mnist_dir(tmp_path):
    for name, array in mnist_arrays().items():
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def one_line_error(call, **settings):
    with pytest.raises(DataError) as raised:
        call(**settings)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", DATASETS.names())
def test_conformance(name, mnist_dir):
    load = DATASETS.get(name)
    settings = {"data_dir": mnist_dir} if "data_dir" in DATASETS.settings(name) else {}
    data = load(**settings)
    dataset_lib.check(data)
    assert data.name == name
    assert all(size > 0 for _, size in data.splits.values())
    x = data.scale * data.part("train")[0].astype(np.float64) + data.shift
    assert x.mean() == pytest.approx(0, abs=1e-9)
    assert x.std() == pytest.approx(1, abs=1e-9)

    again, other = load(**settings), load(**settings, split_seed=1)
    for array in ("x", "y"):
        np.testing.assert_array_equal(getattr(data, array), getattr(again, array))
    assert (data.x != other.x).any()
    assert load(**settings, validation_fraction=0.0).splits["val"][1] == 0


def test_digits_are_those_of_sklearn():
    from sklearn.datasets import load_digits

    bunch, data = load_digits(), DATASETS.get("digits")()
    assert data.x.shape == (1797, 8, 8, 1)
    assert data.x.dtype == np.uint8
    assert data.splits == {"train": (0, 1079), "val": (1079, 359), "test": (1438, 359)}
    expected = sorted((*image.ravel().tolist(), label) for image, label in zip(bunch.images, bunch.target, strict=True))
    assert sorted((*image.ravel().tolist(), label) for image, label in zip(data.x, data.y, strict=True)) == expected


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
