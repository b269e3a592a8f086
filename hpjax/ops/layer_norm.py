"""The layer normalisation operator."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

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
    # The mean goes first: E[x^2] - E[x]^2 would lose all digits where the mean is large.
    centred = x - x.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    along = (1,) * (x.ndim - 1) + scale.shape
    return centred * lax.rsqrt(variance + epsilon) * scale.reshape(along) + bias.reshape(along)


class LayerNorm(nn.Module):
    """A Linen layer of `layer_norm`: scale one, bias zero at the start."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `layer_norm` of x with this layer's parameters."""
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        return layer_norm(x, scale, bias)
