"""What a search varies, from the words of scikit-learn's users to those of `--vary`."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hpjax.config import FIELDS, to_text
from hpjax.errors import ConfigError
from hpjax.sklearn.settings import INSTEAD, SETTINGS, unknown

DISTRIBUTIONS = "scipy.stats' loguniform, uniform or randint"
_FUNCTIONS = {"loguniform": "log", "reciprocal": "log", "uniform": "uniform", "randint": "int"}


def texts(vary: Mapping[str, Any]) -> dict[str, str]:
    """Returns the expressions of a search by setting.

    Args:
      vary: for each setting the text of an expression, `log(1e-4,1)`; a sequence of values; or a frozen distribution of
        SciPy's, loguniform, uniform or randint.

    Raises:
      ConfigError: it is no dict or empty, a name is no setting that varies here, or what it says is none of those.
    """
    if not isinstance(vary, Mapping) or not vary:
        raise ConfigError(f"vary is {vary!r}; expected a dict by setting, {{'learning_rate': 'log(1e-4,1)'}} for example")
    known = ("model", *SETTINGS)
    for name in vary:
        if name not in known:
            near = unknown(str(name), known)
            raise ConfigError(near if name not in INSTEAD else f"vary has '{name}'; expected it not to be varied: {near}")
    return {name: _text(name, one) for name, one in vary.items()}


def _text(name: str, given: Any) -> str:
    if isinstance(given, str):
        return given
    if hasattr(given, "dist") and hasattr(given, "support"):
        return _of_distribution(name, given)
    if isinstance(given, Iterable) and not isinstance(given, Mapping):
        values = list(given)
        if not values:
            raise ConfigError(f"vary: {name} has no value; expected at least one")
        return f"choice({', '.join(_literal(name, value) for value in values)})"
    raise ConfigError(
        f"vary: {name} is {given!r}; expected a list of values, a text such as 'log(1e-4,1)', or {DISTRIBUTIONS}"
    )


def _of_distribution(name: str, given: Any) -> str:
    kind = getattr(given.dist, "name", "?")
    if kind not in _FUNCTIONS:
        raise ConfigError(f"vary: {name} is SciPy's {kind}; expected {DISTRIBUTIONS}, or a text such as 'log(1e-4,1)'")
    low, high = given.support()
    whole = kind == "randint"
    bounds = ",".join(repr(int(bound) if whole else float(bound)) for bound in (low, high))
    return f"{_FUNCTIONS[kind]}({bounds})"


def _literal(name: str, value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    text = to_text(name, tuple(value)) if isinstance(value, (tuple, list, np.ndarray)) and name in FIELDS else str(value)
    return "none" if text == "none" else repr(text)
