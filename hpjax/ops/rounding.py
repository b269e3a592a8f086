"""Stochastic rounding to bfloat16: up or down at random, so that the mean over draws is the number itself.

The random bits are a function of a tensor's key and an element's place in it. The native step draws the same ones.
"""

import jax
import jax.numpy as jnp
from jax import lax


def keys(key: jax.Array, tensors: int) -> jax.Array:
    """Returns the keys of a step's tensors, uint32 [tensors, 2]; `key` is JAX's, of the trial and the step."""
    return jax.random.bits(key, (tensors, 2), jnp.uint32)


def bits(key: jax.Array, size: int) -> jax.Array:
    """Returns 32 random bits for each element of a tensor, uint32 [size].

    A bijective mixing of the element's number with three multiplications, the key's halves joining before and between them.

    Args:
      key: uint32 [2], the tensor's.
      size: its elements.

    Source: the constants are those of triple32, Wellons, Prospecting for Hash Functions (2018).
    """
    x = lax.iota(jnp.uint32, size) ^ key[0]
    x = (x ^ (x >> 17)) * jnp.uint32(0xED5AD4BB)
    x = (x ^ (x >> 11) ^ key[1]) * jnp.uint32(0xAC4C1B51)
    x = (x ^ (x >> 15)) * jnp.uint32(0x31848BAB)
    return x ^ (x >> 14)


def stochastic(x: jax.Array, random: jax.Array, draw: int) -> jax.Array:
    """Returns float32 numbers as bfloat16, rounded up with the probability of what lies above the lower neighbour.

    What bfloat16 holds exactly is not changed, nor what is infinite or no number.

    Args:
      x: float32, any shape.
      random: uint32, one for each element, from `bits`.
      draw: 0 or 1, which half of the bits is used.
    """
    raw = lax.bitcast_convert_type(x, jnp.uint32)
    noise = (random.reshape(x.shape) >> (16 * draw)) & 0xFFFF
    # The payload of what is no number might overflow: its quiet bit is set instead.
    rounded = jnp.where(jnp.isnan(x), raw | 0x400000, raw + noise) >> 16
    return lax.bitcast_convert_type(rounded.astype(jnp.uint16), jnp.bfloat16)
