"""MNIST from its four published files, and what it shares with the data sets that are published like it."""

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpjax.data import splits
from hpjax.data.dataset import Dataset, Part, create
from hpjax.data.published import folders, listed, where_had
from hpjax.data.registry import DATASETS
from hpjax.errors import DataError

_IMAGE_SHAPE = (28, 28)
_CLASSES = 10


@DATASETS.register
def mnist(*, data_dir: str | os.PathLike[str] | None, validation_fraction: float = 1 / 12, split_seed: int = 0) -> Dataset:
    """Returns MNIST: x uint8 [70000, 28, 28, 1], ten classes; the files' own test set is the test split.

    Args:
      data_dir: folder of the four files, gzipped or not, or the folder above it if that is called mnist or MNIST/raw; None
        takes the environment's HPJAX_DATA_DIR.
      validation_fraction: share of the 60,000 training files' examples held out for validation.
      split_seed: seed of the stratified split of those.

    Raises:
      ConfigError: fraction or seed out of range.
      DataError: no folder was given, or a file is missing, damaged or does not fit the others.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits (1998).
    """
    folder = find_folder("mnist", data_dir, ("mnist", "MNIST/raw"))
    return read("mnist", folder, validation_fraction, split_seed)


def find_folder(name: str, data_dir: str | os.PathLike[str] | None, below: Sequence[str]) -> Path:
    """Returns the folder of a data set that is published like MNIST: the first that has one of the four files.

    All four come from one folder: several data sets have files of the same names, which must not be mixed.

    Args:
      name: the data set.
      data_dir: the data folder, or None.
      below: paths of the folders below it in which the files may be too.

    Raises:
      DataError: no folder was given, or none has such a file.
    """
    names = [name for stem in ("train", "t10k") for name in _names(f"{stem}-images", 3) + _names(f"{stem}-labels", 1)]
    places = folders(name, data_dir, below)
    for folder in places:
        if any((folder / file).is_file() for file in names):
            return folder
    missing = f"no file train-images-idx3-ubyte[.gz] in {listed(places)}"
    raise DataError(f"dataset '{name}': {missing}; {where_had(name, places[0])}")


def read(name: str, folder: Path, validation_fraction: float, split_seed: int, class_names: Sequence[str] = ()) -> Dataset:
    """Returns the data set that the four files of a folder hold, validation held out of the training files.

    Args:
      name: the data set.
      folder: see `find_folder`.
      validation_fraction: share of the training files' examples held out for validation.
      split_seed: seed of the stratified split of those.
      class_names: a name for each class, or none.

    Raises:
      ConfigError: fraction or seed out of range.
      DataError: a file is missing, damaged or does not fit the others.
    """
    x, y = _read_part(name, folder, "train")
    test = _read_part(name, folder, "t10k")
    split = splits.stratified(y, validation_fraction=validation_fraction, split_seed=split_seed)
    train, val = ((x[index], y[index]) for index in (split.train, split.val))
    return create(name, train=train, val=val, test=test, num_classes=_CLASSES, class_names=class_names)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Returns the array of an IDX file of unsigned bytes.

    Args:
      path: the file, gzipped or not: its first bytes tell, whatever its name.
      dimensions: number of dimensions that the array must have.

    Returns:
      uint8 array, read-only.

    Raises:
      DataError: the file cannot be read, has another magic number, or another length than its header says.
    """
    content = _read(path)
    # Two zero bytes, 8 for unsigned bytes, the number of dimensions; then each dimension's size, big-endian.
    magic, header = bytes([0, 0, 8, dimensions]), 4 + 4 * dimensions
    if content[:4] != magic:
        raise DataError(f"file '{path}' begins with 0x{content[:4].hex()}; expected the IDX magic number 0x{magic.hex()}")
    if len(content) < header:
        raise DataError(f"file '{path}' is truncated: {len(content)} bytes; expected a header of {header}")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist())
    expected = header + math.prod(shape)
    if len(content) != expected:
        fault = "is truncated" if len(content) < expected else "has bytes after its end"
        raise DataError(
            f"file '{path}' {fault}: {len(content)} bytes{' unpacked' if path.suffix == '.gz' else ''}; "
            f"expected {expected} for the sizes in its header, {' x '.join(map(str, shape))}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read(path: Path) -> bytes:
    """Returns a file's content, unpacked if it is gzipped."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"file '{path}' is a damaged or truncated gzip file: {error}; expected a whole one") from None
    except OSError as error:
        raise DataError(f"file '{path}' cannot be read: {error.strerror}") from None


def _names(stem: str, dimensions: int) -> list[str]:
    """Returns the names under which one of the files is found in the wild, the preferred one first."""
    return [f"{stem}{mark}idx{dimensions}-ubyte{end}" for mark in "-." for end in ("", ".gz")]


def find(name: str, folder: Path, stem: str, dimensions: int) -> Path:
    """Returns the path of one of the files, 'train-labels' for example; raises DataError if it is not there."""
    names = _names(stem, dimensions)
    for file in names:
        if (folder / file).is_file():
            return folder / file
    raise DataError(f"dataset '{name}': no file {names[0]}[.gz] in '{folder}'; {where_had(name)}")


def _read_part(name: str, folder: Path, stem: str) -> Part:
    """Returns the images, uint8 [n, 28, 28, 1], and the labels, int32 [n], of 'train' or 't10k'."""
    images_path, labels_path = find(name, folder, f"{stem}-images", 3), find(name, folder, f"{stem}-labels", 1)
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != _IMAGE_SHAPE:
        raise DataError(f"file '{images_path}' has images of {images.shape[1]} x {images.shape[2]}; expected 28 x 28")
    if len(images) != len(labels):
        raise DataError(
            f"file '{images_path}' has {len(images)} images, '{labels_path}' {len(labels)} labels; expected as many"
        )
    wrong = np.flatnonzero(labels >= _CLASSES)
    if wrong.size:
        raise DataError(
            f"file '{labels_path}' has label {labels[wrong[0]]} at example {wrong[0]}; expected 0 to {_CLASSES - 1}"
        )
    return images[..., None], labels.astype(np.int32)
