"""The dense operator: product, bias and activation in one."""

import jax
from flax import linen as nn

from hpjax.ops.activations import activate


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array, activation: str = "none") -> jax.Array:
    """Returns `activation(x @ kernel + bias)`.

    Args:
      x: float [..., inputs].
      kernel: float [inputs, outputs].
      bias: float [outputs].
      activation: a name in `ACTIVATIONS`.

    Returns:
      float [..., outputs].

    Raises:
      ValueError: the shapes do not fit, or the activation is unknown.
    """
    if x.ndim < 1 or kernel.ndim != 2 or x.shape[-1] != kernel.shape[0] or bias.shape != kernel.shape[1:]:
        raise ValueError(f"dense: x {x.shape}, kernel {kernel.shape} and bias {bias.shape} do not fit")
    return activate(activation, x @ kernel + bias.reshape((1,) * (x.ndim - 1) + bias.shape))


class Dense(nn.Module):
    """A Linen layer of `dense`: features outputs, LeCun-normal kernel, zero bias."""

    features: int
    activation: str = "none"
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `dense` of x with this layer's parameters."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return dense(x, kernel, bias, self.activation)
