"""The convolution operator: 2-D convolution, bias and activation in one.

On a CPU the patches are cut out by slices and multiplied as one matrix product, because `lax.conv` inside a loop is
slow there (BUILD_NOTES.md has the figure); elsewhere it is `lax.conv_general_dilated`.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from hpjax.ops.activations import activate

Padding = Literal["SAME", "VALID"]


def conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    activation: str = "none",
    form: Literal["auto", "slices", "lax"] = "auto",
) -> jax.Array:
    """Returns `activation(conv(x, kernel) + bias)`.

    Args:
      x: float [batch, height, width, channels].
      kernel: float [kernel_height, kernel_width, channels, features].
      bias: float [features].
      stride: pixels between two outputs, down and across.
      padding: `SAME` (output size is ceil(size / stride)) or `VALID` (no padding).
      activation: a name in `ACTIVATIONS`.
      form: `slices` or `lax`; `auto` takes slices on a CPU.

    Returns:
      float [batch, out_height, out_width, features].

    Raises:
      ValueError: the shapes do not fit, or the activation is unknown.
    """
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2] or bias.shape != kernel.shape[3:]:
        raise ValueError(f"conv: x {x.shape}, kernel {kernel.shape} and bias {bias.shape} do not fit")
    if padding == "VALID" and (x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]):
        raise ValueError(f"conv: kernel {kernel.shape} is larger than x {x.shape}, and VALID padding adds nothing")
    if form == "auto":
        form = "slices" if jax.default_backend() == "cpu" else "lax"
    product = _slices if form == "slices" else _lax
    return activate(activation, product(x, kernel, stride, padding) + bias.reshape(1, 1, 1, -1))


def _lax(x: jax.Array, kernel: jax.Array, stride: Sequence[int], padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, stride, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _slices(x: jax.Array, kernel: jax.Array, stride: Sequence[int], padding: Padding) -> jax.Array:
    batch, channels = x.shape[0], x.shape[3]
    height, width, _, features = kernel.shape
    pads = lax.padtype_to_pads(x.shape[1:3], (height, width), stride, padding)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (x.shape[1] - height) // stride[0] + 1, (x.shape[2] - width) // stride[1] + 1

    def patch(i: int, j: int) -> jax.Array:
        end = (batch, i + (rows - 1) * stride[0] + 1, j + (columns - 1) * stride[1] + 1, channels)
        return lax.slice(x, (0, i, j, 0), end, (1, *stride, 1))

    patches = jnp.concatenate([patch(i, j) for i in range(height) for j in range(width)], axis=3)
    flat = patches.reshape(batch * rows * columns, height * width * channels)
    return (flat @ kernel.reshape(-1, features)).reshape(batch, rows, columns, features)


class Conv(nn.Module):
    """A Linen layer of `conv`: features outputs, LeCun-normal kernel, zero bias."""

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    activation: str = "none"
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `conv` of x with this layer's parameters."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return conv(x, kernel, bias, stride=self.stride, padding=self.padding, activation=self.activation)
