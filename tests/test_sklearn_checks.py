"""scikit-learn's own checks of estimators, on ours: none is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from hpjax.sklearn import Classifier, Regressor, SweepCV

SMALL = {"hidden_sizes": (8,), "batch_size": 4, "train_steps": 150, "learning_rate": 0.02}
LANES = 8
"""As many as a single estimator has on the tests' devices, so that a search shares its program."""

ESTIMATORS = {
    "classifier": Classifier(**SMALL),
    "classifier_search": SweepCV(Classifier(**SMALL), {"learning_rate": [0.02, 0.01]}, cv=2, lanes=LANES),
    "regressor": Regressor(**SMALL),
    "regressor_search": SweepCV(Regressor(**SMALL), {"learning_rate": [0.02, 0.01]}, cv=2, lanes=LANES),
}
NOT_FOR_US: dict[str, dict[str, str]] = {name: {} for name in ESTIMATORS}
"""Checks that an estimator cannot pass, with the reason."""


def checks(name):
    # An estimator and a search of it are compiled in the same worker, the other two beside them.
    group = pytest.mark.xdist_group(f"sklearn_{name.partition('_')[0]}")
    for estimator, check in estimator_checks_generator(
        ESTIMATORS[name], expected_failed_checks=NOT_FOR_US[name], mark="xfail", xfail_strict=True
    ):
        yield pytest.param(estimator, check, id=f"{name}-{getattr(check, 'func', check).__name__}", marks=group)


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "check"), [one for name in ESTIMATORS for one in checks(name)])
def test_the_estimator_passes(estimator, check):
    check(estimator)
