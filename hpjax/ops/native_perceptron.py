"""Two dense layers with an activation between them by the native kernels, and their gradients."""

from functools import partial
from typing import Any

import jax

from hpjax.ops import native


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def perceptron(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, out_kernel: jax.Array, out_bias: jax.Array, activation: str
) -> jax.Array:
    """Returns `perceptron.perceptron` of float32 arrays that `native.used` accepts; x is [rows, inputs]."""
    return _run((x, kernel, bias, out_kernel, out_bias), activation, before=False)[0]


def _run(arrays: tuple[jax.Array, ...], activation: str, *, before: bool) -> tuple[jax.Array, jax.Array]:
    """Returns the value, and what went into the activation where `before` is set (else [0])."""
    x, kernel, _, out_kernel, _ = arrays
    inside = (x.shape[0], kernel.shape[1]) if before else (0,)
    results = native.floats(x.shape[0], out_kernel.shape[1]), native.floats(*inside)
    return native.call("hpjax_perceptron", results, *arrays, activation=native.NUMBERS[activation])  # type: ignore[no-any-return]


def _forward(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, out_kernel: jax.Array, out_bias: jax.Array, activation: str
) -> tuple[jax.Array, Any]:
    arrays = (x, kernel, bias, out_kernel, out_bias)
    y, before = _run(arrays, activation, before=True)
    return y, (*arrays, before)


def _backward(activation: str, kept: Any, cotangent: jax.Array) -> tuple[jax.Array, ...]:
    x, kernel, bias, out_kernel, out_bias, before = kept
    results = [native.floats(*array.shape) for array in (x, kernel, bias, out_kernel, out_bias)]
    operands = (x, kernel, out_kernel, before, cotangent)
    return tuple(native.call("hpjax_perceptron_gradient", results, *operands, activation=native.NUMBERS[activation]))


perceptron.defvjp(_forward, _backward)
