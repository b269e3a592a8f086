"""An optimizer by name with numbers, schedules or traced values, for use in a training loop of one's own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hpjax.config import FIELDS, convert, converted
from hpjax.data.order import GENERATOR
from hpjax.errors import ConfigError, listed
from hpjax.optimizers.registry import OPTIMIZERS
from hpjax.optimizers.rules import Rules, compiled, parsed
from hpjax.optimizers.transformation import transformation
from hpjax.registry import REQUIRED, Scalar

RULES = ("decay_rules", "learning_rate_rules", "freeze")
Schedule = Callable[[jax.Array], Scalar]


class ScheduledState(NamedTuple):
    """Count of updates, int32, and the optimizer's state."""

    step: jax.Array
    optimizer: tuple[Any, ...]


def create(name: str, learning_rate: Scalar | Schedule | None = None, **params: Any) -> optax.GradientTransformation:
    """Returns an optimizer as an ordinary Optax transformation.

    Args:
      name: a name in `OPTIMIZERS`: `adamw`, `optax:NAME`, `package.module:function`.
      learning_rate: a number, a scalar (may be traced), or a function of the updates done; None: the optimizer's default.
      **params: the optimizer's settings by name, those of all optimizers included (`weight_decay`, `l1`, `l2`, `clip_value`,
        `clip_layer_norm`, `clip_norm`): numbers or traced scalars; and the rules by parameter path, `decay_rules`,
        `learning_rate_rules` and `freeze`, texts as in a flag or sequences of them (see `Rules.create`).

    Returns:
      The transformation; `update` needs the parameters. Buffers in bfloat16 are rounded by the number of the update.
      Rules are matched with the parameters when it first sees them.

    Raises:
      ConfigError: the name or a setting is unknown, or a value is out of its domain.
    """
    rules = {rule: convert(rule, params.pop(rule)) for rule in RULES if rule in params}
    for rule in ("decay_rules", "learning_rate_rules"):
        parsed(rule, rules.get(rule, ()))
    for pattern in rules.get("freeze", ()):
        compiled("freeze", pattern)
    known = OPTIMIZERS.settings(name)
    for setting in params:
        if setting not in known:
            raise ConfigError(f"optimizer '{name}' has no setting '{setting}'{listed(setting, (*known, *RULES), 'it has:')}")
    settings = {setting: _checked(setting, params.get(setting), default, name) for setting, default in known.items()}
    rate = learning_rate if callable(learning_rate) else _rate(name, learning_rate)

    def built(count: jax.Array, params: Any) -> optax.GradientTransformation:
        now = rate(count) if callable(rate) else rate
        key = jax.random.fold_in(jax.random.key(0, impl=GENERATOR), count)
        return transformation(name, now, settings, settings, Rules.create(params, **rules), key)

    def init(params: Any) -> ScheduledState:
        return ScheduledState(jnp.int32(0), built(jnp.int32(0), params).init(params))

    def update(gradients: Any, state: ScheduledState, params: Any = None) -> tuple[Any, ScheduledState]:
        updates, optimizer = built(state.step, params).update(gradients, state.optimizer, params)
        return updates, ScheduledState(state.step + 1, optimizer)

    return optax.GradientTransformation(init, update)


def _rate(name: str, learning_rate: Scalar | None) -> Scalar:
    default = OPTIMIZERS.default(name, "learning_rate")
    return _checked("learning_rate", learning_rate, default, name)


def _checked(setting: str, value: Any, default: Any, name: str) -> Any:
    """Returns a setting's value, its default for None; what is no array is converted and its domain checked."""
    value = default if value is None else value
    if value is REQUIRED:
        raise ConfigError(f"optimizer '{name}' needs {setting}; it has no default")
    if isinstance(value, jax.Array):
        return value
    return convert(setting, value) if setting in FIELDS else converted(f"setting '{setting}'", value, type(default))
