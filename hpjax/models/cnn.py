"""A small convolutional network."""

import jax
from flax import linen as nn

from hpjax.errors import ConfigError
from hpjax.models.dropout import Dropout, Training
from hpjax.models.registry import MODELS
from hpjax.ops import Conv, Dense, max_pool


class CNN(nn.Module):
    """3x3 convolutions, each followed by 2x2 max pooling, then dense layers with dropout and a dense layer of logits."""

    outputs: int
    channels: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns float32 [batch, outputs] for float32 [batch, height, width, channels]; evaluation has no `training`."""
        for channels in self.channels:
            if min(x.shape[1:3]) < 2:
                raise ConfigError(f"channels has {len(self.channels)} sizes; pooling leaves no picture before the last")
            x = max_pool(Conv(channels, activation=self.activation)(x))
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = Dropout()(Dense(size, self.activation)(x), training)
        return Dense(self.outputs)(x)


@MODELS.register
def cnn(
    outputs: int,
    *,
    channels: tuple[int, ...] = (16, 32),
    hidden_sizes: tuple[int, ...] = (64,),
    activation: str = "relu",
) -> nn.Module:
    """Returns a CNN: a 3x3 convolution and 2x2 pooling for each of `channels`, `hidden_sizes` units a dense layer."""
    return CNN(outputs, channels, hidden_sizes, activation)
