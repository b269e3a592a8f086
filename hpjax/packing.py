"""Many arrays as one row of 32-bit words: what is moved between host and device in one piece, not leaf by leaf.

A state has some fifty arrays, and each of them costs a transfer and bookkeeping of its own. Elements of four bytes keep
their bits, shorter ones take a word each, those of eight bytes two.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def words(like: Any) -> int:
    """Returns the words of a pytree of arrays, or of shapes and types."""
    return sum(math.prod(leaf.shape) * max(np.dtype(leaf.dtype).itemsize // 4, 1) for leaf in jax.tree.leaves(like))


def pack(tree: Any) -> jax.Array:
    """Returns a pytree of arrays as uint32 [words]."""
    return jnp.concatenate([_words(leaf) for leaf in jax.tree.leaves(tree)])


def unpack(row: jax.Array, like: Any) -> Any:
    """Returns the pytree whose `pack` is `row`, in the shapes and types of `like`."""
    leaves, treedef = jax.tree.flatten(like)
    made, at = [], 0
    for leaf in leaves:
        size = words(leaf)
        made.append(_of_words(row[at : at + size], leaf))
        at += size
    return jax.tree.unflatten(treedef, made)


def _words(leaf: jax.Array) -> jax.Array:
    if leaf.dtype == bool:
        return leaf.reshape(-1).astype(jnp.uint32)
    size = leaf.dtype.itemsize
    if size >= 4:
        return lax.bitcast_convert_type(leaf, jnp.uint32).reshape(-1)
    return lax.bitcast_convert_type(leaf, f"uint{8 * size}").reshape(-1).astype(jnp.uint32)


def _of_words(row: jax.Array, like: Any) -> jax.Array:
    dtype = np.dtype(like.dtype)
    if dtype.kind == "b":
        return row.reshape(like.shape) != 0
    size = dtype.itemsize
    if size >= 4:
        return lax.bitcast_convert_type(row.reshape(*like.shape, *([size // 4] if size > 4 else [])), dtype)
    return lax.bitcast_convert_type(row.astype(f"uint{8 * size}").reshape(like.shape), dtype)
