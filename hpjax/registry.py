"""Names for the parts of a trial: schedules, optimizers, models, losses, data sets."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hpjax import errors
from hpjax.config import FIELDS

F = TypeVar("F", bound=Callable[..., Any])


class Registry(Generic[F]):
    """Functions of one kind by name. An entry's settings are the keyword-only parameters of its function."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, F] = {}

    def register(self, entry: F) -> F:
        """Decorator: adds a function under its own name."""
        if entry.__name__ in self._entries:
            raise ValueError(f"{self.kind} '{entry.__name__}' is registered twice")
        self._entries[entry.__name__] = entry
        return entry

    def names(self) -> tuple[str, ...]:
        """Returns the registered names, in the order of registration."""
        return tuple(self._entries)

    def index(self, name: str) -> int:
        """Returns the place of `name` in `names()`."""
        self.get(name)
        return self.names().index(name)

    def get(self, name: str) -> F:
        """Returns the entry called `name`; `package.module:name` imports one and keeps it.

        Raises:
          ConfigError: no such entry; or what a plug-in's name leads to does not exist, is no function, or has a
            keyword-only parameter that is no setting.
        """
        if name not in self._entries and ":" in name:
            self._entries[name] = self._load(name)
        if name not in self._entries:
            raise errors.unknown(self.kind, name, self._entries)
        return self._entries[name]

    def settings(self, name: str) -> dict[str, Any]:
        """Returns the entry's keyword-only parameters with their defaults (`inspect.Parameter.empty` if none)."""
        parameters = inspect.signature(self.get(name)).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def default(self, name: str, parameter: str) -> Any:
        """Returns the default of any parameter of the entry (`inspect.Parameter.empty` if none)."""
        parameters = inspect.signature(self.get(name)).parameters
        return parameters[parameter].default if parameter in parameters else inspect.Parameter.empty

    def _load(self, name: str) -> F:
        module, _, attribute = name.partition(":")
        if not module or not attribute or module.startswith("."):
            raise errors.ConfigError(f"{self.kind} '{name}' is no plug-in; expected package.module:name")
        try:
            loaded = importlib.import_module(module)
        except ImportError as error:
            raise errors.ConfigError(f"{self.kind} '{name}': cannot import module '{module}': {error}") from None
        if not hasattr(loaded, attribute):
            near = errors.did_you_mean(attribute, vars(loaded))
            raise errors.ConfigError(f"{self.kind} '{name}': module '{module}' has no '{attribute}'{near}")
        entry = getattr(loaded, attribute)
        try:
            parameters = inspect.signature(entry).parameters.values()
        except (TypeError, ValueError):
            raise errors.ConfigError(f"{self.kind} '{name}' is {entry!r}; expected a function with a signature") from None
        for parameter in parameters:
            # It could never be given, and would stand among the settings of every later run in this process.
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in FIELDS:
                near = errors.did_you_mean(parameter.name, FIELDS)
                raise errors.ConfigError(f"{self.kind} '{name}' takes '{parameter.name}', which is no setting{near}")
        return entry
