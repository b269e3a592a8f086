"""The convolution operator: 2-D convolution, bias and activation in one.

On a CPU the patches are cut out by slices and multiplied as one matrix product, because `lax.conv` inside a loop is
slow there (BUILD_NOTES.md has the figure); elsewhere it is `lax.conv_general_dilated`. Where the patches of the whole batch
would not stay in the processor's cache, a few examples are done at a time, and no patches are kept for the gradient.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from hpjax.ops import native_conv, precision, rounded
from hpjax.ops.activations import activate
from hpjax.ops.pool import max_pool

Pads = tuple[tuple[int, int], tuple[int, int]]
Padding = Literal["SAME", "VALID"] | Pads

PATCH_BYTES = 2_500_000
"""Most bytes of patches at a time: what was fastest, with a cache of 2 MB a core and more than that shared."""


def conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    dilation: tuple[int, int] = (1, 1),
    activation: str = "none",
    pool: bool = False,
    form: Literal["auto", "slices", "lax", "native"] = "auto",
) -> jax.Array:
    """Returns `activation(conv(x, kernel) + bias)`, or its 2 x 2 maxima.

    Args:
      x: float [batch, height, width, channels].
      kernel: float [kernel_height, kernel_width, channels, features].
      bias: float [features]; None adds nothing.
      stride: pixels between two outputs, down and across.
      padding: `SAME` (output size is ceil(size / stride)), `VALID` (no padding) or the zeros added, in pixels:
        ((above, below), (left, right)).
      dilation: pixels between two taps of the kernel, down and across.
      activation: a name in `ACTIVATIONS`.
      pool: whether the largest value of each 2 x 2 square is returned, as `max_pool` does.
      form: `native`, `slices` or `lax`; `auto` takes the native kernels where the program uses them, else slices on a CPU.

    Returns:
      float [batch, out_height, out_width, features], height and width halved where pooled.

    Raises:
      ValueError: the shapes do not fit, or the activation is unknown.
    """
    shape = None if bias is None else bias.shape
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2] or shape not in (None, kernel.shape[3:]):
        raise ValueError(f"conv: x {x.shape}, kernel {kernel.shape} and bias {shape} do not fit")
    reach = [(size - 1) * apart + 1 for size, apart in zip(kernel.shape[:2], dilation, strict=True)]
    pads = _pads(x.shape, reach, stride, padding)
    padded = tuple(size + sum(pad) for size, pad in zip(x.shape[1:3], pads, strict=True))
    if padded[0] < reach[0] or padded[1] < reach[1]:
        added = f"{padding} padding adds nothing" if padding == "VALID" else f"padding {padding} adds too little"
        raise ValueError(f"conv: kernel {kernel.shape} is larger than x {x.shape}, and {added}")
    if form == "auto" and native_conv.takes(x, kernel, bias, stride, pads):
        form = "native"
    elif form == "auto":
        form = "slices" if jax.default_backend() == "cpu" else "lax"
    if form == "native":
        inside = activation in native_conv.ACTIVATIONS
        done = (activation, pool) if inside else ("none", False)
        y = native_conv.conv(x, kernel, bias, stride, pads, dilation, *done, precision.rounded())
        return y if inside else _finished(activation, pool, y)
    slices = form == "slices" and tuple(dilation) == (1, 1)
    y = _slices(x, kernel, stride, pads) if slices else _lax(x, kernel, stride, pads, dilation)
    return _finished(activation, pool, y if bias is None else y + bias.reshape(1, 1, 1, -1))


def _finished(activation: str, pool: bool, y: jax.Array) -> jax.Array:
    y = activate(activation, y)
    return max_pool(y) if pool else y


def _pads(x: Sequence[int], reach: Sequence[int], stride: Sequence[int], padding: Padding) -> Pads:
    if not isinstance(padding, str):
        return padding
    (above, below), (left, right) = lax.padtype_to_pads(x[1:3], reach, stride, padding)
    return (above, below), (left, right)


def _lax(x: jax.Array, kernel: jax.Array, stride: Sequence[int], pads: Pads, dilation: Sequence[int] = (1, 1)) -> jax.Array:
    if precision.rounded():
        return rounded.convolution(x, kernel, tuple(stride), pads, tuple(dilation))
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, stride, pads, rhs_dilation=dilation, dimension_numbers=numbers)


def _slices(x: jax.Array, kernel: jax.Array, stride: tuple[int, int], pads: Pads) -> jax.Array:
    out = jax.eval_shape(partial(_product, stride=stride, pads=pads), x, kernel)
    height, width, channels, _ = kernel.shape
    patches = x.dtype.itemsize * out.shape[1] * out.shape[2] * height * width * channels
    most = max(PATCH_BYTES // patches, 1)
    # Of a batch of none: 0.
    size = max((part for part in range(1, x.shape[0] + 1) if x.shape[0] % part == 0 and part <= most), default=0)
    # The one patch of a 1x1 kernel is the input itself.
    if size == x.shape[0] or height == width == 1:
        return _product(x, kernel, stride, pads)
    return _in_parts(x, kernel, stride, pads, size)


def _patches(x: jax.Array, size: Sequence[int], stride: Sequence[int], pads: Pads) -> jax.Array:
    """Returns what the kernel sees at each place: float [batch, rows, columns, height * width * channels]."""
    batch, channels = x.shape[0], x.shape[3]
    height, width = size
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (x.shape[1] - height) // stride[0] + 1, (x.shape[2] - width) // stride[1] + 1

    def patch(i: int, j: int) -> jax.Array:
        end = (batch, i + (rows - 1) * stride[0] + 1, j + (columns - 1) * stride[1] + 1, channels)
        return lax.slice(x, (0, i, j, 0), end, (1, *stride, 1))

    return jnp.concatenate([patch(i, j) for i in range(height) for j in range(width)], axis=3)


def _product(x: jax.Array, kernel: jax.Array, stride: Sequence[int], pads: Pads) -> jax.Array:
    """Returns the convolution as one matrix product of all patches."""
    patches = _patches(x, kernel.shape[:2], stride, pads)
    flat = patches.reshape(-1, patches.shape[3])
    return _multiplied(flat, kernel.reshape(flat.shape[1], kernel.shape[3])).reshape(*patches.shape[:3], kernel.shape[3])


def _multiplied(a: jax.Array, b: jax.Array) -> jax.Array:
    return rounded.product(a, b) if precision.rounded() else a @ b


def _gradients(
    x: jax.Array, kernel: jax.Array, stride: Sequence[int], pads: Pads, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of `_product`'s x and kernel.

    At stride 1 both are products with the cotangent's patches, unless those are far larger than those of x: that of x
    is the convolution with the kernel turned round.
    """
    height, width, channels, features = kernel.shape
    (above, below), (left, right) = pads
    back = (height - 1 - above, height - 1 - below), (width - 1 - left, width - 1 - right)
    if tuple(stride) != (1, 1) or features > 2 * channels or min(map(min, back)) < 0:
        _, pullback = jax.vjp(lambda x, kernel: _product(x, kernel, stride, pads), x, kernel)
        return pullback(cotangent)  # type: ignore[no-any-return]
    patches = _patches(cotangent, (height, width), stride, back).reshape(-1, height * width * features)
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2).reshape(-1, channels)
    to_kernel = _multiplied(x.reshape(-1, channels).T, patches).reshape(channels, height, width, features)
    return _multiplied(patches, turned).reshape(x.shape), to_kernel.transpose(1, 2, 0, 3)[::-1, ::-1]


def _parts(x: jax.Array, size: int) -> jax.Array:
    return x.reshape(x.shape[0] // size, size, *x.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _in_parts(x: jax.Array, kernel: jax.Array, stride: tuple[int, int], pads: Pads, size: int) -> jax.Array:
    """Returns `_product`, `size` examples at a time."""
    return _each_part(x, kernel, stride, pads, size)


def _each_part(x: jax.Array, kernel: jax.Array, stride: tuple[int, int], pads: Pads, size: int) -> jax.Array:
    y = lax.map(lambda part: _product(part, kernel, stride, pads), _parts(x, size))
    return y.reshape(x.shape[0], *y.shape[2:])


def _in_parts_forward(
    x: jax.Array, kernel: jax.Array, stride: tuple[int, int], pads: Pads, size: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Not `_in_parts`, which has no forward derivative: a Hessian-vector product takes this one's.
    return _each_part(x, kernel, stride, pads, size), (x, kernel)


def _in_parts_backward(
    stride: tuple[int, int], pads: Pads, size: int, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved

    def part(total: jax.Array, given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, cotangent = given
        to_x, to_kernel = _gradients(x, kernel, stride, pads, cotangent)
        return total + to_kernel, to_x

    to_kernel, to_x = lax.scan(part, jnp.zeros_like(kernel), (_parts(x, size), _parts(cotangent, size)))
    return to_x.reshape(x.shape), to_kernel


_in_parts.defvjp(_in_parts_forward, _in_parts_backward)


class Conv(nn.Module):
    """A Linen layer of `conv`: features outputs, LeCun-normal kernel, zero bias unless there is none."""

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    activation: str = "none"
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    use_bias: bool = True
    pool: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `conv` of x with this layer's parameters."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        return conv(x, kernel, bias, stride=self.stride, padding=self.padding, activation=self.activation, pool=self.pool)
