"""Mixup's pure pieces: which example is mixed into another, and how much of it.

The trial mixes: with weight w of `mixup_lambda` the input is `w * x + (1 - w) * partner_x` and the loss
`w * loss(outputs, y) + (1 - w) * loss(outputs, partner_y)`, which for cross-entropy is the loss of the mixed target. The
partner is the example of the training split at the same position of a second stream, `example_index(position, size,
partner_seed(data_seed))`: drawn from the whole split and not from the micro-batch, so that it does not depend on how the
stream is cut or sharded.
"""

import jax
import jax.numpy as jnp

from hpjax.registry import Scalar

_PARTNER = 0x9E3779B9


def partner_seed(data_seed: Scalar) -> jax.Array:
    """Returns the seed of the partners' stream.

    Args:
      data_seed: uint32 scalar, the seed of the trial's own stream.

    Returns:
      uint32 scalar, never `data_seed` itself.
    """
    return jnp.asarray(data_seed).astype(jnp.uint32) ^ jnp.uint32(_PARTNER)


def mixup_lambda(key: jax.Array, position: jax.Array, mixup_alpha: Scalar) -> jax.Array:
    """Returns the weight of each example itself, drawn from Beta(alpha, alpha).

    Args:
      key: the trial's key for mixup.
      position: uint32 [batch], each example's place in the trial's stream.
      mixup_alpha: >= 0; 0 mixes nothing. May be traced.

    Returns:
      float32 [batch] in [0, 1].

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization (2018).
    """
    alpha = jnp.asarray(mixup_alpha, jnp.float32)
    usable = jnp.where(alpha > 0, alpha, 1.0)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, position)
    drawn = jax.vmap(lambda k: jax.random.beta(k, usable, usable, dtype=jnp.float32))(keys)
    return jnp.where(alpha > 0, drawn, 1.0)
