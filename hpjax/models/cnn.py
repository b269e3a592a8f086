"""A small convolutional network."""

import jax
from flax import linen as nn

from hpjax.errors import ConfigError
from hpjax.models.dropout import Dropout
from hpjax.models.initializers import Initializer, initializer
from hpjax.models.norm import NormSettings
from hpjax.models.registry import MODELS
from hpjax.models.training import Training
from hpjax.ops import Conv, Dense, max_pool
from hpjax.registry import Scalar


class CNN(nn.Module):
    """3x3 convolutions, each followed by 2x2 max pooling, then dense layers with dropout and a dense layer of logits.

    A normalisation layer stands between a convolution and its activation; the convolution then has no bias.
    """

    outputs: int
    channels: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    activation: str
    kernel_init: Initializer
    norm: NormSettings

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns float32 [batch, outputs] for float32 [batch, height, width, channels]; evaluation has no `training`."""
        for channels in self.channels:
            if min(x.shape[1:3]) < 2:
                raise ConfigError(f"channels has {len(self.channels)} sizes; pooling leaves no picture before the last")
            if self.norm.shifts:
                x = Conv(channels, kernel_init=self.kernel_init, use_bias=False)(x)
                x = max_pool(self.norm.layer()(x, training, activation=self.activation))
            else:
                x = Conv(channels, activation=self.activation, kernel_init=self.kernel_init, pool=True)(x)
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = Dropout()(Dense(size, self.activation, self.kernel_init)(x), training)
        return Dense(self.outputs, kernel_init=self.kernel_init)(x)


@MODELS.register
def cnn(
    outputs: int,
    *,
    channels: tuple[int, ...] = (16, 32),
    hidden_sizes: tuple[int, ...] = (64,),
    activation: str = "relu",
    norm: str = "none",
    norm_momentum: float = 0.9,
    norm_epsilon: float = 1e-5,
    norm_groups: int = 32,
    init: str = "lecun_normal",
    dropout_rate: Scalar = 0.0,
) -> nn.Module:
    """Returns a CNN: a 3x3 convolution and 2x2 pooling for each of `channels`, `hidden_sizes` units a dense layer.

    Args:
      outputs: number of logits.
      channels: of each convolution.
      hidden_sizes: units of each dense layer.
      activation: a name in `ACTIVATIONS`.
      norm: after each convolution; see `Norm`, as the other `norm` settings.
      norm_momentum: see `Norm`.
      norm_epsilon: see `Norm`.
      norm_groups: see `Norm`.
      init: a name in `INITIALIZERS`.
      dropout_rate: after each dense layer.
    """
    del dropout_rate
    norms = NormSettings(norm, norm_momentum, norm_epsilon, norm_groups)
    return CNN(outputs, channels, hidden_sizes, activation, initializer(init), norms)
