"""The convolution operator by the native kernels: with bias, activation and 2 x 2 pooling, and both gradients."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hpjax.ops import native

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
ACTIVATIONS = ("none", "relu")
"""What the convolution applies itself, so that its result alone is kept for the gradient."""
MOST_TAPS, MOST_PHASES, MOST_FLOATS = 32, 64, 4e8
"""What the kernels take: taps in one direction, stride down times across, floats of a picture."""


def takes(x: jax.Array, kernel: jax.Array, bias: jax.Array | None, stride: Pair, pads: Pads) -> bool:
    """Returns whether the native convolution runs, and for such sizes."""
    sizes = [size + sum(pad) for size, pad in zip(x.shape[1:3], pads, strict=True)]
    picture = sizes[0] * sizes[1] * max(kernel.shape[2:])
    small = max(kernel.shape[:2]) <= MOST_TAPS and stride[0] * stride[1] <= MOST_PHASES and picture <= MOST_FLOATS
    return small and min(min(pad) for pad in pads) >= 0 and native.used(x, kernel, bias)


def conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    stride: Pair,
    pads: Pads,
    dilation: Pair,
    activation: str,
    pool: bool,
    bf16: bool,
) -> jax.Array:
    """Returns the convolution of arrays that `takes` accepts.

    Args:
      x: float32 [batch, height, width, channels].
      kernel: float32 [down, across, channels, features].
      bias: float32 [features] or None.
      stride: pixels between two outputs.
      pads: zeros added above and below, left and right.
      dilation: pixels between two taps.
      activation: one of `ACTIVATIONS`.
      pool: whether the maxima of 2 x 2 squares are returned.
      bf16: whether operands of the products are rounded to bfloat16.
    """
    none = np.zeros(0, np.float32)
    return _conv(x, kernel, none if bias is None else bias, stride, pads, dilation, activation, pool, bf16)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6, 7, 8))
def _conv(x: jax.Array, kernel: jax.Array, bias: Any, *static: Any) -> jax.Array:
    return _run(x, kernel, bias, *static, ties=False)[0]


def _run(x: jax.Array, kernel: jax.Array, bias: Any, *static: Any, ties: bool) -> tuple[jax.Array, jax.Array]:
    attributes = _attributes(x, kernel, *static)
    share = 2 if attributes["pool"] else 1
    shape = (x.shape[0], *(size // share for size in attributes["size"]), kernel.shape[3])
    results = native.floats(*shape), jax.ShapeDtypeStruct(shape if ties else (0,), jnp.uint8)
    return native.call("hpjax_conv", results, x, kernel, bias, **attributes)  # type: ignore[no-any-return]


def _attributes(
    x: jax.Array, kernel: jax.Array, stride: Pair, pads: Pads, dilation: Pair, activation: str, pool: bool, bf16: bool
) -> dict[str, Any]:
    size = [(x.shape[1 + d] + sum(pads[d]) - (kernel.shape[d] - 1) * dilation[d] - 1) // stride[d] + 1 for d in range(2)]
    return {
        "size": size,
        "stride": stride,
        "dilation": dilation,
        "before": (pads[0][0], pads[1][0]),
        "activation": native.NUMBERS[activation],
        "pool": pool,
        "bf16": bf16,
    }


def _forward(x: jax.Array, kernel: jax.Array, bias: Any, *static: Any) -> tuple[jax.Array, Any]:
    activation, pool, _ = static[-3:]
    y, ties = _run(x, kernel, bias, *static, ties=pool)
    return y, (x, kernel, bias, y if activation == "relu" else np.zeros(0, np.float32), ties)


def _backward(*arguments: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    *static, (x, kernel, bias, y, ties), cotangent = arguments
    attributes = _attributes(x, kernel, *static)
    operands = (x, kernel, y, ties, cotangent)
    none = native.floats(0)
    # Two calls: the gradient of a first layer's input is asked for by no one, and is left out.
    (to_x, _, _) = native.call("hpjax_conv_gradient", (native.floats(*x.shape), none, none), *operands, **attributes)
    results = none, native.floats(*kernel.shape), native.floats(*bias.shape)
    (_, to_kernel, to_bias) = native.call("hpjax_conv_gradient", results, *operands, **attributes)
    return to_x, to_kernel, to_bias


_conv.defvjp(_forward, _backward)
