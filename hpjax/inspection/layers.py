"""Trees of layers: their leaves by path, what is summed over a leaf, and the outputs of a model's modules."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from hpjax.models.dropout import Dropout

CALL = "__call__"
OUTPUT = "output"
"""Name of what the whole model gives."""


class Norms(NamedTuple):
    """Sizes of one array, float scalars.

    Attributes:
      norm: L2 norm.
      rms: root of the mean square.
      max: largest absolute value.
      zeros: share of entries that are exactly 0: of activations after a ReLU, the dead ones.
    """

    norm: jax.Array
    rms: jax.Array
    max: jax.Array
    zeros: jax.Array


def norms(array: jax.Array, axis: str | None = None) -> Norms:
    """Returns the sizes of an array.

    Args:
      array: float [...], not empty; taken as float32 where it is narrower.
      axis: name of the mapped axis over which it is sharded; None where every shard has all of it.
    """
    array = wide(array)
    squares, zeros, count = jnp.sum(array**2), jnp.sum(array == 0), jnp.asarray(array.size, array.dtype)
    largest = jnp.max(jnp.abs(array))
    if axis is not None:
        squares, zeros, count = lax.psum((squares, zeros, count), axis)
        largest = lax.pmax(largest, axis)
    return Norms(jnp.sqrt(squares), jnp.sqrt(squares / count), largest, zeros.astype(array.dtype) / count)


def wide(array: jax.Array) -> jax.Array:
    """Returns a float array as float32 if it is narrower."""
    return array if jnp.finfo(array.dtype).bits >= 32 else array.astype(jnp.float32)


def by_path(tree: Any) -> dict[str, jax.Array]:
    """Returns the leaves of nested dicts by path: `Dense_0/kernel`. Empty leaves are left out."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves if leaf.size}


def activations(model: nn.Module, variables: Mapping[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    """Returns what each module of a model gives in evaluation mode, by the module's path; the whole model's as `output`.

    Dropout layers are left out, which do nothing then; so is what is no float. A module that is called several times, or
    gives several arrays, has a number behind its path.

    Args:
      model: a Linen module called as `model(x)`.
      variables: its parameters and other collections.
      x: inputs [batch, ...].
    """

    def captured(module: nn.Module, method: str) -> bool:
        return method == CALL and not isinstance(module, Dropout)

    _, found = model.apply(variables, x, capture_intermediates=captured, mutable=["intermediates"])
    several: dict[str, list[jax.Array]] = {}
    leaves, _ = jax.tree_util.tree_flatten_with_path(found["intermediates"])  # type: ignore[index]
    for path, leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size:
            keys = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey) and key.key != CALL]
            of_module = several.setdefault("/".join(keys) or OUTPUT, [])
            # What is handed on as a pair, for two that use it, is one array.
            if not any(leaf is other for other in of_module):
                of_module.append(leaf)
    return {
        name if len(arrays) == 1 else f"{name}/{number}": array
        for name, arrays in several.items()
        for number, array in enumerate(arrays)
    }
