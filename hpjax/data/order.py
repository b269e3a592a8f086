"""The order in which a trial sees its examples: a keyed bijection, evaluated only at the positions asked for.

A trial reads an endless stream of examples: epoch after epoch, each a permutation of the training split of its own. Where
an example stands in the stream does not depend on batch size, micro-batch size, lane or device.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

GENERATOR = "threefry2x32"
"""Named, so that JAX_DEFAULT_PRNG_IMPL changes no trial."""

ROUNDS = 6

SMALL, SMALL_ROUNDS = 256, 16
"""Below this size halves of a few values mix slowly: after 6 rounds a pair of 10 examples is off uniform by a sixth."""


def _hash(x: jax.Array) -> jax.Array:
    """Mixes uint32 values; the multipliers are those of Wellons' `lowbias32` hash (2018)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


class Epoch(NamedTuple):
    """The examples of an epoch, for `example_index`: numbers, or uint32 scalars that may be traced.

    Attributes:
      size: how many there are.
      rows: of the table, just above `size`, that the bijection permutes.
      columns: likewise.
    """

    size: int | jax.Array
    rows: int | jax.Array
    columns: int | jax.Array

    @classmethod
    def of(cls, size: int) -> "Epoch":
        """Returns the epoch of a number of examples below 2^31."""
        columns = math.isqrt(size - 1) + 1
        return cls(size, -(-size // columns), columns)


def _feistel(x: jax.Array, keys: jax.Array, rows: int | jax.Array, columns: int | jax.Array) -> jax.Array:
    """One pass of the bijection of [0, rows * columns): x = left * columns + right, each shifted by a hash of the other."""
    left, right = x // columns, x % columns
    for i in range(0, keys.shape[-1], 2):
        left = _shifted(left, _hash(right ^ keys[..., i]), rows)
        right = _shifted(right, _hash(left ^ keys[..., i + 1]), columns)
    return left * columns + right


def _shifted(x: jax.Array, by: jax.Array, size: int | jax.Array) -> jax.Array:
    """Returns x, below `size`, shifted in a circle of `size` by what a hash comes to: uint32."""
    if isinstance(size, int):
        return (x + by % size) % size
    # A division by what is not known to the compiler takes four times as long as the rest. Sizes are below 2^16, so that
    # half of the hash makes a number below `size` by multiplication.
    moved = x + ((by >> 16) * size >> 16)
    return jnp.where(moved >= size, moved - size, moved)


def example_index(position: jax.Array, size: int, seed: jax.Array) -> jax.Array:
    """Returns which example stands at a position of the stream.

    Args:
      position: uint32 [batch], consecutive places in the stream, batch <= size; counted from 0 over all epochs.
      size: number of examples in an epoch, below 2^31.
      seed: uint32 scalar, the data seed; may be traced.

    Returns:
      int32 [batch] in [0, size); over the positions of one epoch every value comes exactly once.

    Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains (2002): generalised Feistel and cycle walking.
    """
    return index_in(Epoch.of(size), position, seed, ROUNDS if size >= SMALL else SMALL_ROUNDS)


def index_in(of: Epoch, position: jax.Array, seed: jax.Array, rounds: int = SMALL_ROUNDS) -> jax.Array:
    """Returns which example stands at a position of the stream; see `example_index`.

    Args:
      of: the epoch; its size may be traced, and the order is then another one.
      position: uint32 [batch].
      seed: uint32 scalar.
      rounds: of mixing; as many as any size needs.
    """
    size, rows, columns = of
    # Consecutive positions, no more than an epoch's, lie in at most two epochs: two sets of round keys are enough.
    epoch = position // jnp.uint32(size)
    first = epoch[0]
    base = jax.random.key(seed, impl=GENERATOR)
    bits = jax.vmap(lambda e: jax.random.bits(jax.random.fold_in(base, e), (rounds,)))
    keys = bits(jnp.stack([first, first + 1]))
    keys = jnp.where((epoch == first)[:, None], keys[0], keys[1])

    def walk(x: jax.Array) -> jax.Array:
        return jnp.where(x >= size, _feistel(x, keys, rows, columns), x)

    start = _feistel(position % jnp.uint32(size), keys, rows, columns)
    return lax.while_loop(lambda x: jnp.any(x >= size), walk, start).astype(jnp.int32)
