"""What one device has of the lanes, made known to all of them, inside a program that is mapped over the lanes.

Between processes each exchange is a round trip: all arrays go together, as whole numbers (`packing`), which no sum rounds
(it would make 0.0 of -0.0).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hpjax import packing


def gathered(tree: Any, axis: str) -> Any:
    """Returns arrays [lanes, ...] of all devices on each of them, from arrays [lanes of this device, ...]."""
    return _together(tree, lambda words: lax.all_gather(words, axis, tiled=True))


def chosen(tree: Any, axis: str, mine: jax.Array) -> Any:
    """Returns on each device the arrays [n, ...] of the one device where `mine`, a bool scalar, is True."""
    return _together(tree, lambda words: lax.psum(jnp.where(mine, words, 0), axis))


def _together(tree: Any, exchange: Callable[[jax.Array], jax.Array]) -> Any:
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)
    rows = exchange(jax.vmap(packing.pack)(tree))
    return jax.vmap(lambda row: packing.unpack(row, like))(rows)
