"""Fashion-MNIST and CIFAR: made-up pictures in the published formats come back as they are; damaged files do not."""

import gzip
import hashlib
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from hpjax.data import DATASETS, fashion_mnist, pickles
from hpjax.data import dataset as dataset_lib
from hpjax.errors import DataError
from made_pictures import Cifar, write_tar

NAMES = ("cifar10", "cifar100")
FORMS = ("binary", "python")


def refused(name, **settings):
    with pytest.raises(DataError) as raised:
        DATASETS.get(name)(**settings)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, rng):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, count in (("train", 60), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx((np.arange(count) % 10).astype(np.uint8))))


@pytest.mark.parametrize("below", ["", "fashion_mnist", "fashion-mnist", "FashionMNIST/raw"])
def test_fashion_mnist_is_found(tmp_path, rng, below):
    write_idx(tmp_path / below, rng)
    data = DATASETS.get("fashion_mnist")(data_dir=tmp_path)
    assert data.name == "fashion_mnist"
    assert data.splits == {"train": (0, 55), "val": (55, 5), "test": (60, 20)}
    assert data.class_names[9] == "Ankle boot"


def test_fashion_mnist_comes_from_its_own_folder(tmp_path, rng):
    for folder in ("mnist", "MNIST/raw"):
        write_idx(tmp_path / folder, rng)
    error = refused("fashion_mnist", data_dir=tmp_path)
    assert f"no file train-images-idx3-ubyte[.gz] in '{tmp_path}', '{tmp_path / 'fashion_mnist'}'" in error
    assert "--fetch=fashion_mnist --data_dir=" in error
    write_idx(tmp_path / "fashion_mnist", rng)
    fashion, mnist = (DATASETS.get(name)(data_dir=tmp_path) for name in ("fashion_mnist", "mnist"))
    assert (fashion.x != mnist.x).any()


def test_fashion_mnist_refuses_the_files_of_mnist(tmp_path, rng, monkeypatch):
    write_idx(tmp_path, rng)
    labels = (np.arange(60) % 10).astype(np.uint8)
    monkeypatch.setattr(fashion_mnist, "_MNIST_LABELS", hashlib.sha256(labels.tobytes()).hexdigest())
    assert "train-labels-idx1-ubyte.gz' is MNIST's; expected" in refused("fashion_mnist", data_dir=tmp_path)
    assert DATASETS.get("mnist")(data_dir=tmp_path).name == "mnist"


@pytest.mark.skipif(not os.environ.get("HPJAX_DATA_DIR"), reason="HPJAX_DATA_DIR is not set: no real MNIST")
def test_fashion_mnist_refuses_the_real_mnist():
    error = refused("fashion_mnist", data_dir=Path(os.environ["HPJAX_DATA_DIR"]) / "mnist")
    assert "is MNIST's; expected" in error


def test_mnist_in_the_folders_of_torchvision(tmp_path, rng):
    write_idx(tmp_path / "MNIST" / "raw", rng)
    assert len(DATASETS.get("mnist")(data_dir=tmp_path).x) == 80


def holds(data, made, labels=""):
    """Every picture is there once, with its own label, and those of the test file are the test split."""
    *training, test = made.parts
    x, y = data.part("test")
    np.testing.assert_array_equal(x, made.images[test])
    np.testing.assert_array_equal(y, made.labels[test][labels])
    expected = {
        image.tobytes(): label
        for part in training
        for image, label in zip(made.images[part], made.labels[part][labels], strict=True)
    }
    start = data.splits["test"][0]
    assert {image.tobytes(): label for image, label in zip(data.x[:start], data.y[:start], strict=True)} == expected
    assert data.splits["val"][1] == len(expected) // 10
    assert data.class_names == tuple(made.names[labels])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar(tmp_path, rng, name, form, below, packed):
    made = Cifar(name, rng)
    place = tmp_path / name if below else tmp_path
    (made.pack if packed else made.write)(form, place)
    labels = "" if name == "cifar10" else "fine_"
    data = DATASETS.get(name)(data_dir=tmp_path)
    dataset_lib.check(data)
    assert data.x.dtype == np.uint8
    holds(data, made, labels)
    x = np.array(data.scale) * data.part("train")[0].astype(np.float64) + np.array(data.shift)
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_the_coarse_labels(tmp_path, rng, form):
    made = Cifar("cifar100", rng)
    made.write(form, tmp_path)
    data = DATASETS.get("cifar100")(data_dir=tmp_path, cifar_labels="coarse")
    assert data.num_classes == 20
    holds(data, made, "coarse_")


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_itself_and_which_form_comes_first(tmp_path, rng, name):
    python, binary, packed = (Cifar(name, rng) for _ in range(3))
    labels = "" if name == "cifar10" else "fine_"
    packed.pack("binary", tmp_path)
    folder = python.write("python", tmp_path)
    holds(DATASETS.get(name)(data_dir=folder), python, labels)
    holds(DATASETS.get(name)(data_dir=tmp_path), python, labels)
    binary.write("binary", tmp_path)
    holds(DATASETS.get(name)(data_dir=tmp_path), binary, labels)


@pytest.mark.parametrize("name", NAMES)
def test_missing_cifar(tmp_path, rng, monkeypatch, name):
    monkeypatch.delenv("HPJAX_DATA_DIR", raising=False)
    assert "give --data_dir or the environment variable HPJAX_DATA_DIR" in refused(name, data_dir=None)
    for folder in (tmp_path, tmp_path / "missing"):
        error = refused(name, data_dir=folder)
        assert str(folder) in error
        assert f"--fetch={name} --data_dir={folder}" in error
    made = Cifar(name, rng)
    folder = made.write("binary", tmp_path)
    (folder / f"{made.parts[-1]}.bin").unlink()
    assert f"no file {made.parts[-1]}.bin in '{folder}'" in refused(name, data_dir=tmp_path)
    # The names of the classes are no reason not to train.
    made.write("python", tmp_path / "more")
    for meta in ("batches.meta", "meta"):
        (next((tmp_path / "more").iterdir()) / meta).unlink(missing_ok=True)
    assert DATASETS.get(name)(data_dir=tmp_path / "more").class_names == ()


def test_damaged_binary_files(tmp_path, rng):
    made = Cifar("cifar10", rng)
    path = made.write("binary", tmp_path) / "data_batch_3.bin"
    content = path.read_bytes()
    for damaged in (content[:-1], content + b"x", b""):
        path.write_bytes(damaged)
        error = refused("cifar10", data_dir=tmp_path)
        assert "data_batch_3.bin' is damaged" in error
        assert f"{len(damaged)} bytes; expected a multiple of 3073" in error
    path.write_bytes(b"\x0a" + content[1:])
    assert "data_batch_3.bin' has label 10 at example 0; expected 0 to 9" in refused("cifar10", data_dir=tmp_path)


def test_damaged_archives(tmp_path, rng):
    path = Cifar("cifar10", rng).pack("binary", tmp_path)
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    for damaged in (content[:middle], content[:5], b"", b"no archive", flipped):
        path.write_bytes(damaged)
        assert f"file '{path}' is a damaged or truncated archive" in refused("cifar10", data_dir=tmp_path)
    write_tar(path, {"cifar-10-batches-bin/data_batch_1.bin": b""})
    assert "has no cifar-10-batches-bin/data_batch_2.bin" in refused("cifar10", data_dir=tmp_path)


class Harmful:
    """Runs code where a pickle of it is read without care."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


GOOD = {b"labels": [0, 1, 2], b"data": np.zeros((3, 3072), np.uint8)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({**GOOD, b"more": Harmful()}, 2), "it asks for posix.mkdir"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "it asks for builtins.eval"),
        (b"cnumpy\nload\n(S'x'\ntR.", "it asks for numpy.load"),
        (pickle.dumps([GOOD], 2), "it holds a list; expected a dictionary"),
        (pickle.dumps(GOOD, 2)[:-100], "is damaged"),
        (b"", "is damaged"),
        (pickle.dumps({**GOOD, b"data": np.zeros((3, 3072))}, 2), "expected unsigned bytes"),
        (pickle.dumps({**GOOD, b"data": np.array([[None]])}, 2), "expected unsigned bytes"),
        (pickle.dumps({**GOOD, b"data": np.zeros((3, 3071), np.uint8)}, 2), "'data' is an array of shape [3, 3071]"),
        (pickle.dumps({b"labels": [0]}, 2), "'data' is missing"),
        (pickle.dumps({**GOOD, b"labels": [0, 1]}, 2), "expected a list of 3 whole numbers"),
        (pickle.dumps({**GOOD, b"labels": [0, 1, 2.5]}, 2), "expected a list of 3 whole numbers"),
        (pickle.dumps({**GOOD, b"labels": [0, 1, 10]}, 2), "has label 10 at example 2; expected 0 to 9"),
        (pickle.dumps({**GOOD, b"labels": [0, 1, -1]}, 2), "has label -1 at example 2; expected 0 to 9"),
        (pickle.dumps({**GOOD, b"labels": [0, 1, 2**70]}, 2), "has numbers that are no labels"),
    ],
)
def test_bad_pickles(tmp_path, rng, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    folder = Cifar("cifar10", rng).write("python", tmp_path)
    (folder / "data_batch_2").write_bytes(content)
    error = refused("cifar10", data_dir=tmp_path)
    assert "cifar-10-batches-py/data_batch_2'" in error
    assert message in error
    assert not (tmp_path / "harm").exists()


def test_pickles_of_python_3_and_in_either_order(rng):
    array = rng.integers(0, 256, (4, 6), np.uint8)
    for made in (array, np.asfortranarray(array)):
        for protocol in range(5):
            found = pickles.read(pickle.dumps({"data": made, "name": "a text", b"bytes": b"\xff\0"}, protocol))
            np.testing.assert_array_equal(found["data"], array)
            assert found["name"] in ("a text", b"a text")
            assert found["bytes"] == b"\xff\0"


def test_cifar_does_not_take_files_of_two_folders(tmp_path, rng):
    made = Cifar("cifar10", rng)
    folder = made.write("binary", tmp_path)
    shutil.copytree(folder, tmp_path / "cifar10" / folder.name)
    (folder / "test_batch.bin").unlink()
    assert f"no file test_batch.bin in '{folder}'" in refused("cifar10", data_dir=tmp_path)
