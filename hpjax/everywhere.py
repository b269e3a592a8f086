"""What one device has of the lanes, made known to all of them, inside a program that is mapped over the lanes.

Between processes each exchange is a round trip: all arrays go together, as whole numbers, which no sum rounds (it would make
0.0 of -0.0).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def gathered(tree: Any, axis: str) -> Any:
    """Returns arrays [lanes, ...] of all devices on each of them, from arrays [lanes of this device, ...]."""
    return _together(tree, lambda words: lax.all_gather(words, axis, tiled=True))


def chosen(tree: Any, axis: str, mine: jax.Array) -> Any:
    """Returns on each device the arrays [n, ...] of the one device where `mine`, a bool scalar, is True."""
    return _together(tree, lambda words: lax.psum(jnp.where(mine, words, 0), axis))


def _together(tree: Any, exchange: Callable[[jax.Array], jax.Array]) -> Any:
    """Exchanges a tree's arrays bit for bit, those with numbers of one size in one array of unsigned [n, numbers]."""
    leaves, structure = jax.tree.flatten(tree)
    made: list[Any] = [None] * len(leaves)
    for size in {leaf.dtype.itemsize for leaf in leaves}:
        these = [i for i, leaf in enumerate(leaves) if leaf.dtype.itemsize == size]
        words = [_words(leaves[i]) for i in these]
        came = exchange(jnp.concatenate(words, axis=1))
        begin = 0
        for i, own in zip(these, words, strict=True):
            made[i] = _numbers(came[:, begin : begin + own.shape[1]], leaves[i])
            begin += own.shape[1]
    return jax.tree.unflatten(structure, made)


def _words(leaf: jax.Array) -> jax.Array:
    unsigned = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
    words = leaf.astype(unsigned) if leaf.dtype == bool else lax.bitcast_convert_type(leaf, unsigned)
    return words.reshape(len(leaf), -1)


def _numbers(words: jax.Array, like: jax.Array) -> jax.Array:
    numbers = words.astype(bool) if like.dtype == bool else lax.bitcast_convert_type(words, like.dtype)
    return numbers.reshape(-1, *like.shape[1:])
