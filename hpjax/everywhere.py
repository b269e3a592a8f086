"""What each device has, made known to all of them or averaged over them, inside a program that is mapped over devices.

Between processes each exchange is a round trip, and a network's arrays are many: the small ones go together. What is not to
be averaged goes as whole numbers (`packing`), which no sum rounds (it would make 0.0 of -0.0).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hpjax import packing

TOGETHER = 2**20
"""Bytes of an array that goes alone: its time is that of its bytes, and it is not copied."""


def mean(tree: Any, axis: str) -> Any:
    """Returns the mean of each array over all devices."""
    leaves, structure = jax.tree.flatten(tree)
    made: list[Any] = [None] * len(leaves)
    for these in _groups(leaves, lambda leaf: leaf.dtype):
        came, begin = lax.pmean(jnp.concatenate([leaves[i].reshape(-1) for i in these]), axis), 0
        for i in these:
            made[i] = came[begin : begin + leaves[i].size].reshape(leaves[i].shape)
            begin += leaves[i].size
    return jax.tree.unflatten(structure, made)


def gathered(tree: Any, axis: str) -> Any:
    """Returns arrays [n of all devices, ...] on each of them, bit for bit, from arrays [n of this device, ...]."""
    return _together(tree, lambda words: lax.all_gather(words, axis, tiled=True))


def chosen(tree: Any, axis: str, mine: jax.Array) -> Any:
    """Returns on each device, bit for bit, the arrays [n, ...] of the one device where `mine`, a bool scalar, is True."""
    return _together(tree, lambda words: lax.psum(jnp.where(mine, words, 0), axis))


def _together(tree: Any, exchange: Callable[[jax.Array], jax.Array]) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    made: list[Any] = [None] * len(leaves)
    for these in _groups(leaves, lambda leaf: "words"):
        some = [leaves[i] for i in these]
        rows = exchange(jax.vmap(packing.pack)(some))
        for i, leaf in zip(these, _unpacked(rows, some), strict=True):
            made[i] = leaf
    return jax.tree.unflatten(structure, made)


def _unpacked(rows: jax.Array, some: Sequence[jax.Array]) -> Any:
    like = [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in some]
    return jax.vmap(lambda row: packing.unpack(row, like))(rows)


def _groups(leaves: Sequence[jax.Array], kind: Callable[[jax.Array], Any]) -> list[list[int]]:
    """Returns which arrays go together: the small ones of a kind; a large one goes alone."""
    of_kind: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        of_kind.setdefault(kind(leaf) if leaf.size * leaf.dtype.itemsize < TOGETHER else i, []).append(i)
    return list(of_kind.values())
