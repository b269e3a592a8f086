"""The parameters of an estimator: hpjax's settings of a trial, by the names that flags have."""

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from hpjax import flags, scheduling
from hpjax.config import FIELDS, Config
from hpjax.errors import ConfigError, did_you_mean
from hpjax.settings.data import DataSettings
from hpjax.settings.inspection import InspectionSettings
from hpjax.settings.processes import ProcessSettings
from hpjax.settings.run import RunSettings

OF_DATA = ("mixup_alpha",)
OF_RUN = (
    *("eval_every", "eval_batch_size", "native"),
    *("early_stopping_patience", "early_stopping_min_delta", "early_stopping_min_steps"),
)
"""Those settings of the data and of a run that mean something to an estimator."""

NOT_OURS = ("seed", "data_seed", "folds", "fold", "share_batches", "metrics")
"""Settings of training that scikit-learn has other words for, or that mean nothing here."""

_KEPT = {*OF_DATA, *OF_RUN}
_GROUPS = (DataSettings, RunSettings, ProcessSettings, InspectionSettings)
_ELSEWHERE = {name for group in _GROUPS for name in group.__dataclass_fields__ if name not in _KEPT}

SETTINGS = tuple(
    sorted((name for name in FIELDS if name not in {*_ELSEWHERE, *NOT_OURS, "model"}), key=lambda name: name not in _KEPT)
)
"""The settings that are parameters of an estimator beside its model."""

DEFAULTS: dict[str, Any] = {"optimizer": "adam", "train_steps": "200epochs"}
"""What an estimator has where hpjax's own defaults are for larger data; as scikit-learn's perceptrons."""

INSTEAD = {
    **dict.fromkeys(("seed", "data_seed"), "random_state"),
    **dict.fromkeys(("folds", "fold"), "the search's cv"),
    "metrics": "the search's scoring",
}
"""What to give in the place of a setting that is no parameter."""


def with_settings(init: Callable[..., None]) -> Callable[..., None]:
    """Decorator of an estimator's `__init__(self, ..., **settings)`: its signature names all settings, each None."""
    signature = inspect.signature(init)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in SETTINGS]
    init.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    return init


def unknown(name: str, known: tuple[str, ...]) -> str:
    """Returns what to tell of a name that is no parameter."""
    instead = f"; expected {INSTEAD[name]}" if name in INSTEAD else did_you_mean(name, known)
    return f"setting '{name}' is unknown{instead or '; expected a setting of hpjax that is no matter of data or files'}"


def base(config: Config | Mapping[str, Any] | str | os.PathLike[str] | None, given: Mapping[str, Any]) -> Config:
    """Returns the config of an estimator's trials, without what its data and its search say.

    Args:
      config: settings to begin with: a `Config`, a dict of them, or the path of a flagfile; None: `DEFAULTS`.
      given: settings by name that take their place; those that are None are not given.

    Raises:
      ConfigError: an unknown setting, a bad value, or a flagfile that cannot be read.
    """
    begin = _begin(config)
    fields = {name: FIELDS[name].default for name in (*_ELSEWHERE, "fold", "folds", "metrics")}
    return begin.replace(**fields, **{name: value for name, value in given.items() if value is not None})


def _begin(config: Config | Mapping[str, Any] | str | os.PathLike[str] | None) -> Config:
    if isinstance(config, Config):
        return config
    if config is None or isinstance(config, Mapping):
        return Config(**DEFAULTS).replace(**(config or {}))
    if not isinstance(config, (str, os.PathLike)):
        raise ConfigError(f"config is a {type(config).__name__}; expected a Config, a dict of settings or a flagfile's path")
    return flags.parse(["hpjax.sklearn", f"--flagfile={os.fspath(config)}"])


def watched(config: Config) -> bool:
    """Returns whether something watches a trial's evaluations while it trains."""
    return config.early_stopping_patience is not None or scheduling.observes(config)


def measured(config: Config) -> dict[str, Any]:
    """Returns the settings of how trials are measured: at their end, or every epoch where something watches them."""
    every = {} if watched(config) or config.eval_every != FIELDS["eval_every"].default else {"eval_every": "100%"}
    quiet = {"progress": False, "tensorboard": False, "log_every": "100%"}
    return {"objective_value": "last", **quiet, **every}


def chose_batch(config: Any, given: Mapping[str, Any]) -> bool:
    """Returns whether a person chose the batch; see `base`."""
    if given["batch_size"] is not None:
        return True
    return "batch_size" in config if isinstance(config, Mapping) else config is not None


def fitted_batch(config: Config, given: bool, smallest: int) -> Config:
    """Returns the config with a batch that fits the data, where none was asked for.

    Args:
      config: the config.
      given: whether a person chose the batch.
      smallest: examples of the smallest training split.
    """
    if given or config.batch_size <= smallest:
        return config
    return config.replace(batch_size=smallest)
