"""An optimizer with all that goes around it: clipping, L1 and L2, decoupled decay, rules by parameter path."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hpjax.ops import rounding
from hpjax.optimizers.clipping import LIMITS, clipped
from hpjax.optimizers.registry import OPTAX, OPTIMIZERS
from hpjax.optimizers.rules import Rules
from hpjax.registry import Scalar


class Group(NamedTuple):
    """Parameters that share multipliers of learning rate and, where the entry decays itself, of decay."""

    learning_rate: float
    decay: float
    places: tuple[int, ...]


def transformation(
    name: str,
    learning_rate: Scalar,
    values: Mapping[str, Any],
    static: Mapping[str, Any] | None = None,
    rules: Rules | None = None,
    key: jax.Array | None = None,
) -> optax.GradientTransformation:
    """Returns the named optimizer as one update of a trial uses it.

    In this order: `clip_value`, `clip_layer_norm`, `clip_norm`; `l1 sign(w) + l2 w` is added to the gradient; the optimizer;
    decoupled decay, `w - learning_rate weight_decay w` (times the learning rate, as in PyTorch). An optimizer whose entry
    takes `weight_decay` (or another of these) places it itself. Rules multiply the decay, L1, L2 and the learning rate of
    single parameters, which then form groups as in PyTorch, each with a state of its own; frozen ones have none, and no
    part in the global norm.

    Args:
      name: a name in `OPTIMIZERS`.
      learning_rate: scalar of this update.
      values: scalars by name, one for each traced setting of the entry; more are ignored. All may be traced. A common
        setting (`weight_decay` and others above) that is missing is off, and costs nothing.
      static: the entry's static settings by name; one that is missing keeps its default.
      rules: the parameters' rules; None: those of `Rules.create(params)`.
      key: JAX's random key of this update, for buffers that are rounded (`moment_dtype`).

    Returns:
      The transformation. Its state is a tuple, the entry's state for each group (over a list of the group's leaves).

    Raises:
      ConfigError: the name is unknown.
      ValueError: an update rounds, and there is no key.
    """
    entry = OPTIMIZERS.get(name)
    traced = tuple(split(name, values))
    fixed = {setting: value for setting, value in (static or {}).items() if setting in OPTIMIZERS.static(name)}
    own_decay = _decays_itself(name)

    def ruled(params: Any) -> tuple[Rules, list[Group]]:
        known = Rules.create(params) if rules is None else rules
        return known, groups(name, known)

    def built(group: Group, rate: Scalar, own: Mapping[str, Any]) -> optax.GradientTransformation:
        if own_decay:
            own = {**own, "weight_decay": _times(own["weight_decay"], group.decay)}
        return entry(_times(rate, group.learning_rate), **own, **fixed)

    def init(params: Any) -> tuple[Any, ...]:
        leaves = jax.tree.leaves(params)
        rate, (own, _) = _cast((learning_rate, traced), leaves)
        _, grouped = ruled(params)
        return tuple(built(group, rate, own).init([leaves[i] for i in group.places]) for group in grouped)

    def update(gradients: Any, state: tuple[Any, ...], params: Any = None) -> tuple[Any, tuple[Any, ...]]:
        if params is None:
            raise ValueError("an optimizer of hpjax needs the parameters: update(gradients, state, params)")
        leaves, weights = jax.tree.leaves(gradients), jax.tree.leaves(params)
        rate, (own, around) = _cast((learning_rate, traced), weights)
        known, grouped = ruled(params)
        trained = [i for group in grouped for i in group.places]
        prepared = _prepared(
            [leaves[i] for i in trained], [weights[i] for i in trained], [known.decay[i] for i in trained], around
        )
        ready = dict(zip(trained, prepared, strict=True))
        updates, states = [jnp.zeros_like(w) for w in weights], []
        keys = rounding_keys(key, len(weights)) if fixed.get("moment_dtype", "float32") != "float32" else None
        for group, before in zip(grouped, state, strict=True):
            chosen = [weights[i] for i in group.places]
            extra = {} if keys is None else {"keys": keys[np.array(group.places)]}
            steps, after = built(group, rate, own).update([ready[i] for i in group.places], before, chosen, **extra)
            states.append(after)
            for i, step, w in zip(group.places, steps, chosen, strict=True):
                if "weight_decay" in around and known.decay[i]:
                    decay = _times(rate * around["weight_decay"], group.learning_rate * known.decay[i])
                    step = step - decay * w  # noqa: PLW2901
                updates[i] = step
        return jax.tree.unflatten(jax.tree.structure(gradients), updates), tuple(states)

    return optax.GradientTransformation(init, update)


def evaluated(name: str, params: Any, state: tuple[Any, ...], rules: Rules | None = None) -> Any:
    """Returns the parameters to evaluate: schedule-free's averages, for other optimizers `params` itself.

    Args:
      name: a name in `OPTIMIZERS`.
      params: the trained parameters.
      state: the state of their `transformation`. An entry's state with a field `evaluated` (leaves in the order of its
        parameters) says what is evaluated in their place; a plug-in's may have one.
      rules: what `transformation` was given.
    """
    if not any(hasattr(group, "evaluated") for group in state):
        return params
    leaves, tree = jax.tree.flatten(params)
    grouped = groups(name, Rules.create(params) if rules is None else rules)
    for group, of_group in zip(grouped, state, strict=True):
        for i, leaf in zip(group.places, of_group.evaluated, strict=True):
            leaves[i] = leaf
    return jax.tree.unflatten(tree, leaves)


def rounding_keys(key: jax.Array | None, tensors: int) -> jax.Array:
    """Returns the keys that a step's buffers are rounded with, uint32 [tensors, 2]; raises ValueError without a key."""
    if key is None:
        raise ValueError("an optimizer whose moment_dtype is bfloat16 needs a key for its rounding: transformation(key=...)")
    return rounding.keys(key, tensors)


def split(name: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns an optimizer's own traced settings, and the common ones that are part of the program."""
    names = OPTIMIZERS.traced(name)
    common = {setting: values[setting] for setting in names if OPTIMIZERS.is_common(name, setting) and setting in values}
    return {setting: values[setting] for setting in names if not OPTIMIZERS.is_common(name, setting)}, common


def _decays_itself(name: str) -> bool:
    return "weight_decay" in inspect.signature(OPTIMIZERS.get(name)).parameters


def groups(name: str, rules: Rules) -> list[Group]:
    """Returns the groups of the parameters that are not frozen, in the order of their first."""
    # Without rules for it, what decay means is left to an optimizer of Optax.
    apart = _decays_itself(name) and (rules.decay_given or not name.startswith(OPTAX))
    found: dict[tuple[float, float], list[int]] = {}
    for i, (rate, decay) in enumerate(zip(rules.learning_rate, rules.decay, strict=True)):
        if not rules.frozen[i]:
            found.setdefault((rate, decay if apart else 1.0), []).append(i)
    return [Group(rate, decay, tuple(places)) for (rate, decay), places in found.items()]


def _prepared(
    gradients: list[jax.Array], weights: list[jax.Array], decay: list[float], around: Mapping[str, jax.Array]
) -> list[jax.Array]:
    """Returns the gradients clipped and regularised."""
    gradients = clipped(gradients, *(around.get(limit) for limit in LIMITS))

    def regularised(g: jax.Array, w: jax.Array, factor: float) -> jax.Array:
        penalty: Any = 0.0
        if "l2" in around and factor:
            penalty = _times(around["l2"], factor) * w
        if "l1" in around and factor:
            penalty = penalty + _times(around["l1"], factor) * jnp.sign(w)
        return g if isinstance(penalty, float) else g + penalty

    return [regularised(*each) for each in zip(gradients, weights, decay, strict=True)]


def _times(value: Any, factor: float) -> Any:
    return value if factor == 1.0 else value * factor


def _cast(scalars: Any, leaves: list[jax.Array]) -> Any:
    """Returns scalars in the parameters' dtype, at least float32, so that no state is promoted by a setting."""
    dtype = jnp.promote_types(jnp.result_type(*leaves), jnp.float32)
    return jax.tree.map(lambda value: jnp.asarray(value, dtype), scalars)
