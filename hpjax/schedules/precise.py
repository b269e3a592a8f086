"""Powers to float32's full precision: `gamma ** t` for t in the millions, by numbers that are the sum of two float32.

`t * log2(gamma)` in one float32 loses the digits that the exponent's whole part takes. Two hold 48 bits, which leaves more
than enough for what follows the point. Compilers may fuse a product into a following sum, which breaks the usual error-free
product; here factors are cut to 12 bits first, so that every product is exact, fused or not.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hpjax.registry import Scalar


class Wide(NamedTuple):
    """The number `high + low`, float32 scalars, |low| at most half a unit in the last place of `high`."""

    high: jax.Array
    low: jax.Array


Precise = Scalar | Wide
"""A setting whose rounding to float32 would show after many steps: a table holds it as `Wide`."""

_LOG2_E_TWICE = 2 / np.log(2)
_SQRT_HALF = 0x3F3504F3


def wide(value: Precise) -> Wide:
    """Returns a number, plain or traced, int or float of any width, as `Wide`."""
    if isinstance(value, Wide):
        return value
    if isinstance(value, (int, float, np.integer, np.float64)):
        rounded = float(np.float32(value))
        return Wide(jnp.float32(rounded), jnp.float32(float(value) - rounded))
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.integer):
        return fast_sum((array & ~0xFFF).astype(jnp.float32), (array & 0xFFF).astype(jnp.float32))
    high = array.astype(jnp.float32)
    return Wide(high, (array - high.astype(array.dtype)).astype(jnp.float32))


def fast_sum(large: jax.Array, small: jax.Array) -> Wide:
    """Returns the exact sum of two float32, |large| >= |small| or large = 0."""
    high = large + small
    return Wide(high, small - (high - large))


def subtract(a: Wide, b: Wide) -> jax.Array:
    """Returns a - b as float32, good to its last digits where the two are close."""
    return (a.high - b.high) + (a.low - b.low)


def multiply(a: Wide, b: Wide) -> Wide:
    """Returns a * b to about 35 bits."""
    a_top, a_rest = _cut(a.high)
    b_top, b_rest = _cut(b.high)
    rest = (a_top * b_rest + a_rest * b_top) + (a_rest * b_rest + (a.high * b.low + a.low * b.high))
    return fast_sum(a_top * b_top, rest)


def divide(a: Wide, b: Wide) -> Wide:
    """Returns a / b to about 35 bits; exactly where a and b are whole, b below 2^12, and so is the quotient."""
    first = a.high / b.high
    (top, rest), (b_top, b_rest) = _cut(first), _cut(b.high)
    remainder = ((((a.high - top * b_top) + a.low) - top * b_rest) - rest * b_top) - rest * b_rest
    return fast_sum(first, (remainder - first * b.low) / b.high)


def power(base: Precise, exponent: Precise) -> jax.Array:
    """Returns base ** exponent as float32, relative error below 5e-7; finite: at most float32's largest number.

    Args:
      base: scalar >= 0.
      exponent: scalar.
    """
    base, exponent = wide(base), wide(exponent)
    bits = multiply(_log2(base), exponent)
    whole = jnp.round(jnp.clip(bits.high, -300.0, 300.0))
    rest = jnp.clip((bits.high - whole) + bits.low, -1.0, 1.0)
    half = (whole / 2).astype(jnp.int32)
    result = jnp.exp2(rest) * _two_to(half) * _two_to(whole.astype(jnp.int32) - half)
    result = jnp.minimum(result, jnp.finfo(jnp.float32).max)
    return jnp.where(exponent.high == 0, jnp.float32(1.0), jnp.where(base.high <= 0, jnp.float32(0.0), result))


def complement(base: Precise, exponent: Precise) -> jax.Array:
    """Returns 1 - base ** exponent as float32, precise also where the power is close to 1."""
    bits = multiply(_log2(wide(base)), wide(exponent))
    near = jnp.abs(bits.high) < 0.5
    small = jnp.where(near, bits.high + bits.low, 0.0)
    return jnp.where(near, -jnp.expm1(small * jnp.float32(jnp.log(2.0))), 1.0 - power(base, exponent))


def _cut(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns float32 x as two numbers of 12 bits each."""
    top = lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000), jnp.float32)
    return top, x - top


def _two_to(exponent: jax.Array) -> jax.Array:
    """Returns 2 ** int32 exponent, exact within float32's range of normal numbers, else 0 or infinity."""
    return lax.bitcast_convert_type((jnp.clip(exponent, -127, 128) + 127) << 23, jnp.float32)


def _log2(x: Wide) -> Wide:
    """Returns the binary logarithm of a number > 0, relative error about 2e-9."""
    bits = lax.bitcast_convert_type(x.high, jnp.int32)
    exponent = (bits - _SQRT_HALF) >> 23
    mantissa = lax.bitcast_convert_type(bits - (exponent << 23), jnp.float32)
    low = x.low * _two_to(-exponent)
    # Compilers reassociate constants: (m + 1) - 1 would tell nothing of what m + 1 rounds off.
    top, rest = _cut(mantissa)
    below = fast_sum(top + 1.0, rest + low)
    s = divide(fast_sum(mantissa - 1.0, low), below)
    # log(m) = 2 artanh(s) with |s| < 0.172.
    z = s.high * s.high
    tail = s.high * z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z / 11))))
    mantissa_bits = multiply(fast_sum(s.high, s.low + tail), wide(_LOG2_E_TWICE))
    return _plus(exponent.astype(jnp.float32), mantissa_bits)


def _plus(whole: jax.Array, x: Wide) -> Wide:
    total = fast_sum(whole, x.high)
    return fast_sum(total.high, total.low + x.low)
