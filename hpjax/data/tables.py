"""The small tables that come with scikit-learn, no download: three classifications and a regression."""

from collections.abc import Sequence

import numpy as np

from hpjax.data import splits
from hpjax.data.dataset import Dataset, create
from hpjax.data.registry import DATASETS, task


@DATASETS.register
def iris(*, validation_fraction: float = 0.2, test_fraction: float = 0.2, split_seed: int = 0) -> Dataset:
    """Returns the iris flowers: x float32 [150, 4] in cm, each feature standardised by the training split; 3 species.

    Args:
      validation_fraction: share of all examples held out for validation.
      test_fraction: share of all examples held out for the test.
      split_seed: seed of the stratified split.

    Raises:
      ConfigError: fractions or a seed out of range.

    Source: Fisher, The use of multiple measurements in taxonomic problems (1936).
    """
    from sklearn.datasets import load_iris

    bunch = load_iris()
    shares = (validation_fraction, test_fraction, split_seed)
    return from_table("iris", bunch.data, bunch.target, *shares, class_names=bunch.target_names)


@DATASETS.register
def wine(*, validation_fraction: float = 0.2, test_fraction: float = 0.2, split_seed: int = 0) -> Dataset:
    """Returns the wines: x float32 [178, 13], each feature standardised by the training split; 3 growers.

    Args:
      validation_fraction: share of all examples held out for validation.
      test_fraction: share of all examples held out for the test.
      split_seed: seed of the stratified split.

    Raises:
      ConfigError: fractions or a seed out of range.

    Source: Aeberhard and Forina, Wine, UCI (1992).
    """
    from sklearn.datasets import load_wine

    bunch = load_wine()
    shares = (validation_fraction, test_fraction, split_seed)
    return from_table("wine", bunch.data, bunch.target, *shares, class_names=bunch.target_names)


@DATASETS.register
def breast_cancer(*, validation_fraction: float = 0.2, test_fraction: float = 0.2, split_seed: int = 0) -> Dataset:
    """Returns the tumours: x float32 [569, 30], each feature standardised by the training split; malignant or benign.

    Args:
      validation_fraction: share of all examples held out for validation.
      test_fraction: share of all examples held out for the test.
      split_seed: seed of the stratified split.

    Raises:
      ConfigError: fractions or a seed out of range.

    Source: Wolberg, Mangasarian, Street and Street, Breast Cancer Wisconsin (Diagnostic), UCI (1993).
    """
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    shares = (validation_fraction, test_fraction, split_seed)
    return from_table("breast_cancer", bunch.data, bunch.target, *shares, class_names=bunch.target_names)


@DATASETS.register
@task("regression")
def diabetes(*, validation_fraction: float = 0.2, test_fraction: float = 0.2, split_seed: int = 0) -> Dataset:
    """Returns the diabetes patients: x float32 [442, 10], features and target standardised by the training split.

    The features are the original measurements: scikit-learn's scaled ones were scaled over all patients, the test's
    included. The target is the disease's progression in a year, from 25 to 346. The split is stratified by its tenths.

    Args:
      validation_fraction: share of all examples held out for validation.
      test_fraction: share of all examples held out for the test.
      split_seed: seed of the split.

    Raises:
      ConfigError: fractions or a seed out of range.

    Source: Efron, Hastie, Johnstone and Tibshirani, Least Angle Regression (2004).
    """
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    shares = (validation_fraction, test_fraction, split_seed)
    return from_table("diabetes", bunch.data, bunch.target, *shares, task="regression")


def from_table(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    validation_fraction: float,
    test_fraction: float,
    split_seed: int,
    *,
    task: str = "classification",
    class_names: Sequence[str] = (),
) -> Dataset:
    """Returns the data set of a table, split at random and standardised feature by feature.

    Args:
      name: what messages call it.
      x: numbers [examples, features].
      y: whole numbers [examples] for a classification, numbers for a regression.
      validation_fraction: share of all examples held out for validation.
      test_fraction: share of all examples held out for the test.
      split_seed: seed of the split, stratified as `splits.strata` says.
      task: 'classification' or 'regression'.
      class_names: the classes' names.

    Raises:
      ConfigError: fractions or a seed out of range.
      DataError: no example is left for training.
    """
    split = splits.stratified(
        splits.strata(y, task),
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )
    x, y = x.astype(np.float32), y.astype(np.int32 if task == "classification" else np.float64)
    train, val, test = ((x[index], y[index]) for index in split)
    classes = len(class_names) if task == "classification" else None
    names = tuple(map(str, class_names))
    return create(name, train=train, val=val, test=test, num_classes=classes, per_channel=True, task=task, class_names=names)
