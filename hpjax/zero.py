"""An optimizer's state shared out over the devices that share a batch: each keeps an equal part of every array.

An array of n elements lies flat on d devices, ceil(n / d) elements each, the last ones filled up with zeros; a scalar lies
on every one. An optimizer that treats each element by itself is applied to a device's part alone, and the new parameters are
gathered; another one is applied to the gathered state.

Source: Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models (2020), its first stage.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hpjax import everywhere

ELEMENTWISE = (
    *("sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop"),
    *("adam", "adamw", "adamax", "amsgrad", "nadam", "lion"),
)
"""Optimizers whose step of an element depends on that element alone."""
NORMS = ("clip_norm", "clip_layer_norm")
"""Settings that make it depend on others."""


def elementwise(optimizer: str, static: Mapping[str, Any], common: tuple[str, ...] | None) -> bool:
    """Returns whether an optimizer may be applied to a part of every array.

    Args:
      optimizer: its name.
      static: its static settings; bfloat16 moments are rounded by an element's place in the whole array.
      common: the settings that all optimizers have which are part of the program; None: all.
    """
    whole = common is None or any(name in common for name in NORMS) or static.get("moment_dtype", "float32") != "float32"
    return optimizer in ELEMENTWISE and not whole


def part(tree: Any, axis: str, shards: int) -> Any:
    """Returns this device's part of every array, flat; inside a program mapped over `axis`."""

    def of(leaf: jax.Array) -> jax.Array:
        flat = flattened(leaf, shards)
        return lax.dynamic_slice_in_dim(flat, lax.axis_index(axis) * (flat.size // shards), flat.size // shards)

    return jax.tree.map(of, tree)


def gathered(tree: Any, like: Any, axis: str) -> Any:
    """Returns whole arrays in the shapes of `like` from the devices' parts; inside a program mapped over `axis`."""
    whole = everywhere.gathered(jax.tree.map(lambda leaf: leaf.reshape(1, -1), tree), axis)
    return jax.tree.map(lambda leaf, shape: unflattened(leaf.reshape(-1), shape), whole, like)


def local(tree: Any, like: Any) -> Any:
    """Returns this device's parts as an optimizer takes them: a scalar without an axis."""
    return jax.tree.map(lambda leaf, shape: leaf.reshape(()) if shape.ndim == 0 else leaf, tree, like)


def flattened(leaf: jax.Array, shards: int) -> jax.Array:
    """Returns a whole array flat, as it lies on all devices: filled up to a multiple of them, a scalar once for each."""
    if leaf.ndim == 0:
        return jnp.full(shards, leaf)
    return jnp.pad(leaf.reshape(-1), (0, -leaf.size % shards))


def unflattened(flat: jax.Array, shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Returns the whole array that `flattened` took."""
    return flat[: math.prod(shape.shape)].reshape(shape.shape)


def step(
    apply: Callable[[Any, Any, Any], tuple[Any, Any, Callable[[], tuple[jax.Array, ...]]]],
    gradients: Any,
    params: Any,
    optimizer: Any,
    like: Any,
    axis: str,
    shards: int,
    alone: bool,
) -> tuple[Any, Any, Callable[[], tuple[jax.Array, ...]]]:
    """Returns parameters, this device's parts of the state, and what gives norms, after a step.

    Args:
      apply: the step of gradients, parameters and state; its norms are L2 norms of all arrays together.
      gradients: whole arrays.
      params: whole arrays.
      optimizer: this device's parts of the state.
      like: shapes of the whole state.
      axis: name of the mapped axis over which it is shared out.
      shards: devices on it.
      alone: whether `apply` may be applied to parts.
    """
    if not alone:
        params, optimizer, norms_of_all = apply(gradients, params, gathered(optimizer, like, axis))
        return params, part(optimizer, axis, shards), norms_of_all
    parts = (part(gradients, axis, shards), part(params, axis, shards), local(optimizer, like))
    new, optimizer, norms_of_part = apply(*parts)

    def norms() -> tuple[jax.Array, ...]:
        return tuple(jnp.sqrt(lax.psum(jnp.square(jnp.stack(norms_of_part())), axis)))

    optimizer = jax.tree.map(lambda leaf: leaf.reshape(1) if leaf.ndim == 0 else leaf, optimizer)
    return gathered(new, params, axis), optimizer, norms


def bytes_of(like: Any, shards: int = 1) -> int:
    """Returns the bytes that a state takes on each of so many devices."""
    leaves = jax.tree.leaves(like)
    return sum((-(-math.prod(leaf.shape) // shards) if leaf.ndim else 1) * leaf.dtype.itemsize for leaf in leaves)
