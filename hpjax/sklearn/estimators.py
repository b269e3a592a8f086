"""One of hpjax's models as a scikit-learn classifier or regressor: a single trial, trained on all examples."""

import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from hpjax.config import Config
from hpjax.errors import HpjaxError
from hpjax.sklearn import outputs, settings, table, training
from hpjax.sklearn.scoring import on_lanes
from hpjax.sklearn.settings import SETTINGS, with_settings
from hpjax.sklearn.table import Table
from hpjax.sklearn.training import Trained

LAST_OF_TWO = 1


class Network(BaseEstimator):
    """What `Classifier` and `Regressor` have in common: parameters, which are hpjax's settings, and training."""

    @with_settings
    def __init__(
        self,
        model: str | None = None,
        *,
        config: Config | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        standardize: bool = True,
        random_state: int | np.random.RandomState | None = None,
        **settings: Any,
    ):
        for name in settings:
            if name not in SETTINGS:
                raise TypeError(_unknown(name))
        self.model = model
        self.config = config
        self.standardize = standardize
        self.random_state = random_state
        for name in SETTINGS:
            setattr(self, name, settings.get(name))

    def set_params(self, **params: Any) -> Self:
        """Sets parameters by name; raises ValueError for an unknown one, with the nearest that there is."""
        known = self._get_param_names()
        for name in params:
            if name not in known:
                raise ValueError(_unknown(name))
        return super().set_params(**params)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Trains one trial on all examples.

        Args:
          X: numbers [examples, features].
          y: classes, or numbers to predict, [examples]; of a regression also [examples, targets].

        Raises:
          ValueError: a parameter, or data, that cannot be trained; or the loss was not finite.
        """
        x, target = self.checked(X, y)
        with as_value_errors():
            data = table.make(x, target, [], classes=self.classes, standardize=self.standardize)
            config = self.trials(len(x), folds=2)
            self.take(training.alone(config, data, LAST_OF_TWO), 0, data, LAST_OF_TWO)
        return self

    # What a search shares.

    def checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns X, float64, and the targets that a program takes; notes features and classes."""
        raise NotImplementedError

    @property
    def classes(self) -> int:
        """Classes of what was checked; 0 for a regression."""
        return 0

    @property
    def usual_score(self) -> str:
        """What `score` gives, by scikit-learn's name."""
        return "accuracy" if self.classes else "r2"

    def trials(self, smallest: int, folds: int, scoring: Any = None) -> Config:
        """Returns the config of trials with these parameters.

        Args:
          smallest: examples of the smallest training split.
          folds: folds of the table.
          scoring: of a search; what watches a trial watches it, where the lanes measure it, else the loss.
        """
        given = {name: getattr(self, name) for name in ("model", *SETTINGS)}
        config = settings.base(self.config, given)
        config = settings.fitted_batch(config, settings.chose_batch(self.config, given), smallest)
        default = None if settings.watched(config) else self.usual_score
        objective, metrics = on_lanes(scoring or default, self.classes > 0, config.loss)
        return config.replace(
            objective=objective or "val/loss:min",
            metrics=metrics,
            dataset=table.NAME,
            data_file=table.FILE,
            task="classification" if self.classes else "regression",
            folds=folds,
            seed=seed_of(self.random_state),
            **settings.measured(config),
        )

    def take(self, trained: Trained, number: int, data: Table, fold: int) -> None:
        """Takes a trial's parameters as what was fitted.

        Raises:
          ValueError: the loss was not finite.
        """
        record = trained.records[number]
        if number not in trained.variables:
            step = f" at step {record.diverged_at}" if record.diverged_at is not None else ""
            raise ValueError(f"the loss was not finite{step}; expected a smaller learning_rate, or other data")
        own = data.dataset.own_folds
        assert own is not None
        self.config_ = trained.config(number)
        self.variables_ = trained.variables[number]
        self.input_scale_, self.input_shift_ = data.inputs(fold)
        self.target_scale_, self.target_shift_ = own.unit[fold], own.offset[fold]
        self.n_outputs_ = data.dataset.outputs
        self.n_iter_ = record.curve[-1].step
        self.loss_ = record.curve[-1].numbers["train/loss"]

    def _outputs(self, X: Any) -> np.ndarray:
        """Returns what the model says of checked examples: float64 [examples, outputs]."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        seen = (x * self.input_scale_ + self.input_shift_).astype(np.float32)
        return outputs.outputs(self.config_, self.n_outputs_, self.variables_, seen)


class Classifier(ClassifierMixin, Network):
    """A classifier: one of hpjax's models, trained by one of its optimizers.

    Every setting of a trial is a parameter, by the name that its flag has (`python -m hpjax.train --helpfull` explains
    them): hidden_sizes, optimizer, learning_rate, batch_size, train_steps, schedule, weight_decay, l2, dropout_rate, ...
    What is not given has hpjax's default, but for Adam and 200 epochs, and the batch is at most the data.

    Args:
      model: 'mlp' (the default), 'logistic', or another model for rows of numbers, `package.module:Name`.
      config: settings to begin with: a `hpjax.Config`, a dict, or the path of a flagfile; those given by name go before.
      standardize: whether the features have mean 0 and standard deviation 1 over the training examples.
      random_state: seed of the first parameters, the order of examples and dropout; None for another one each time.
      **settings: see above.

    Attributes:
      classes_: the classes, sorted.
      n_features_in_: features.
      feature_names_in_: their names, where X had some.
      n_iter_: optimizer steps made.
      loss_: mean training loss since the last log point.
      config_: the trial's config, resolved.
      variables_: the model's parameters and other variables, nested dicts of NumPy arrays.
    """

    def checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns X, float64, and labels from 0, int32; notes features and classes."""
        x, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, labels = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_[0]!r}; expected at least 2 classes")
        return x, labels.astype(np.int32)

    @property
    def classes(self) -> int:
        """Classes of what was checked."""
        return len(self.classes_)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Returns logits, float64 [examples, classes]; of two classes the second's less the first's, [examples]."""
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Returns probabilities, float64 [examples, classes]."""
        return outputs.softmax(self._outputs(X))

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Returns the logarithms of `predict_proba`."""
        logits = self._outputs(X)
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Returns the most probable classes [examples]."""
        logits = self._outputs(X)
        return self.classes_[logits.argmax(axis=1)]


class Regressor(RegressorMixin, Network):
    """A regressor: one of hpjax's models, trained by one of its optimizers; parameters and attributes as `Classifier`'s.

    `model="logistic"` is linear regression here: one dense layer. With `standardize` the targets have mean 0 and standard
    deviation 1 over the training examples, too, and predictions are in their own unit again.
    """

    def checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns X and targets, float64; notes features."""
        x, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2, multi_output=True, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._columns = y.ndim
        return x, y.astype(np.float64)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Returns predictions [examples], or [examples, targets] where y had several."""
        found = self._outputs(X) * self.target_scale_ + self.target_shift_
        return found if self._columns == 2 else found[:, 0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def seed_of(random_state: int | np.random.RandomState | None) -> int:
    """Returns hpjax's seed of a random state: a whole number stands for itself."""
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))


class as_value_errors:
    """Turns hpjax's own errors, which are one line, into those that scikit-learn's users expect."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, HpjaxError) and not isinstance(error, ValueError):
            raise ValueError(str(error)) from None


def _unknown(name: str) -> str:
    return settings.unknown(name, ("model", "config", "standardize", "random_state", *SETTINGS))
