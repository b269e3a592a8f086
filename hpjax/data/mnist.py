"""MNIST from its four published files."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from hpjax.data import splits
from hpjax.data.dataset import Dataset, Part, create
from hpjax.data.registry import DATASETS
from hpjax.errors import DataError

_PUBLISHED = (
    "MNIST is published as train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
    "t10k-labels-idx1-ubyte.gz at yann.lecun.com/exdb/mnist (mirror: ossci-datasets.s3.amazonaws.com/mnist/FILE)"
)
_IMAGE_SHAPE = (28, 28)
_CLASSES = 10


@DATASETS.register
def mnist(*, data_dir: str | os.PathLike[str] | None, validation_fraction: float = 1 / 12, split_seed: int = 0) -> Dataset:
    """Returns MNIST: x uint8 [70000, 28, 28, 1], ten classes; the files' own test set is the test split.

    Args:
      data_dir: folder of the four files, gzipped or not, or the folder above it if that is called mnist; None takes the
        environment's HPJAX_DATA_DIR.
      validation_fraction: share of the 60,000 training files' examples held out for validation.
      split_seed: seed of the stratified split of those.

    Raises:
      ConfigError: fraction or seed out of range.
      DataError: no folder was given, or a file is missing, damaged or does not fit the others.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits (1998).
    """
    folder = _folder(data_dir or os.environ.get("HPJAX_DATA_DIR"))
    x, y = _read_part(folder, "train")
    test = _read_part(folder, "t10k")
    split = splits.stratified(y, validation_fraction=validation_fraction, split_seed=split_seed)
    train, val = ((x[index], y[index]) for index in (split.train, split.val))
    return create("mnist", train=train, val=val, test=test, num_classes=_CLASSES)


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


def _folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """Returns the folder of the files: `data_dir` or its subfolder mnist, the first that has one of them."""
    if not data_dir:
        raise DataError("dataset 'mnist' needs its folder: give --data_dir or the environment variable HPJAX_DATA_DIR")
    given = Path(data_dir).expanduser()
    if not given.is_dir():
        raise DataError(f"dataset 'mnist': data_dir '{given}' is no folder; {_PUBLISHED}")
    names = [name for stem in ("train", "t10k") for name in _names(f"{stem}-images", 3) + _names(f"{stem}-labels", 1)]
    # All four from one folder: files of two data sets (Fashion-MNIST has the same names) must not be mixed.
    for folder in (given, given / "mnist"):
        if any((folder / name).is_file() for name in names):
            return folder
    raise DataError(
        f"dataset 'mnist': no file train-images-idx3-ubyte[.gz] in '{given}' or '{given / 'mnist'}'; {_PUBLISHED}"
    )


def _find(folder: Path, stem: str, dimensions: int) -> Path:
    names = _names(stem, dimensions)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"dataset 'mnist': no file {names[0]}[.gz] in '{folder}'; {_PUBLISHED}")


def _read_part(folder: Path, stem: str) -> Part:
    """Returns the images, uint8 [n, 28, 28, 1], and the labels, int32 [n], of 'train' or 't10k'."""
    images_path, labels_path = _find(folder, f"{stem}-images", 3), _find(folder, f"{stem}-labels", 1)
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
