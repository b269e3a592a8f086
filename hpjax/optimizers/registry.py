"""Where optimizers are registered, with the settings that all of them have, and Optax's own by `optax:NAME`."""

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from hpjax.errors import ConfigError, unknown
from hpjax.registry import Registry, Scalar, Setting, settings_of

Optimizer = Callable[..., optax.GradientTransformation]
OPTAX = "optax:"


def common(
    *,
    weight_decay: Scalar = 0.0,
    l1: Scalar = 0.0,
    l2: Scalar = 0.0,
    clip_value: Scalar = math.inf,
    clip_layer_norm: Scalar = math.inf,
    clip_norm: Scalar = math.inf,
) -> None:
    """The settings of every optimizer, whose own parameters need not name them; see `transformation`."""


class Optimizers(Registry[Optimizer]):
    """Optimizers by name. To an entry's settings come the `common` ones; one that an entry takes itself is left to it."""

    def is_common(self, name: str, setting: str) -> bool:
        """Returns whether a setting acts around the entry rather than in it."""
        return setting in _COMMON and setting not in _own(self.get(name))

    def in_use(self, name: str, given: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns the common settings that are given, by name; one that is None is no part of the program."""
        common = (setting for setting in self.traced(name) if self.is_common(name, setting))
        return tuple(setting for setting in common if given.get(setting) is not None)

    def _parameters(self, name: str) -> tuple[Setting, ...]:
        own = super()._parameters(name)
        taken = {setting.name for setting in own}
        return own + tuple(setting for setting in _COMMON.values() if setting.name not in taken)

    def _load(self, name: str) -> Optimizer:
        return _optax_entry(name) if name.startswith(OPTAX) else super()._load(name)


@functools.lru_cache(maxsize=1024)
def _own(entry: Optimizer) -> frozenset[str]:
    return frozenset(inspect.signature(entry).parameters)


_COMMON = {setting.name: setting for setting in settings_of(common)}
OPTIMIZERS = Optimizers("optimizer")


def momentum_setting(name: str) -> str | None:
    """Returns which of an optimizer's settings a schedule of momentum drives: momentum, beta1, or None."""
    settings = OPTIMIZERS.settings(name)
    return next((setting for setting in ("momentum", "beta1") if setting in settings), None)


def optax_names() -> tuple[str, ...]:
    """Returns the names that `optax:` may lead to: functions of a learning rate in optax and optax.contrib."""
    return tuple(sorted({name for module in (contrib, optax) for name in vars(module) if _is_optimizer(module, name)}))


def _is_optimizer(module: Any, name: str) -> bool:
    function = vars(module)[name]
    if not inspect.isfunction(function) or name.startswith(("_", "scale_by_")):
        return False
    return next(iter(inspect.signature(function).parameters), "").endswith("learning_rate")


def _optax_entry(name: str) -> Optimizer:
    """Returns Optax's function as an entry: its numbers are traced settings, true or false and whole numbers static ones."""
    short = name.removeprefix(OPTAX)
    if short not in optax_names():
        raise unknown("optimizer", name, [OPTAX + known for known in optax_names()])
    if short in OPTIMIZERS.names() and short.startswith("schedule_free"):
        raise ConfigError(f"optimizer '{name}' cannot be used: what it evaluates is not known here; expected '{short}'")
    function = getattr(optax, short, None) or getattr(contrib, short)
    parameters = list(inspect.signature(function).parameters.values())
    settings = [
        parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=Scalar if type(parameter.default) is float else bool)
        for parameter in parameters[1:]
        if type(parameter.default) in (bool, int, float)
    ]

    def entry(learning_rate: Scalar, **settings: Any) -> optax.GradientTransformation:
        return function(learning_rate, **settings)

    first = parameters[0].replace(kind=parameters[0].POSITIONAL_OR_KEYWORD, default=inspect.Parameter.empty)
    entry.__signature__ = inspect.Signature([first, *settings])  # type: ignore[attr-defined]
    entry.__name__ = name
    entry.__doc__ = f"`optax.{short}`; its `weight_decay`, if it has one, is its own."
    _try(name, entry, [setting.name for setting in settings if setting.annotation is Scalar])
    return entry


def _try(name: str, entry: Optimizer, traced: list[str]) -> None:
    """Refuses what cannot be built and updated from gradients and parameters alone, with traced settings."""
    defaults = {parameter.name: parameter.default for parameter in inspect.signature(entry).parameters.values()}

    def update(learning_rate: jax.Array, values: dict[str, jax.Array]) -> Any:
        params = [jnp.ones((2, 3)), jnp.ones(3)]
        transformation = entry(learning_rate, **values)
        return transformation.update(params, transformation.init(params), params)

    try:
        with warnings.catch_warnings(action="error"):
            jax.eval_shape(update, jnp.float32(0.1), {setting: jnp.float32(defaults[setting]) for setting in traced})
    except Exception as error:
        why = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"optimizer '{name}' cannot be used: {why}; expected one that needs gradients, parameters and numbers only"
        ) from None
