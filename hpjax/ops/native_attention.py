"""Attention of sequences to themselves by the native kernels, and its gradient."""

from functools import partial
from typing import Any

import jax

from hpjax.ops import native


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def self_attention(qkv: jax.Array, heads: int, causal: bool) -> jax.Array:
    """Returns `attention.self_attention` of a float32 array that `native.used` accepts, [batch, time, 3 * width]."""
    return _forward(qkv, heads, causal)[0]


def _forward(qkv: jax.Array, heads: int, causal: bool) -> tuple[jax.Array, Any]:
    batch, time, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    results = native.floats(batch, time, width), native.floats(batch, heads, 2, time)
    y, statistics = native.call("hpjax_attention", results, qkv, heads=heads, causal=causal)
    return y, (qkv, statistics)


def _backward(heads: int, causal: bool, kept: Any, cotangent: jax.Array) -> tuple[jax.Array]:
    qkv, statistics = kept
    results = (native.floats(*qkv.shape),)
    return tuple(native.call("hpjax_attention_gradient", results, qkv, statistics, cotangent, heads=heads, causal=causal))


self_attention.defvjp(_forward, _backward)
