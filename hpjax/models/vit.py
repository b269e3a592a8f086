"""The vision transformer, in a small size."""

import jax
from flax import linen as nn

from hpjax.errors import ConfigError
from hpjax.models.attention import SMALL, Block, check_heads
from hpjax.models.dropout import Dropout
from hpjax.models.registry import MODELS
from hpjax.models.training import Training
from hpjax.ops import Dense, LayerNorm
from hpjax.registry import Scalar


class ViT(nn.Module):
    """Patches through one dense layer plus learned positions, `depth` blocks, a norm, the mean over patches, logits.

    The mean over patches stands in the place of a class token: no worse on small data, and one token less.

    Attributes:
      outputs: number of outputs.
      patch_size: edge of a patch, in pixels; divides the picture's.
      depth: number of blocks.
      width: features.
      heads: attention heads.
      mlp_ratio: hidden units of a block's perceptron for each feature.
      activation: the perceptrons'.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words (2021); the mean as in Beyer, Zhai and Kolesnikov, Better
    plain ViT baselines for ImageNet-1k (2022).
    """

    outputs: int
    patch_size: int
    depth: int
    width: int
    heads: int
    mlp_ratio: int
    activation: str

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns float32 [batch, outputs] for float32 [batch, height, width, channels].

        Raises:
          ConfigError: x is no batch of pictures, or they do not divide into patches.
        """
        x = Dense(self.width, kernel_init=nn.initializers.lecun_normal(), name="patches")(patches(x, self.patch_size))
        x = x + self.param("positions", SMALL, x.shape[1:])[None]
        x = Dropout()(x, training)
        sizes = (self.width, self.heads, self.mlp_ratio, False, self.activation)
        for index in range(self.depth):
            x, _ = Block(*sizes, index, self.depth, name=f"blocks_{index}")(x, training)
        return Dense(self.outputs, kernel_init=SMALL, name="head")(LayerNorm(name="norm")(x).mean(1))


def patches(x: jax.Array, size: int) -> jax.Array:
    """Returns float [batch, patches, size * size * channels], row by row, for float [batch, height, width, channels].

    Raises:
      ConfigError: x is no batch of pictures, or they do not divide into squares of `size` pixels.
    """
    if x.ndim != 4:
        raise ConfigError(f"model 'vit' got {list(x.shape)}; expected pictures, [batch, height, width, channels]")
    batch, height, width, channels = x.shape
    if height % size or width % size:
        raise ConfigError(f"patch_size is {size}; expected a divisor of the picture's {height} x {width} pixels")
    x = x.reshape(batch, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, size * size * channels)


@MODELS.register
def vit(
    outputs: int,
    *,
    patch_size: int = 4,
    depth: int = 4,
    width: int = 128,
    heads: int = 4,
    mlp_ratio: int = 4,
    activation: str = "gelu",
    dropout_rate: Scalar = 0.0,
    stochastic_depth_rate: Scalar = 0.0,
) -> nn.Module:
    """Returns a vision transformer of `depth` blocks of `width` features on patches of `patch_size` pixels.

    Raises:
      ConfigError: `heads` does not divide `width`.
    """
    del dropout_rate, stochastic_depth_rate
    check_heads(width, heads)
    return ViT(outputs, patch_size, depth, width, heads, mlp_ratio, activation)
