"""The multi-layer perceptron."""

import jax
from flax import linen as nn

from hpjax.models.dropout import Dropout
from hpjax.models.initializers import Initializer, initializer
from hpjax.models.registry import MODELS
from hpjax.models.training import Training
from hpjax.ops import Dense
from hpjax.registry import Scalar


class MLP(nn.Module):
    """Dense layers with activation and dropout, then a dense layer of logits."""

    outputs: int
    hidden_sizes: tuple[int, ...]
    activation: str
    kernel_init: Initializer = initializer("lecun_normal")

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns float32 [batch, outputs] for float32 [batch, ...]; `training` is None at evaluation."""
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = Dropout()(Dense(size, self.activation, self.kernel_init)(x), training)
        return Dense(self.outputs, kernel_init=self.kernel_init)(x)


@MODELS.register
def mlp(
    outputs: int,
    *,
    hidden_sizes: tuple[int, ...] = (128, 128),
    activation: str = "relu",
    init: str = "lecun_normal",
    dropout_rate: Scalar = 0.0,
) -> nn.Module:
    """Returns a multi-layer perceptron: `hidden_sizes` units a layer, `outputs` logits; dropout after each hidden layer."""
    del dropout_rate
    return MLP(outputs, hidden_sizes, activation, initializer(init))
