"""The dense operator by the native kernels: product, bias and activation, and its gradients."""

from functools import partial
from typing import Any

import jax
import numpy as np

from hpjax.ops import native

FROM_INPUT = ("gelu", "silu")
"""Activations whose derivative is computed from what went into them, not from what came out."""
_NONE = np.zeros(0, np.float32)


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array | None, activation: str, bf16: bool) -> jax.Array:
    """Returns `activation(x @ kernel + bias)` of float32 arrays that `native.used` accepts.

    Args:
      x: float32 [..., inputs].
      kernel: float32 [inputs, outputs].
      bias: float32 [outputs] or None.
      activation: a name in `native.NUMBERS`.
      bf16: whether operands of the products are rounded to bfloat16.
    """
    y = _dense(x.reshape(-1, x.shape[-1]), kernel, _NONE if bias is None else bias, activation, bf16)
    return y.reshape(*x.shape[:-1], kernel.shape[1])


def matmul(
    a: Any,
    b: Any,
    bias: Any = _NONE,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bf16: bool = False,
    activation: str = "none",
    before: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Returns `activation(op(a) @ op(b) + bias)`, and what went into the activation where `before` is set (else [0]).

    Args:
      a: float32 [rows, depth], or [depth, rows] where `transpose_a`.
      b: float32 [depth, columns], or [columns, depth] where `transpose_b`.
      bias: float32 [columns], or [0] for none.
      transpose_a: whether a lies across.
      transpose_b: whether b lies across.
      bf16: whether a and b are rounded to bfloat16; sums are float32.
      activation: a name in `native.NUMBERS`.
      before: whether the second result is asked for.
    """
    shape = a.shape[1 if transpose_a else 0], b.shape[0 if transpose_b else 1]
    results = native.floats(*shape), native.floats(*(shape if before else (0,)))
    how: dict[str, Any] = {"transpose_a": transpose_a, "transpose_b": transpose_b, "bf16": bf16}
    return native.call(  # type: ignore[no-any-return]
        "hpjax_matmul", results, a, b, bias, **how, activation=native.NUMBERS[activation]
    )


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _dense(x: jax.Array, kernel: jax.Array, bias: Any, activation: str, bf16: bool) -> jax.Array:
    return matmul(x, kernel, bias, activation=activation, bf16=bf16)[0]


def _forward(x: jax.Array, kernel: jax.Array, bias: Any, activation: str, bf16: bool) -> tuple[jax.Array, Any]:
    y, before = matmul(x, kernel, bias, activation=activation, bf16=bf16, before=activation in FROM_INPUT)
    saved = before if activation in FROM_INPUT else _NONE if activation == "none" else y
    return y, (x, kernel, bias, saved)


def _backward(activation: str, bf16: bool, kept: Any, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, kernel, bias, saved = kept
    through = activation != "none"
    results = native.floats(*(cotangent.shape if through else (0,))), native.floats(*bias.shape)
    inside, to_bias = native.call("hpjax_pullback", results, saved, cotangent, activation=native.NUMBERS[activation])
    inside = inside if through else cotangent
    to_x, _ = matmul(inside, kernel, transpose_b=True, bf16=bf16)
    to_kernel, _ = matmul(x, inside, transpose_a=True, bf16=bf16)
    return to_x, to_kernel, to_bias


_dense.defvjp(_forward, _backward)
