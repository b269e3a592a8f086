"""Dropout whose rate is traced and whose masks belong to the example, not to its place on a device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class Training(NamedTuple):
    """What a model needs to know while it trains; at evaluation it gets None instead.

    Attributes:
      dropout_rate: float32 scalar in [0, 1).
      position: uint32 [batch], each example's place in the trial's stream.
    """

    dropout_rate: jax.Array
    position: jax.Array


class Dropout(nn.Module):
    """Zeroes activations with probability `training.dropout_rate` and scales the rest by 1 / (1 - rate).

    The mask comes from the trial's key, the layer's path and the example's place in the stream, so it does not depend on
    micro-batch, lane or device. With rate 0 no random number is drawn.

    Source: Srivastava et al., Dropout (2014), in the inverted form.
    """

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None) -> jax.Array:
        """Returns float32 [batch, ...], shaped as x; x itself at evaluation."""
        if training is None:
            return x
        key, rate = self.make_rng("dropout"), training.dropout_rate

        def draw() -> jax.Array:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, training.position)
            # Drawn in float32 whatever x is: the mask does not depend on the dtype either.
            uniform = jax.vmap(lambda k: jax.random.uniform(k, x.shape[1:], jnp.float32))(keys)
            return jnp.where(uniform >= rate, 1.0 / (1.0 - rate), 0.0).astype(x.dtype)

        return x * lax.cond(rate > 0, draw, lambda: jnp.ones(x.shape, x.dtype))
