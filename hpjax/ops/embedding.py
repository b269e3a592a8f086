"""The embedding operator: rows of a table by index."""

import jax
from flax import linen as nn

from hpjax.ops import precision
from hpjax.ops.dense import dense
from hpjax.ops.product import product


@jax.custom_vjp
def embedding(index: jax.Array, table: jax.Array) -> jax.Array:
    """Returns `table[index]`.

    The gradient is a product with the one-hot index, not a scatter: as fast on a CPU, and its sums have one order on an
    accelerator too.

    Args:
      index: int [...], in [0, rows).
      table: float [rows, features].

    Returns:
      float [..., features].
    """
    return table[index]


def _forward(index: jax.Array, table: jax.Array) -> tuple[jax.Array, tuple[jax.Array, int]]:
    return table[index], (index, table.shape[0])


def _backward(saved: tuple[jax.Array, int], cotangent: jax.Array) -> tuple[None, jax.Array]:
    index, rows = saved
    one_hot = jax.nn.one_hot(index.reshape(-1), rows, dtype=cotangent.dtype)
    return None, one_hot.T @ cotangent.reshape(-1, cotangent.shape[-1])


embedding.defvjp(_forward, _backward)


class Embedding(nn.Module):
    """A Linen layer of `embedding`: a table of `rows` vectors of `features` numbers."""

    rows: int
    features: int
    table_init: nn.initializers.Initializer = nn.initializers.normal(1.0)

    def setup(self) -> None:
        """Makes the table."""
        self.table = self.param("table", self.table_init, (self.rows, self.features))

    def __call__(self, index: jax.Array) -> jax.Array:
        """Returns `embedding` of index with this layer's table."""
        return embedding(index, self.table)

    def logits(self, x: jax.Array) -> jax.Array:
        """Returns the products of x, float [..., features], with every row: float [..., rows]."""
        # In float32 XLA's product is the faster one (BUILD_NOTES.md).
        return (dense if precision.rounded() else product)(x, self.table.T)
