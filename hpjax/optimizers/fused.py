"""The step of the most used optimizers by one native kernel, in the place of `transformation` and what surrounds it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from optax import safe_increment

from hpjax.ops import native, native_update
from hpjax.ops.native_update import Rates, Tensor
from hpjax.optimizers.adam import bias_correction
from hpjax.optimizers.rules import Rules
from hpjax.optimizers.transformation import groups, rounding_keys, split
from hpjax.registry import Scalar

RULES = {name: name for name in native_update.BUFFERS} | {"adamw": "adam"}
"""The kernel's rule for each optimizer that has one."""
RENAMED = {"momentum": "beta1", "weight_decay": "inner_decay"}
"""An optimizer's own settings that the kernel knows by another name."""


class Step(NamedTuple):
    """Parameters and state after a step, and float32 scalars: L2 norms as `Last` has them."""

    params: Any
    state: tuple[Any, ...]
    norms: tuple[jax.Array, ...]


def available(name: str, static: Mapping[str, Any], arrays: list[jax.Array]) -> bool:
    """Returns whether an optimizer's step over these parameters runs by the kernel.

    Args:
      name: a name in `OPTIMIZERS`.
      static: its static settings.
      arrays: the parameters.
    """
    return name in RULES and not static.get("optax_form") and native.used(*arrays, cuda=True)


def step(
    name: str,
    learning_rate: Scalar,
    values: Mapping[str, Any],
    rules: Rules | None,
    share: jax.Array,
    gradients: Any,
    state: tuple[Any, ...],
    params: Any,
    key: jax.Array | None = None,
) -> Step:
    """Applies an optimizer that is `available`; what it gives differs from `transformation`'s by rounding.

    Args:
      name: a key of `RULES`.
      learning_rate: scalar of this step.
      values: as `transformation` takes them.
      rules: the parameters' rules; None: those of `Rules.create(params)`.
      share: float32 scalar that the gradients are multiplied by.
      gradients: sums of gradients, a tree like `params`.
      state: what `transformation`'s `init` or this gave.
      params: a tree of float32 arrays.
      key: JAX's random key of this step, for buffers in bfloat16.
    """
    own, around = split(name, values)
    known = Rules.create(params) if rules is None else rules
    grouped = groups(name, known)
    weights, tree = jax.tree.flatten(params)
    leaves = jax.tree.leaves(gradients)
    settings = {RENAMED.get(setting, setting): value for setting, value in own.items()} | dict(around)
    count = None
    if RULES[name] in ("adam", "lamb"):
        count = safe_increment(state[0][0].count)
        for number in "12":
            settings[f"correction{number}"] = bias_correction(jnp.float32(settings[f"beta{number}"]), count)
    places = [i for group in grouped for i in group.places]
    kept = [buffers for of_group in state for buffers in zip(*_buffers(RULES[name], of_group), strict=True)]
    narrow = any(buffer.dtype == jnp.bfloat16 for buffers in kept for buffer in buffers)
    keys = rounding_keys(key, len(weights))[np.array(places)] if narrow else None
    tensors = [
        Tensor(leaves[i], weights[i], buffers, known.learning_rate[i], known.decay[i])
        for i, buffers in zip(places, kept or [()] * len(places), strict=True)
    ]
    new, buffers, norms = native_update.update(RULES[name], Rates(share, learning_rate, **settings), tensors, keys)
    of_frozen = [jnp.sum(weights[i] ** 2) for i in range(len(weights)) if known.frozen[i]]
    for i, weight in zip(places, new, strict=True):
        weights[i] = weight
    states, left = [], iter(buffers)
    for group, before in zip(grouped, state, strict=True):
        of_group = [next(left) for _ in group.places]
        states.append(_replaced(RULES[name], before, [list(one) for one in zip(*of_group, strict=True)], count))
    whole = norms[1] if not of_frozen else jnp.sqrt(norms[1] ** 2 + sum(of_frozen))
    return Step(jax.tree.unflatten(tree, weights), tuple(states), (norms[0], whole, norms[2]))


def _buffers(rule: str, state: Any) -> tuple[list[jax.Array], ...]:
    """Returns what a group's state keeps, each a list over its parameters."""
    if rule == "sgd":
        return ()
    if rule == "lars":
        return (state.buffer,)
    first, *_ = state
    return (first.mu, first.nu) if rule in ("adam", "lamb") else (first.trace,)


def _replaced(rule: str, state: Any, buffers: list[list[jax.Array]], count: jax.Array | None) -> Any:
    """Returns a group's state with other buffers."""
    if rule == "sgd":
        return state
    if rule == "lars":
        return state._replace(buffer=buffers[0])
    first, *rest = state
    if rule in ("adam", "lamb"):
        return (first._replace(count=count, mu=buffers[0], nu=buffers[1]), *rest)
    return (first._replace(trace=buffers[0]), *rest)
