"""The handwritten digits that come with scikit-learn: 1,797 pictures, no download."""

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
    # Here and not above: the import takes a second that other data sets need not pay.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = bunch.images.astype(np.uint8)[..., None], bunch.target.astype(np.int32)
    split = splits.stratified(y, validation_fraction=validation_fraction, test_fraction=test_fraction, split_seed=split_seed)
    train, val, test = ((x[index], y[index]) for index in split)
    return create("digits", train=train, val=val, test=test, num_classes=10)
