"""The pooling operator."""

import jax


def max_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """Returns the largest value of each `size` x `size` square, squares side by side; a remainder at the edge is dropped.

    Args:
      x: float [batch, height, width, channels].
      size: edge of the square, in pixels.

    Returns:
      float [batch, height // size, width // size, channels].

    Raises:
      ValueError: x is not of four dimensions.
    """
    if x.ndim != 4:
        raise ValueError(f"max_pool: x {x.shape} is not [batch, height, width, channels]")
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x[:, : rows * size, : columns * size]
    return x.reshape(batch, rows, size, columns, size, channels).max(axis=(2, 4))
