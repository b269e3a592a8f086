"""The handwritten digits that come with scikit-learn: 1,797 pictures, no download."""

import importlib.util
from pathlib import Path

import numpy as np

from hpjax.data import splits
from hpjax.data.dataset import Dataset, create
from hpjax.data.registry import DATASETS


@DATASETS.register
def digits(*, validation_fraction: float = 0.2, test_fraction: float = 0.2, split_seed: int = 0) -> Dataset:
    """Returns the digits: x uint8 [1797, 8, 8, 1] with values from 0 to 16, ten classes.

    Args:
      validation_fraction: share of all examples held out for validation.
      test_fraction: share of all examples held out for the test.
      split_seed: seed of the stratified split.

    Raises:
      ConfigError: fractions or a seed out of range.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), its test set.
    """
    table = _table()
    x, y = table[:, :64].reshape(-1, 8, 8, 1).astype(np.uint8), table[:, 64].astype(np.int32)
    split = splits.stratified(y, validation_fraction=validation_fraction, test_fraction=test_fraction, split_seed=split_seed)
    train, val, test = ((x[index], y[index]) for index in split)
    return create("digits", train=train, val=val, test=test, num_classes=10)


def _table() -> np.ndarray:
    """Returns 64 pixels and the class of each picture: float64 [1797, 65]."""
    # scikit-learn's own file where it has always been: to import the package takes more than a second.
    found = importlib.util.find_spec("sklearn")
    for folder in (found.submodule_search_locations or ()) if found else ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    return np.column_stack([data, target])
