"""hpjax's models as scikit-learn estimators, and a search over their settings: candidates and folds are lanes."""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError:
    raise ImportError("hpjax.sklearn needs scikit-learn, which is not installed: pip install scikit-learn") from None

from hpjax.sklearn.estimators import Classifier as Classifier
from hpjax.sklearn.estimators import Regressor as Regressor
from hpjax.sklearn.search import SweepCV as SweepCV

__all__ = ["Classifier", "Regressor", "SweepCV"]
