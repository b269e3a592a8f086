"""What a finished search gives on to its best estimator."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted


def _has(name: str) -> Callable[[Any], bool]:
    """Returns the condition under which a search has a method: what it searches over has it, and is trained in the end."""

    def check(search: Any) -> bool:
        if not search.refit:
            raise AttributeError(f"'{name}' is not there with refit=False; expected refit=True")
        getattr(getattr(search, "best_estimator_", None) or search.searched, name)
        return True

    return check


class OfBest(MetaEstimatorMixin, BaseEstimator):
    """The methods of a search that its best estimator answers, and what it is to scikit-learn: what it searches over is."""

    best_estimator_: Any
    refit: Any
    scorer_: Any
    multimetric_: bool

    @property
    def searched(self) -> Any:
        """The estimator whose settings are searched."""
        raise NotImplementedError

    @available_if(_has("predict"))
    def predict(self, X: ArrayLike) -> np.ndarray:
        """Returns the best estimator's predictions."""
        check_is_fitted(self)
        return self.best_estimator_.predict(X)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Returns the best estimator's probabilities, float64 [examples, classes]."""
        check_is_fitted(self)
        return self.best_estimator_.predict_proba(X)

    @available_if(_has("predict_log_proba"))
    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Returns the logarithms of `predict_proba`."""
        check_is_fitted(self)
        return self.best_estimator_.predict_log_proba(X)

    @available_if(_has("decision_function"))
    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Returns the best estimator's logits; see `Classifier.decision_function`."""
        check_is_fitted(self)
        return self.best_estimator_.decision_function(X)

    @available_if(_has("score"))
    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Returns the best estimator's score, by the score that it was chosen by; of a function as `refit`, its own."""
        check_is_fitted(self)
        scorer = self.scorer_
        if isinstance(scorer, dict):
            return scorer.get(self.refit, type(self.best_estimator_).score)(self.best_estimator_, X, y)
        found = scorer(self.best_estimator_, X, y)
        return found[self.refit] if self.multimetric_ else found

    @property
    def classes_(self) -> np.ndarray:
        """The classes, sorted."""
        _has("classes_")(self)
        return self.best_estimator_.classes_

    @property
    def n_features_in_(self) -> int:
        """Features."""
        try:
            check_is_fitted(self)
        except ValueError as error:
            raise AttributeError(f"{type(self).__name__} has no 'n_features_in_'") from error
        return self.best_estimator_.n_features_in_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        own = get_tags(self.searched)
        tags.estimator_type = own.estimator_type
        tags.classifier_tags, tags.regressor_tags, tags.target_tags = (
            own.classifier_tags,
            own.regressor_tags,
            own.target_tags,
        )
        return tags
