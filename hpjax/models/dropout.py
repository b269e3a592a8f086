"""Random numbers that belong to the example, not to its place on a device: dropout and stochastic depth, traced rates."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from hpjax.models.training import Training


def mask(
    key: jax.Array, position: jax.Array, rate: jax.Array | np.float32 | float, x: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """Returns what dropout multiplies x by: 0 with probability `rate`, else 1 / (1 - rate).

    Args:
      key: the layer's key.
      position: uint32 [batch], each example's place in the trial's stream.
      rate: float scalar in [0, 1), traced or not; with 0 no random number is drawn.
      x: float [batch, ...], what is multiplied.
      shape: of one example's mask; it broadcasts to that of one example of x.

    Returns:
      [batch, *shape], in the dtype of x.
    """

    def draw() -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, position)
        # Drawn in float32 whatever x is: the mask does not depend on the dtype either.
        uniform = jax.vmap(lambda k: jax.random.uniform(k, shape, jnp.float32))(keys)
        return jnp.where(uniform >= rate, 1.0 / (1.0 - rate), 0.0).astype(x.dtype)

    return lax.cond(jnp.asarray(rate) > 0, draw, lambda: jnp.ones((x.shape[0], *shape), x.dtype))


def _never(rate: jax.Array | np.float32 | float) -> bool:
    """Returns whether nothing is ever dropped: known only of a plain number."""
    return isinstance(rate, (int, float, np.floating)) and rate == 0


class Dropout(nn.Module):
    """Zeroes activations with probability `training.dropout_rate` and scales the rest by 1 / (1 - rate).

    The mask comes from the trial's key, the layer's path and the example's place in the stream, so it does not depend on
    micro-batch, lane or device. With a traced rate of 0 no random number is drawn; with a plain one nothing is left to do.

    Source: Srivastava et al., Dropout (2014), in the inverted form.
    """

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None) -> jax.Array:
        """Returns float32 [batch, ...], shaped as x; x itself at evaluation."""
        if training is None or _never(training.dropout_rate):
            return x
        return x * mask(self.make_rng("dropout"), training.position, training.dropout_rate, x, x.shape[1:])


class StochasticDepth(nn.Module):
    """Zeroes a residual branch for an example with probability `share * training.stochastic_depth_rate`, scales the others.

    `share` is block / blocks, from 1 / blocks for the first to 1 for the last. The survivors are divided by their
    probability while training, where the paper multiplies at evaluation: the expectation is the same.

    Source: Huang et al., Deep Networks with Stochastic Depth (2016), section 3, linear decay.
    """

    share: float = 1.0

    @staticmethod
    def drops(training: Training | None) -> bool:
        """Returns whether it does anything: not at evaluation, and not with a rate that is known to be 0."""
        return training is not None and not _never(training.stochastic_depth_rate)

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None) -> jax.Array:
        """Returns float32 [batch, ...], shaped as x; x itself at evaluation."""
        if training is None or _never(training.stochastic_depth_rate):
            return x
        rate = self.share * training.stochastic_depth_rate
        return x * mask(self.make_rng("dropout"), training.position, rate, x, (1,) * (x.ndim - 1))
