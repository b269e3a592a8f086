"""Logistic regression."""

import jax
from flax import linen as nn

from hpjax.models.registry import MODELS
from hpjax.models.training import Training
from hpjax.ops import Dense


class Logistic(nn.Module):
    """One dense layer of logits on the flattened input.

    It starts from zeros, as is the custom: the loss is convex, so no start is better, and the first outputs are uniform.
    """

    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns float32 [batch, outputs] for float32 [batch, ...]."""
        del training
        return Dense(self.outputs, kernel_init=nn.initializers.zeros_init())(x.reshape(x.shape[0], -1))


@MODELS.register
def logistic(outputs: int) -> nn.Module:
    """Returns logistic regression (linear regression, where the loss is a squared error): one dense layer."""
    return Logistic(outputs)
