"""The attention operator: softmax of scaled products of queries and keys, by which values are averaged."""

import jax
import jax.numpy as jnp
import numpy as np


def attention(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Returns `softmax(q k^T / sqrt(dim)) v`, head by head.

    Args:
      q: float [batch, heads, queries, dim].
      k: float [batch, heads, keys, dim].
      v: float [batch, heads, keys, dim].
      mask: bool [queries, keys], which keys a query sees, at least one each; None shows all of them.

    Returns:
      float [batch, heads, queries, dim].

    Raises:
      ValueError: the shapes do not fit.

    Source: Vaswani et al., Attention Is All You Need (2017), equation 1.
    """
    if q.ndim != 4 or k.shape != v.shape or q.shape[:2] != k.shape[:2] or q.shape[3:] != k.shape[3:]:
        raise ValueError(f"attention: q {q.shape}, k {k.shape} and v {v.shape} do not fit")
    if mask is not None and mask.shape != (q.shape[2], k.shape[2]):
        raise ValueError(f"attention: mask {mask.shape} does not fit {q.shape[2]} queries and {k.shape[2]} keys")
    # Queries are fewer numbers than scores: the scale goes there.
    scores = jnp.einsum("bhqd,bhkd->bhqk", q * q.shape[3] ** -0.5, k)
    if mask is not None:
        # Not -inf: a row of those alone would turn into NaN, and its gradient with it.
        scores = jnp.where(mask[None, None], scores, jnp.finfo(scores.dtype).min)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores), v)


def causal_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Returns `attention` in which a place sees itself and those before it; q, k and v are of one shape."""
    if q.shape != k.shape:
        raise ValueError(f"causal_attention: q {q.shape} and k {k.shape} differ")
    return attention(q, k, v, jnp.asarray(np.tril(np.ones((q.shape[2], q.shape[2]), bool))))
