"""CIFAR-10 and CIFAR-100 from their published files: the binary or the Python form, unpacked or as published."""

import gzip
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpjax.data import pickles, splits
from hpjax.data.dataset import Dataset, Part, create
from hpjax.data.published import folders, listed, where_had
from hpjax.data.registry import DATASETS
from hpjax.errors import DataError

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_BLOCK = 1 << 20
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error)


class _Form(NamedTuple):
    """One of the forms in which a data set is published.

    Attributes:
      folder: of its files, inside the archive too.
      archive: the file that is published.
      train: names of the training files.
      test: name of the test file.
      names: file of the class names, `{}` for the kind of label.
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    names: str

    @property
    def binary(self) -> bool:
        return self.test.endswith(".bin")


_NUMBERS = range(1, 6)
# The binary form first: it is the simpler one.
_FORMS = {
    "cifar10": (
        _Form(
            "cifar-10-batches-bin",
            "cifar-10-binary.tar.gz",
            tuple(f"data_batch_{i}.bin" for i in _NUMBERS),
            "test_batch.bin",
            "batches.meta.txt",
        ),
        _Form(
            "cifar-10-batches-py",
            "cifar-10-python.tar.gz",
            tuple(f"data_batch_{i}" for i in _NUMBERS),
            "test_batch",
            "batches.meta",
        ),
    ),
    "cifar100": (
        _Form("cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), "test.bin", "{}_label_names.txt"),
        _Form("cifar-100-python", "cifar-100-python.tar.gz", ("train",), "test", "meta"),
    ),
}


@DATASETS.register
def cifar10(*, data_dir: str | os.PathLike[str] | None, validation_fraction: float = 0.1, split_seed: int = 0) -> Dataset:
    """Returns CIFAR-10: x uint8 [60000, 32, 32, 3], ten classes, each channel standardised; test as published.

    Args:
      data_dir: folder of the published archive (binary or python, .tar.gz), of what it unpacks to or of the files
        themselves, or the folder above it if that is called cifar10; None takes the environment's HPJAX_DATA_DIR. What is
        unpacked comes before an archive, the binary form before the python form.
      validation_fraction: share of the 50,000 training examples held out for validation.
      split_seed: seed of the stratified split of those.

    Raises:
      ConfigError: fraction or seed out of range.
      DataError: no folder was given, or a file is missing or damaged.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
    """
    return _load("cifar10", data_dir, "labels", 10, validation_fraction, split_seed)


@DATASETS.register
def cifar100(
    *,
    data_dir: str | os.PathLike[str] | None,
    cifar_labels: str = "fine",
    validation_fraction: float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """Returns CIFAR-100: x uint8 [60000, 32, 32, 3], each channel standardised; test as published.

    Args:
      data_dir: see `cifar10`; the folder above is called cifar100.
      cifar_labels: 'fine', 100 classes, or 'coarse', 20.
      validation_fraction: share of the 50,000 training examples held out for validation.
      split_seed: seed of the split of those, stratified by these labels.

    Raises:
      ConfigError: fraction or seed out of range.
      DataError: no folder was given, or a file is missing or damaged.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
    """
    classes = 100 if cifar_labels == "fine" else 20
    return _load("cifar100", data_dir, f"{cifar_labels}_labels", classes, validation_fraction, split_seed)


def _load(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    labels: str,
    classes: int,
    validation_fraction: float,
    split_seed: int,
) -> Dataset:
    form, files = _files(name, folders(name, data_dir, (name,)))
    parts = [_part(file, files[file], form, labels, classes) for file in (*form.train, form.test)]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    split = splits.stratified(y, validation_fraction=validation_fraction, split_seed=split_seed)
    train, val = ((x[index], y[index]) for index in (split.train, split.val))
    names = _class_names(files, form, labels)
    return create(
        name,
        train=train,
        val=val,
        test=parts[-1],
        num_classes=classes,
        per_channel=True,
        class_names=names if len(names) == classes else (),
    )


def _files(name: str, places: list[Path]) -> tuple[_Form, dict[str, bytes]]:
    """Returns the form that is there, and its files' contents by name."""
    for place in places:
        for form in _FORMS[name]:
            # The place itself only by its training file: 'test' and 'train' are common names of folders.
            for folder in (place / form.folder, place):
                if (folder / form.train[0]).is_file():
                    return form, _unpacked(name, folder, form)
        for form in _FORMS[name]:
            if (place / form.archive).is_file():
                return form, _packed(place / form.archive, form)
    forms = " or ".join(f"{form.archive} or folder {form.folder}" for form in _FORMS[name])
    raise DataError(f"dataset '{name}': no file {forms} in {listed(places)}; {where_had(name, places[0])}")


def _unpacked(name: str, folder: Path, form: _Form) -> dict[str, bytes]:
    files = {}
    for file in (*form.train, form.test):
        try:
            files[file] = (folder / file).read_bytes()
        except FileNotFoundError:
            raise DataError(f"dataset '{name}': no file {file} in '{folder}'; {where_had(name)}") from None
        except OSError as error:
            raise DataError(f"file '{folder / file}' cannot be read: {error.strerror}") from None
    for file in _name_files(form):
        if (folder / file).is_file():
            files[file] = (folder / file).read_bytes()
    return files


def _packed(archive: Path, form: _Form) -> dict[str, bytes]:
    """Returns the contents of an archive's files; they are read in memory, nothing is unpacked on the disk."""
    wanted = {f"{form.folder}/{file}": file for file in (*form.train, form.test, *_name_files(form))}
    files = {}
    try:
        with gzip.open(archive) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as tar:
            for member in tar:
                file = wanted.get(member.name.removeprefix("./"))
                if file and member.isreg():
                    files[file] = tar.extractfile(member).read()  # type: ignore[union-attr]
            # A tar file ends before the gzip file does, at whose end the checksum of all stands.
            while unpacked.read(_BLOCK):
                pass
    except _DAMAGED as error:
        raise DataError(f"file '{archive}' is a damaged or truncated archive: {error}; expected a whole one") from None
    except OSError as error:
        raise DataError(f"file '{archive}' cannot be read: {error.strerror or error}") from None
    missing = [file for file in (*form.train, form.test) if file not in files]
    if missing:
        raise DataError(f"file '{archive}' has no {form.folder}/{missing[0]}; expected the archive as published")
    return files


def _name_files(form: _Form) -> set[str]:
    return {form.names.format(kind) for kind in ("fine", "coarse")}


def _part(file: str, content: bytes, form: _Form, labels: str, classes: int) -> Part:
    """Returns x, uint8 [n, 32, 32, 3], and y, int32 [n], of one file."""
    try:
        pixels, y = _from_binary(content, labels) if form.binary else _from_pickle(content, labels)
    except ValueError as error:
        raise DataError(f"file '{form.folder}/{file}' is damaged: {error}") from None
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if wrong.size:
        raise DataError(
            f"file '{form.folder}/{file}' has label {y[wrong[0]]} at example {wrong[0]}; expected 0 to {classes - 1}"
        )
    return pixels.reshape(-1, *_SHAPE).transpose(0, 2, 3, 1), y


def _from_binary(content: bytes, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Each record is a label (CIFAR-100: the coarse one, then the fine one) and the pixels, channel by channel."""
    before = 1 if labels == "labels" else 2
    length = before + _PIXELS
    if not content or len(content) % length:
        raise ValueError(f"{len(content)} bytes; expected a multiple of {length}")
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    return records[:, before:], records[:, 1 if labels == "fine_labels" else 0].astype(np.int32)


def _from_pickle(content: bytes, labels: str) -> tuple[np.ndarray, np.ndarray]:
    found = pickles.read(content)
    pixels, y = found.get("data"), found.get(labels)
    if not isinstance(pixels, np.ndarray) or pixels.shape[1:] != (_PIXELS,) or not len(pixels):
        raise ValueError(f"'data' is {_described(pixels)}; expected bytes of shape [n, {_PIXELS}]")
    if not isinstance(y, list) or len(y) != len(pixels) or not all(type(label) is int for label in y):
        raise ValueError(f"'{labels}' is {_described(y)}; expected a list of {len(pixels)} whole numbers")
    if not all(-1 <= label < 2**31 for label in y):
        raise ValueError(f"'{labels}' has numbers that are no labels")
    return pixels, np.array(y, np.int32)


def _class_names(files: dict[str, bytes], form: _Form, labels: str) -> tuple[str, ...]:
    """Returns the classes' names; empty if their file is missing or damaged, which is no reason not to train."""
    kind = labels.removesuffix("_labels")
    content = files.get(form.names.format(kind), b"")
    if form.binary:
        return tuple(line.strip() for line in content.decode("latin1").splitlines() if line.strip())
    try:
        names = pickles.read(content).get("label_names" if labels == "labels" else f"{kind}_label_names")
    except ValueError:
        return ()
    return tuple(map(_name, names)) if isinstance(names, list) else ()


def _name(name: Any) -> str:
    return name.decode("latin1") if isinstance(name, bytes) else str(name)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {list(value.shape)}"
    return "missing" if value is None else f"a {type(value).__name__}"
