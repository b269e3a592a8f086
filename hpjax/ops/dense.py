"""The dense operator: product, bias and activation in one."""

import jax
from flax import linen as nn

from hpjax.ops import native, native_dense, precision
from hpjax.ops.activations import activate
from hpjax.ops.product import product


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None, activation: str = "none") -> jax.Array:
    """Returns `activation(x @ kernel + bias)`; in a scope of `precision` with operands of the products rounded to bfloat16.

    Args:
      x: float [..., inputs].
      kernel: float [inputs, outputs].
      bias: float [outputs]; None adds nothing.
      activation: a name in `ACTIVATIONS`.

    Returns:
      float [..., outputs].

    Raises:
      ValueError: the shapes do not fit, or the activation is unknown.
    """
    shape = None if bias is None else bias.shape
    if x.ndim < 1 or kernel.ndim != 2 or x.shape[-1] != kernel.shape[0] or shape not in (None, kernel.shape[1:]):
        raise ValueError(f"dense: x {x.shape}, kernel {kernel.shape} and bias {shape} do not fit")
    if activation in native.NUMBERS and native.used(x, kernel, bias):
        return native_dense.dense(x, kernel, bias, activation, precision.rounded())
    y = product(x, kernel)
    return activate(activation, y if bias is None else y + bias.reshape((1,) * (x.ndim - 1) + bias.shape))


class Dense(nn.Module):
    """A Linen layer of `dense`: features outputs, LeCun-normal kernel, zero bias unless there is none."""

    features: int
    activation: str = "none"
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    use_bias: bool = True

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `dense` of x with this layer's parameters."""
        return dense(x, *self.parameters(x.shape[-1]), self.activation)

    @nn.compact
    def parameters(self, inputs: int) -> tuple[jax.Array, jax.Array | None]:
        """Returns the kernel, float [inputs, features], and the bias, float [features] or None."""
        kernel = self.param("kernel", self.kernel_init, (inputs, self.features))
        return kernel, self.param("bias", nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
