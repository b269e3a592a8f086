"""The pooling operators."""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax


def max_pool(x: jax.Array, size: int = 2, stride: int | None = None, padding: int = 0) -> jax.Array:
    """Returns the largest value of each `size` x `size` square.

    Where several values of a square are largest, they share its gradient.

    Args:
      x: float [batch, height, width, channels].
      size: edge of the square, in pixels.
      stride: pixels between two squares; None puts them side by side. A remainder at the edge is dropped.
      padding: pixels, at most size / 2, by which squares may stick out on every side.

    Returns:
      float [batch, (height + 2 padding - size) // stride + 1, the same of width, channels].

    Raises:
      ValueError: x is not of four dimensions, or smaller than a square.
    """
    _check("max_pool", x, size, padding)
    if stride in (None, size) and padding == 0:
        return _squares(x, size).max(axis=(2, 4))
    step = stride or size
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=-jnp.inf)
    rows, columns = ((edge - size) // step * step + 1 for edge in x.shape[1:3])

    def place(i: int, j: int) -> jax.Array:
        return lax.slice(x, (0, i, j, 0), (x.shape[0], i + rows, j + columns, x.shape[3]), (1, step, step, 1))

    return reduce(jnp.maximum, [place(i, j) for i in range(size) for j in range(size)])


def avg_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """Returns the mean of each `size` x `size` square, squares side by side; a remainder at the edge is dropped.

    Args:
      x: float [batch, height, width, channels].
      size: edge of the square, in pixels.

    Returns:
      float [batch, height // size, width // size, channels].

    Raises:
      ValueError: x is not of four dimensions, or smaller than a square.
    """
    _check("avg_pool", x, size)
    return _squares(x, size).mean(axis=(2, 4))


def _check(name: str, x: jax.Array, size: int, padding: int = 0) -> None:
    if x.ndim != 4:
        raise ValueError(f"{name}: x {x.shape} is not [batch, height, width, channels]")
    if min(x.shape[1:3]) + 2 * padding < size:
        raise ValueError(f"{name}: x {x.shape} is smaller than a square of {size} x {size}")


def _squares(x: jax.Array, size: int) -> jax.Array:
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    return x[:, : rows * size, : columns * size].reshape(batch, rows, size, columns, size, channels)
