"""The perceptron operator: two dense layers with an activation between them."""

import jax

from hpjax.ops import native, native_perceptron, precision
from hpjax.ops.dense import dense


def perceptron(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    out_kernel: jax.Array,
    out_bias: jax.Array | None,
    activation: str,
) -> jax.Array:
    """Returns `dense(dense(x, kernel, bias, activation), out_kernel, out_bias)`.

    The native kernel does a few rows at a time, so that what lies between the layers is not written to memory.

    Args:
      x: float [..., inputs].
      kernel: float [inputs, hidden].
      bias: float [hidden]; None adds nothing.
      out_kernel: float [hidden, outputs].
      out_bias: float [outputs]; None adds nothing.
      activation: a name in `ACTIVATIONS`.

    Returns:
      float [..., outputs].

    Raises:
      ValueError: the shapes do not fit, or the activation is unknown.
    """
    arrays = (x, kernel, bias, out_kernel, out_bias)
    fused = native.used(*arrays) and not precision.rounded()
    if bias is None or out_bias is None or activation not in native.NUMBERS or not fused:
        return dense(dense(x, kernel, bias, activation), out_kernel, out_bias)
    shapes = (kernel.shape[1:], out_kernel.shape[1:], (*kernel.shape[1:], *out_kernel.shape[1:]))
    if kernel.ndim != 2 or x.shape[-1:] != kernel.shape[:1] or (bias.shape, out_bias.shape, out_kernel.shape) != shapes:
        raise ValueError(f"perceptron: x {x.shape}, kernels {kernel.shape} and {out_kernel.shape} do not fit")
    y = native_perceptron.perceptron(x.reshape(-1, x.shape[-1]), kernel, bias, out_kernel, out_bias, activation)
    return y.reshape(*x.shape[:-1], out_kernel.shape[1])
