"""Names for the parts of a trial: schedules, optimizers, models, losses, data sets."""

import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from jax.typing import ArrayLike as Scalar

from hpjax import errors
from hpjax.config import FIELDS

F = TypeVar("F", bound=Callable[..., Any])
REQUIRED = inspect.Parameter.empty
"""What `settings` gives for a setting without a default."""


class Setting(NamedTuple):
    """A keyword-only parameter of an entry."""

    name: str
    default: Any
    traced: bool


class _Known(NamedTuple):
    """What a registry has found out about an entry: a study asks for it again with every trial."""

    entry: Callable[..., Any]
    settings: Mapping[str, Any]
    traced: tuple[str, ...]
    static: tuple[str, ...]
    own: Mapping[str, Any]


@functools.lru_cache(maxsize=1024)
def settings_of(entry: Callable[..., Any]) -> tuple[Setting, ...]:
    """Returns an entry's settings; remembered, for a study asks for them again with every trial."""
    scalar = set(typing.get_args(Scalar))
    parameters = inspect.signature(entry).parameters.values()
    return tuple(
        Setting(p.name, p.default, scalar <= set(typing.get_args(p.annotation)))
        for p in parameters
        if p.kind is p.KEYWORD_ONLY
    )


class Registry(Generic[F]):
    """Functions of one kind by name. An entry's settings are the keyword-only parameters of its function.

    A setting annotated `Scalar`, or as a union with it, is traced: it may differ between the lanes of one program. Any other
    is static. A setting
    whose name is no flag is the entry's own, given by `--set=name=value`; it needs a default, which also says its type.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, F] = {}
        # Apart: what one run imports is no part of another run in this process.
        self._imported: dict[str, F] = {}
        self._known: dict[str, _Known] = {}

    def register(self, entry: F) -> F:
        """Decorator: adds a function under its own name."""
        if entry.__name__ in self._entries:
            raise ValueError(f"{self.kind} '{entry.__name__}' is registered twice")
        self._entries[entry.__name__] = self._checked(entry.__name__, entry)
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
            keyword-only parameter that is no flag and has no default.
        """
        # A kind that has none of ours knows only plug-ins.
        if name in self._entries:
            return self._entries[name]
        if ":" not in name and self._entries:
            raise errors.unknown(self.kind, name, self._entries)
        if name not in self._imported:
            self._imported[name] = self._checked(name, self._load(name))
        return self._imported[name]

    def settings(self, name: str) -> Mapping[str, Any]:
        """Returns the entry's keyword-only parameters with their defaults (`REQUIRED` if none)."""
        return self._about(name).settings

    def traced(self, name: str) -> tuple[str, ...]:
        """Returns the names of the entry's traced settings."""
        return self._about(name).traced

    def static(self, name: str) -> tuple[str, ...]:
        """Returns the names of the entry's other settings."""
        return self._about(name).static

    def own(self, name: str) -> Mapping[str, Any]:
        """Returns those of the entry's settings that are no flags, with their defaults."""
        return self._about(name).own

    def default(self, name: str, parameter: str) -> Any:
        """Returns the default of any parameter of the entry (`REQUIRED` if none)."""
        parameters = inspect.signature(self.get(name)).parameters
        return parameters[parameter].default if parameter in parameters else REQUIRED

    def check_call(self, name: str, *arguments: str) -> None:
        """Refuses an entry that cannot be called with some arguments by position beside its settings.

        Args:
          name: the entry.
          *arguments: what they are, for the message.

        Raises:
          ConfigError: it takes fewer, or needs more.
        """
        signature = inspect.signature(self.get(name))
        given = {p.name: None for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
        try:
            signature.bind(*arguments, **given)
        except TypeError as error:
            raise errors.ConfigError(f"{self.kind} '{name}' is not called as ({', '.join(arguments)}): {error}") from None

    def _about(self, name: str) -> _Known:
        entry, known = self.get(name), self._known.get(name)
        if known is None or known.entry is not entry:
            parameters = self._parameters(name)
            settings = {setting.name: setting.default for setting in parameters}
            known = self._known[name] = _Known(
                entry,
                MappingProxyType(settings),
                tuple(setting.name for setting in parameters if setting.traced),
                tuple(setting.name for setting in parameters if not setting.traced),
                MappingProxyType({name: default for name, default in settings.items() if name not in FIELDS}),
            )
        return known

    def _parameters(self, name: str) -> tuple[Setting, ...]:
        entry = self.get(name)
        # A plug-in may be an object that cannot be hashed.
        return settings_of(entry) if isinstance(entry, Hashable) else settings_of.__wrapped__(entry)

    def _checked(self, name: str, entry: F) -> F:
        try:
            parameters = inspect.signature(entry).parameters.values()
        except (TypeError, ValueError):
            raise errors.ConfigError(f"{self.kind} '{name}' is {entry!r}; expected a function with a signature") from None
        for parameter in parameters:
            own = parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in FIELDS
            if own and not isinstance(parameter.default, (bool, int, float, str)):
                near = errors.did_you_mean(parameter.name, FIELDS)
                raise errors.ConfigError(
                    f"{self.kind} '{name}' takes '{parameter.name}', which is no flag; expected a default that is a number, "
                    f"true, false or a text{near}"
                )
        return entry

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
        return getattr(loaded, attribute)
