"""Layer normalisation by the native kernels, of a sum or of an array alone, and its gradient."""

from functools import partial
from typing import Any

import jax
import numpy as np

from hpjax.ops import native

_NONE = np.zeros(0, np.float32)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def residual_norm(
    x: jax.Array, branch: Any, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array]:
    """Returns `layer_norm.residual_norm` of float32 arrays that `native.used` accepts.

    Args:
      x: float32 [rows, features].
      branch: float32 [rows, features], or [0] for none.
      scale: float32 [features].
      bias: float32 [features].
      epsilon: added to the variance.
    """
    total, y, _ = _run(x, branch, scale, bias, epsilon)
    return total, y


def _run(x: jax.Array, branch: Any, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, ...]:
    results = native.floats(*branch.shape), native.floats(*x.shape), native.floats(x.shape[0], 2)
    given = np.array([epsilon], np.float32)
    total, y, statistics = native.call("hpjax_norm", results, x, branch, scale, bias, epsilon=given)
    return total if branch.size else x, y, statistics


def _forward(x: jax.Array, branch: Any, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[Any, Any]:
    total, y, statistics = _run(x, branch, scale, bias, epsilon)
    return (total, y), (total, scale, statistics, branch.size > 0)


def _backward(epsilon: float, kept: Any, cotangents: tuple[jax.Array, jax.Array]) -> tuple[Any, ...]:
    del epsilon
    total, scale, statistics, added = kept
    through, cotangent = cotangents
    results = native.floats(*total.shape), native.floats(*scale.shape), native.floats(*scale.shape)
    operands = (total, scale, statistics, cotangent, through)
    to_x, to_scale, to_bias = native.call("hpjax_norm_gradient", results, *operands)
    return to_x, to_x if added else _NONE, to_scale, to_bias


residual_norm.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """Returns `layer_norm.layer_norm` of float32 arrays that `native.used` accepts; x is [rows, features]."""
    return _run(x, _NONE, scale, bias, epsilon)[1]


def _norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, Any]:
    _, y, statistics = _run(x, _NONE, scale, bias, epsilon)
    return y, (x, scale, statistics, False)


def _norm_backward(epsilon: float, kept: Any, cotangent: jax.Array) -> tuple[Any, ...]:
    to_x, _, to_scale, to_bias = _backward(epsilon, kept, (_NONE, cotangent))  # type: ignore[arg-type]
    return to_x, to_scale, to_bias


norm.defvjp(_norm_forward, _norm_backward)
