"""The attention operator: softmax of scaled products of queries and keys, by which values are averaged."""

import jax
import jax.numpy as jnp
import numpy as np

from hpjax.ops import native, native_attention


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


def self_attention(qkv: jax.Array, heads: int, *, causal: bool) -> jax.Array:
    """Returns the attention of sequences to themselves, from their queries, keys and values side by side.

    Args:
      qkv: float [batch, time, 3 * width], queries, then keys, then values, each head after head.
      heads: number of heads, a divisor of width.
      causal: whether a place sees itself and those before it alone.

    Returns:
      float [batch, time, width], head after head.

    Raises:
      ValueError: the shapes do not fit.
    """
    if qkv.ndim != 3 or heads < 1 or qkv.shape[2] % (3 * heads):
        raise ValueError(f"self_attention: qkv {qkv.shape} does not fit {heads} heads")
    if native.used(qkv):
        return native_attention.self_attention(qkv, heads, causal)
    y = (causal_attention if causal else attention)(*split_heads(qkv, heads))
    return join_heads(y)


def split_heads(qkv: jax.Array, heads: int) -> tuple[jax.Array, ...]:
    """Returns queries, keys and values, float [batch, heads, time, dim] each, of float [batch, time, 3 * heads * dim]."""
    batch, time, _ = qkv.shape
    parts = jnp.split(qkv, 3, axis=-1)
    return tuple(part.reshape(batch, time, heads, -1).transpose(0, 2, 1, 3) for part in parts)


def join_heads(x: jax.Array) -> jax.Array:
    """Returns float [batch, time, heads * dim] of float [batch, heads, time, dim]."""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)
