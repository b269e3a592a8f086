"""The convolution operator in one dimension: `conv` of pictures of one row, so that the same kernels run."""

from typing import Literal

import jax
from flax import linen as nn

from hpjax.ops.conv import conv

Padding = Literal["SAME", "VALID"] | tuple[int, int]


def conv1d(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    dilation: int = 1,
    activation: str = "none",
    form: Literal["auto", "slices", "lax", "native"] = "auto",
) -> jax.Array:
    """Returns `activation(conv(x, kernel) + bias)`.

    Args:
      x: float [batch, length, channels].
      kernel: float [taps, channels, features].
      bias: float [features]; None adds nothing.
      stride: places between two outputs.
      padding: `SAME` (output length is ceil(length / stride)), `VALID` (no padding) or the zeros added (before, after).
      dilation: places between two taps of the kernel.
      activation: a name in `ACTIVATIONS`.
      form: as for `conv`.

    Returns:
      float [batch, out_length, features].

    Raises:
      ValueError: the shapes do not fit, or the activation is unknown.
    """
    shape = None if bias is None else bias.shape
    if x.ndim != 3 or kernel.ndim != 3 or x.shape[2] != kernel.shape[1] or shape not in (None, kernel.shape[2:]):
        raise ValueError(f"conv1d: x {x.shape}, kernel {kernel.shape} and bias {shape} do not fit")
    pads = padding if isinstance(padding, str) else ((0, 0), padding)
    added = 0 if padding == "VALID" else None if padding == "SAME" else sum(padding)
    if added is not None and x.shape[1] + added < (kernel.shape[0] - 1) * dilation + 1:
        reason = f"{padding} padding adds nothing" if padding == "VALID" else f"padding {padding} adds too little"
        raise ValueError(f"conv1d: kernel {kernel.shape} is larger than x {x.shape}, and {reason}")
    how = {"stride": (1, stride), "padding": pads, "dilation": (1, dilation), "activation": activation, "form": form}
    return conv(x[:, None], kernel[None], bias, **how)[:, 0]  # type: ignore[arg-type]


class Conv1d(nn.Module):
    """A Linen layer of `conv1d`: features outputs, LeCun-normal kernel, zero bias unless there is none."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: Padding = "SAME"
    dilation: int = 1
    activation: str = "none"
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `conv1d` of x with this layer's parameters."""
        kernel = self.param("kernel", self.kernel_init, (self.kernel_size, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        how = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return conv1d(x, kernel, bias, **how, activation=self.activation)  # type: ignore[arg-type]
