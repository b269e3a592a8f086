"""Products of operands rounded to bfloat16 and summed in the operands' own dtype, as XLA runs them, and their gradients.

The gradients' products are rounded likewise, which those that JAX derives would not be.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]


def round_to_bf16(x: jax.Array) -> jax.Array:
    """Returns `x` rounded to bfloat16, in its own dtype."""
    # Not a cast there and back, which XLA may leave out.
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns `a @ b` for float [..., k] and [k, columns]."""
    over = (((a.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), over, preferred_element_type=a.dtype)


def flat(x: jax.Array) -> jax.Array:
    """Returns the vectors of a batch as rows, float [rows, inputs]; there may be none, or of no inputs."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns `x @ kernel` for float [..., inputs] and [inputs, outputs]."""
    return matmul(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return matmul(x, kernel), (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    rows, columns = flat(x), flat(cotangent)
    return matmul(cotangent, kernel.T), matmul(rows.T, columns)


product.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolution(x: jax.Array, kernel: jax.Array, stride: Pair, pads: tuple[Pair, Pair], dilation: Pair) -> jax.Array:
    """Returns the convolution, float [batch, rows, columns, features].

    Args:
      x: float [batch, height, width, channels].
      kernel: float [down, across, channels, features].
      stride: pixels between two outputs.
      pads: zeros added above and below, left and right.
      dilation: pixels between two taps.
    """
    operands = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _convolution(*operands, stride, pads, dilation, preferred_element_type=x.dtype)


def _convolution(
    x: jax.Array, kernel: jax.Array, stride: Pair, pads: tuple[Pair, Pair], dilation: Pair, **more: Any
) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, stride, pads, rhs_dilation=dilation, dimension_numbers=numbers, **more)


def _convolution_forward(x: jax.Array, kernel: jax.Array, *static: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolution(x, kernel, *static), (x, kernel)


def _convolution_backward(
    stride: Pair, pads: tuple[Pair, Pair], dilation: Pair, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    # JAX derives no gradient of a convolution of one dtype into another. Rounded values are exact in what an accelerator
    # multiplies float32 in: TF32 on a GPU, bfloat16 on a TPU.
    rounded = (round_to_bf16(array) for array in saved)
    _, pullback = jax.vjp(lambda x, kernel: _convolution(x, kernel, stride, pads, dilation), *rounded)
    return pullback(round_to_bf16(cotangent))  # type: ignore[no-any-return]


convolution.defvjp(_convolution_forward, _convolution_backward)
