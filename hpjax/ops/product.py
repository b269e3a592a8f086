"""The product of a batch of vectors with a matrix, whose gradient is laid out for the CPU."""

import jax
from jax import lax

from hpjax.ops import precision, rounded


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns `x @ kernel`, of operands rounded to bfloat16 where the program computes in it.

    Args:
      x: float [..., inputs].
      kernel: float [inputs, outputs].

    Returns:
      float [..., outputs].
    """
    return rounded.product(x, kernel) if precision.rounded() else _product(x, kernel)


@jax.custom_vjp
def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns `x @ kernel`.

    The gradient of the kernel is a sum over the batch, and XLA hands it to the CPU's library with both operands lying
    across: 108 against 223 GF/s on one core for 512 inputs, 128 outputs and a batch of 768, and 30.5 against 25.7 ms for a
    tick of a transformer of 4 blocks. So the cotangent is turned round beforehand.
    """
    return x @ kernel


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ kernel, (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    rows, columns = rounded.flat(x), rounded.flat(cotangent)
    if jax.default_backend() == "cpu":
        # The barriers keep XLA from folding the transpositions into the product again.
        gradient = lax.optimization_barrier(lax.optimization_barrier(columns.T) @ rows).T
    else:
        gradient = rows.T @ columns
    return cotangent @ kernel.T, gradient


_product.defvjp(_forward, _backward)
