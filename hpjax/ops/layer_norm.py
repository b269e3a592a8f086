"""The layer normalisation operator."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from hpjax.ops import native, native_norm

EPSILON = 1e-5


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float = EPSILON) -> jax.Array:
    """Returns x with mean 0 and variance 1 over its last axis, times `scale`, plus `bias`.

    Args:
      x: float [..., features].
      scale: float [features].
      bias: float [features].
      epsilon: added to the variance, which is the biased one.

    Returns:
      float [..., features].

    Raises:
      ValueError: the shapes do not fit.

    Source: Ba, Kiros and Hinton, Layer Normalization (2016), equation 4.
    """
    if x.ndim < 1 or scale.shape != x.shape[-1:] or bias.shape != x.shape[-1:]:
        raise ValueError(f"layer_norm: x {x.shape}, scale {scale.shape} and bias {bias.shape} do not fit")
    if native.used(x, scale, bias):
        return native_norm.norm(x.reshape(-1, x.shape[-1]), scale, bias, epsilon).reshape(x.shape)
    # The mean goes first: E[x^2] - E[x]^2 would lose all digits where the mean is large.
    centred = x - x.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    along = (1,) * (x.ndim - 1) + scale.shape
    return centred * lax.rsqrt(variance + epsilon) * scale.reshape(along) + bias.reshape(along)


def residual_norm(
    x: jax.Array, branch: jax.Array | None, scale: jax.Array, bias: jax.Array, epsilon: float = EPSILON
) -> tuple[jax.Array, jax.Array]:
    """Returns `x + branch` and the `layer_norm` of it; x itself where there is no branch.

    Args:
      x: float [..., features].
      branch: float [..., features], or None.
      scale: float [features].
      bias: float [features].
      epsilon: added to the variance.

    Returns:
      Two float [..., features]. The gradient of the first joins that of the second in one pass.

    Raises:
      ValueError: the shapes do not fit.
    """
    if branch is not None and branch.shape != x.shape:
        raise ValueError(f"residual_norm: x {x.shape} and branch {branch.shape} differ")
    if x.ndim > 1 and scale.shape == bias.shape == x.shape[-1:] and native.used(x, branch, scale, bias):
        rows = (-1, x.shape[-1])
        other = np.zeros(0, np.float32) if branch is None else branch.reshape(rows)
        total, y = native_norm.residual_norm(x.reshape(rows), other, scale, bias, epsilon)
        return total.reshape(x.shape), y.reshape(x.shape)
    total = x if branch is None else x + branch
    return total, layer_norm(total, scale, bias, epsilon)


class LayerNorm(nn.Module):
    """A Linen layer of `layer_norm`: scale one, bias zero at the start."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `layer_norm` of x with this layer's parameters."""
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        return layer_norm(x, scale, bias)


class ResidualNorm(nn.Module):
    """A Linen layer of `residual_norm`, with the parameters of `LayerNorm`."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Returns `residual_norm` of x and branch with this layer's parameters."""
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        return residual_norm(x, branch, scale, bias)
