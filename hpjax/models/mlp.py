"""The multi-layer perceptron."""

import jax
from flax import linen as nn

from hpjax.models.dropout import Dropout, Training
from hpjax.models.registry import MODELS
from hpjax.ops import Dense


class MLP(nn.Module):
    """Dense layers with activation and dropout, then a dense layer of logits."""

    outputs: int
    hidden_sizes: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns float32 [batch, outputs] for float32 [batch, ...]; `training` is None at evaluation."""
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = Dropout()(Dense(size, self.activation)(x), training)
        return Dense(self.outputs)(x)


@MODELS.register
def mlp(outputs: int, *, hidden_sizes: tuple[int, ...] = (128, 128), activation: str = "relu") -> nn.Module:
    """Returns a multi-layer perceptron: `hidden_sizes` units a layer, `outputs` logits."""
    return MLP(outputs, hidden_sizes, activation)
