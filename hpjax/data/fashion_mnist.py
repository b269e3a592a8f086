"""Fashion-MNIST from its four published files, which have the names of MNIST's."""

import hashlib
import os

from hpjax.data.dataset import Dataset
from hpjax.data.mnist import find, find_folder, read, read_idx
from hpjax.data.published import where_had
from hpjax.data.registry import DATASETS
from hpjax.errors import DataError

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_MNIST_LABELS = "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13"
"""SHA-256 of the 60,000 training labels of MNIST, a byte each."""


@DATASETS.register
def fashion_mnist(
    *, data_dir: str | os.PathLike[str] | None, validation_fraction: float = 1 / 12, split_seed: int = 0
) -> Dataset:
    """Returns Fashion-MNIST: x uint8 [70000, 28, 28, 1], ten classes; the files' own test set is the test split.

    The names of the files are those of MNIST's, so the folder says which they are; the labels of MNIST's are known and
    refused.

    Args:
      data_dir: folder of the four files, gzipped or not, or the folder above it if that is called fashion_mnist,
        fashion-mnist or FashionMNIST/raw; None takes the environment's HPJAX_DATA_DIR.
      validation_fraction: share of the 60,000 training files' examples held out for validation.
      split_seed: seed of the stratified split of those.

    Raises:
      ConfigError: fraction or seed out of range.
      DataError: no folder was given, or a file is missing, damaged, MNIST's or does not fit the others.

    Source: Xiao, Rasul and Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms
      (2017).
    """
    folder = find_folder("fashion_mnist", data_dir, ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"))
    labels = find("fashion_mnist", folder, "train-labels", 1)
    if hashlib.sha256(read_idx(labels, 1).tobytes()).hexdigest() == _MNIST_LABELS:
        raise DataError(
            f"dataset 'fashion_mnist': file '{labels}' is MNIST's; expected Fashion-MNIST's in a folder of their own, "
            f"fashion_mnist for example; {where_had('fashion_mnist', data_dir)}"
        )
    return read("fashion_mnist", folder, validation_fraction, split_seed, CLASS_NAMES)
