"""`SweepCV`: a scikit-learn search whose candidates and folds are lanes of one study."""

import copy
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state, indexable

from hpjax.config import Config, StudyConfig
from hpjax.errors import ConfigError
from hpjax.sklearn import results, space, table, training
from hpjax.sklearn.best import OfBest
from hpjax.sklearn.estimators import Classifier, Network, as_value_errors
from hpjax.sklearn.scoring import ON_LANES, SCORE, Scoring, on_lanes
from hpjax.sklearn.table import Table
from hpjax.sklearn.training import Trained
from hpjax.study.screen import StudyView
from hpjax.study.space import Space

CANDIDATES = 20
"""Candidates of a search over a space that has no end."""


class SweepCV(OfBest):
    """Finds the best settings of one of hpjax's models by cross-validation, and trains it with them on all examples.

    Takes the place of `GridSearchCV` and `RandomizedSearchCV`: every candidate on every fold is a trial on a lane of one
    compiled program, and the folds are those that scikit-learn's splitters make. What was found has the names it has there:
    cv_results_, best_params_, best_score_, best_index_, best_estimator_, scorer_, n_splits_, refit_time_, classes_,
    n_features_in_, feature_names_in_; predict, predict_proba, decision_function and score go to the best estimator.

        search = SweepCV(Classifier("mlp"), {"learning_rate": "log(1e-4,1e-1)", "hidden_sizes": [(64,), (128, 64)]}, cv=5)
        search.fit(X, y).best_params_

    Args:
      estimator: a `Classifier` or `Regressor`; or a model's name, which stands for `Classifier(name)`.
      vary: for each setting the text of an expression (`log(1e-4,1)`, as `--vary`'s), a sequence of values, or a frozen
        distribution of SciPy's (loguniform, uniform, randint).
      n_trials: candidates; None is all of a finite space, else 20.
      sampler: 'halton', 'random', 'grid' or 'tpe'; None is 'grid' for a finite space tried as a whole, else 'halton'.
      scoring: None (accuracy, R2), a name of scikit-learn's, a function (estimator, X, y), or a list or dict of those. The
        sampler 'tpe' learns while the search runs, so it takes a score that the lanes measure: accuracy, neg_log_loss,
        f1_macro; r2, neg_mean_absolute_error, neg_root_mean_squared_error.
      cv: folds, a splitter, or pairs of indices (train, test), as in scikit-learn; None is 5 folds.
      refit: whether to train the best candidate on all examples; of several scores the name of one; or a function of
        cv_results_ that returns a candidate's index. What watches a fold's held-out score (early stopping, plateau) watches
        that of all examples then.
      random_state: seed of the sampler, and of the trials where the estimator's own is None.
      verbose: above 0 shows how far the search is.
      error_score: the score of a trial that diverged or could not be scored; or 'raise'.
      return_train_score: whether cv_results_ has the scores of what was trained on, too.
      lanes: trials in the program at once; None chooses.
      study: a folder that keeps the study: a search that was killed goes on there, and `python -m hpjax.train
        --flagfile=FOLDER/best.flags` repeats its best trial. None keeps nothing on the disk.

    In cv_results_, the fit time of a trial is how long it had a lane, which it may have shared a core with others.
    """

    def __init__(
        self,
        estimator: Network | str,
        vary: Mapping[str, Any],
        *,
        n_trials: int | None = None,
        sampler: str | None = None,
        scoring: Any = None,
        cv: Any = None,
        refit: bool | str | Callable[[dict[str, Any]], int] = True,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        error_score: float | str = np.nan,
        return_train_score: bool = False,
        lanes: int | None = None,
        study: str | os.PathLike[str] | None = None,
    ):
        self.estimator = estimator
        self.vary = vary
        self.n_trials = n_trials
        self.sampler = sampler
        self.scoring = scoring
        self.cv = cv
        self.refit = refit
        self.random_state = random_state
        self.verbose = verbose
        self.error_score = error_score
        self.return_train_score = return_train_score
        self.lanes = lanes
        self.study = study

    def fit(self, X: ArrayLike, y: ArrayLike, *, groups: ArrayLike | None = None) -> Self:
        """Trains all candidates on all folds, scores them, and trains the best on all examples.

        Args:
          X: numbers [examples, features].
          y: classes, or numbers to predict, [examples]; of a regression also [examples, targets].
          groups: of each example, for a splitter that asks for them.

        Raises:
          ValueError: parameters, or data, that cannot be trained; or no candidate has a score to be the best by.
        """
        template = self._template()
        X, y, groups = indexable(X, y, groups)
        scoring = Scoring(template, self.scoring, self.error_score)
        if isinstance(scoring.scorer, dict):
            self._check_refit(scoring.scorer)
        x, target = template.checked(X, y)
        splitter = check_cv(self.cv, y, classifier=is_classifier(template))
        cuts = [_indices(cut, len(x)) for cut in splitter.split(X, y, groups)]
        self.n_splits_ = len(cuts)
        kept = {"x": x, "y": target, "cuts": cuts, "classes": template.classes, "standardize": template.standardize}
        with as_value_errors():
            data = table.make(x, target, cuts, classes=template.classes, standardize=template.standardize)
            config, settings = self._study(template, min(len(train) for train, _ in cuts))
            if self.study is None:
                trained = training.in_memory(config, settings, data, StudyView(self.verbose > 0))
            else:
                trained = training.in_folder(config.replace(progress=self.verbose > 0), settings, data, kept)
        examples = results.Examples(X, y, cuts)
        params, scored = results.scored(trained, template, data, examples, scoring, self.return_train_score)
        self.cv_results_ = results.table(params, scored)
        self.scorer_ = scoring.scorer
        self.multimetric_ = set(scored[0][0].test) != {SCORE}
        if self.multimetric_:
            self._check_refit(scored[0][0].test)
        if self.refit or not self.multimetric_:
            self._choose()
        if self.refit:
            began = time.perf_counter()
            with as_value_errors():
                self._refit(template, data, trained)
            self.refit_time_ = time.perf_counter() - began
        return self

    @property
    def searched(self) -> Any:
        """The estimator whose settings are searched."""
        return Classifier(self.estimator) if isinstance(self.estimator, str) else self.estimator

    def _template(self) -> Network:
        """Returns what candidates are made of: the estimator, with a seed of its own."""
        estimator = self.searched
        if not isinstance(estimator, Network):
            raise ValueError(
                f"estimator is a {type(estimator).__name__}; expected hpjax's Classifier or Regressor, or a model's name"
            )
        template = clone(estimator)
        if template.random_state is None:
            template.random_state = int(check_random_state(self.random_state).randint(2**31))
        return template

    def _study(self, template: Network, smallest: int) -> tuple[Config, StudyConfig]:
        """Returns the config of the trials and that of their study."""
        vary = space.texts(self.vary)
        scoring = self.scoring or template.usual_score
        config = template.trials(smallest, self.n_splits_ + 1, scoring)
        if self.sampler == "tpe" and on_lanes(scoring, template.classes > 0, config.loss)[0] is None:
            raise ConfigError(f"sampler 'tpe' cannot learn from scoring {scoring!r}; expected one of {', '.join(ON_LANES)}")
        if self.n_trials is not None and self.n_trials < 1:
            raise ConfigError(
                f"n_trials is {self.n_trials}; expected a whole number >= 1, or None for the whole of a finite space"
            )
        size = Space.parse([f"{name}={text}" for name, text in vary.items()], config).grid_size
        whole = size is not None and (self.n_trials is None or self.n_trials >= size)
        candidates = (size or CANDIDATES) if self.n_trials is None else self.n_trials
        settings: dict[str, Any] = {
            "vary": {**vary, "fold": f"range({self.n_splits_})"},
            "trials": candidates * self.n_splits_,
            "sampler": self.sampler or ("grid" if whole else "halton"),
            "sampler_seed": int(check_random_state(self.random_state).randint(2**31)),
            "lanes": "auto" if self.lanes is None else str(self.lanes),
        }
        if self.study is not None:
            settings["study"] = os.fspath(self.study)
        return config, StudyConfig(**settings)

    def _check_refit(self, names: Iterable[str]) -> None:
        """Refuses a `refit` that names none of several scores."""
        if self.refit is not False and not callable(self.refit) and self.refit not in names:
            raise ValueError(f"refit is {self.refit!r}; expected False, a function, or a score: {', '.join(names)}")

    def _choose(self) -> None:
        """Finds the best candidate."""
        found = self.cv_results_
        name = self.refit if self.multimetric_ else SCORE
        if callable(self.refit):
            index = int(self.refit(found))
            if not 0 <= index < len(found["params"]):
                raise IndexError(f"refit gave {index}; expected the index of one of {len(found['params'])} candidates")
        else:
            if not np.isfinite(found[f"mean_test_{name}"]).any():
                raise ValueError("no candidate has a score on every fold; expected settings with a finite loss")
            index = int(found[f"rank_test_{name}"].argmin())
        self.best_index_ = index
        if not callable(self.refit):
            self.best_score_ = found[f"mean_test_{name}"][index]
        self.best_params_ = found["params"][index]

    def _refit(self, template: Network, data: Table, trained: Trained) -> None:
        """Trains the best candidate on all examples, on the lanes of the search."""
        best = copy.deepcopy(template).set_params(**self.best_params_)
        last = self.n_splits_
        # As the search planned it: where the batch was varied, lengths in steps are as many examples for all.
        config = trained.planner.plan({**self.best_params_, "fold": last}).config
        best.take(training.alone(config, data, last, trained.layout), 0, data, last)
        self.best_estimator_ = best
        if hasattr(template, "feature_names_in_"):
            self.feature_names_in_ = template.feature_names_in_


def _indices(cut: tuple[Any, Any], examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a fold's indices as numbers from 0."""
    train, test = (np.arange(examples)[np.asarray(part)] for part in cut)
    return train, test
