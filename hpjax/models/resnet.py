"""Residual networks: ResNet in its CIFAR and ImageNet forms, and the wide, pre-activated one."""

import jax
from flax import linen as nn

from hpjax.errors import ConfigError
from hpjax.models.dropout import Dropout, StochasticDepth
from hpjax.models.initializers import Initializer, initializer
from hpjax.models.norm import NormSettings
from hpjax.models.registry import MODELS
from hpjax.models.training import Training
from hpjax.ops import Conv, Dense, max_pool
from hpjax.ops.activations import activate
from hpjax.registry import Scalar

IMAGENET_DEPTHS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""The blocks of each stage, by depth. Any other depth is the CIFAR form: three stages of basic blocks."""


class Parts(nn.Module):
    """What every block and network here is made of.

    Attributes:
      norm: the normalisation layers.
      activation: a name in `ACTIVATIONS`.
      kernel_init: the kernels' initialiser.
      zero_init_last: whether the last layer with weights of each residual branch starts at zero.
    """

    norm: NormSettings
    activation: str
    kernel_init: Initializer
    zero_init_last: bool

    def conv(self, features: int, size: int = 3, stride: int = 1, *, bias: bool = False, zero: bool = False) -> Conv:
        """Returns a convolution that pads like torch's `padding=size // 2`."""
        edge = (size // 2, size // 2)
        kernel_init = nn.initializers.zeros_init() if zero else self.kernel_init
        return Conv(features, (size, size), (stride, stride), (edge, edge), kernel_init=kernel_init, use_bias=bias)

    def activate(self, x: jax.Array) -> jax.Array:
        """Returns the activation of x."""
        return activate(self.activation, x)


class Block(Parts):
    """Convolutions with norm, added to the input; a 1x1 convolution with norm where the shape changes.

    Attributes:
      channels: of the 3x3 convolutions.
      stride: of the first 3x3 convolution.
      bottleneck: a 1x1, a 3x3 and a 1x1 convolution with four times the channels, instead of two 3x3.
      share: of the stochastic depth rate.
      last: whether it is the network's last, whose result is used once.

    Source: He et al., Deep Residual Learning (2015); the stride in the 3x3 convolution: Goyal et al. (2017).
    """

    channels: int
    stride: int
    bottleneck: bool
    share: float
    last: bool

    @nn.compact
    def __call__(self, pair: tuple[jax.Array, jax.Array], training: Training | None) -> tuple[jax.Array, jax.Array]:
        """Returns float32 [batch, height / stride, width / stride, features] as a pair, and takes x as one.

        The first of a pair is for the branch, the second for what the branch is added to: their cotangents reach the norm
        that made x apart from each other, and are added where it reads them.
        """
        x, skip = pair
        features = 4 * self.channels if self.bottleneck else self.channels
        first, *rest = ((1, 1), (3, self.stride), (1, 1)) if self.bottleneck else ((3, self.stride), (3, 1))
        bias = not self.norm.shifts
        y = self.norm.layer()(self.conv(self.channels, *first, bias=bias)(x), training, activation=self.activation)
        for size, stride in rest[:-1]:
            y = self.norm.layer()(self.conv(self.channels, size, stride, bias=bias)(y), training, activation=self.activation)
        zero = self.zero_init_last
        # Without norm there is no scale that could be zero: the last kernel is.
        y = self.conv(features, *rest[-1], bias=bias, zero=zero and not self.norm.shifts)(y)
        norm, drop = self.norm.layer(zero=zero), StochasticDepth(self.share)
        if x.shape != y.shape:
            skip = self.norm.layer()(self.conv(features, 1, self.stride, bias=bias)(skip), training)
        if drop.drops(training):
            y = self.activate(drop(norm(y, training), training) + skip)
        else:
            y = norm(y, training, skip, self.activation, twice=not self.last)
        return y if isinstance(y, tuple) else (y, y)


class WideBlock(Parts):
    """Norm, activation and 3x3 convolution twice, dropout between, added to the input; 1x1 where the shape changes.

    The branch ends with a convolution, so that its kernel, not a scale, starts at zero: behind a zero scale relu would pass
    no gradient.

    Source: Zagoruyko and Komodakis, Wide Residual Networks (2016).
    """

    channels: int
    stride: int
    share: float

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None) -> jax.Array:
        """Returns float32 [batch, height / stride, width / stride, channels]."""
        bias = not self.norm.shifts
        y = self.norm.layer()(x, training, activation=self.activation)
        if x.shape[-1] != self.channels or self.stride != 1:
            x = self.conv(self.channels, 1, self.stride)(y)
        y = self.conv(self.channels, 3, self.stride, bias=bias)(y)
        y = Dropout()(self.norm.layer()(y, training, activation=self.activation), training)
        y = self.conv(self.channels, bias=bias, zero=self.zero_init_last)(y)
        return x + StochasticDepth(self.share)(y, training)


class ResNet(Parts):
    """A stem, stages of blocks, the mean over the picture and a dense layer of logits.

    Attributes:
      outputs: number of logits.
      stages: blocks of each stage; the first of each but the first halves the picture.
      channels: of each stage.
      kind: `basic`, `bottleneck` or `wide`.
      imagenet_stem: a 7x7 convolution and a 3x3 max pooling, of stride 2 each, instead of one 3x3 convolution.
      stem_channels: of the stem.
    """

    outputs: int
    stages: tuple[int, ...]
    channels: tuple[int, ...]
    kind: str
    imagenet_stem: bool
    stem_channels: int

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns float32 [batch, outputs] for float32 [batch, height, width, channels]; evaluation has no `training`."""
        if x.ndim != 4:
            raise ConfigError(f"a residual network needs pictures [batch, height, width, channels]; the data is {x.shape}")
        parts = (self.norm, self.activation, self.kernel_init, self.zero_init_last)
        wide, bias = self.kind == "wide", not self.norm.shifts
        x = self.conv(self.stem_channels, *((7, 2) if self.imagenet_stem else (3, 1)), bias=bias)(x)
        if not wide:
            x = self.norm.layer()(x, training, activation=self.activation, twice=not self.imagenet_stem)
        if self.imagenet_stem:
            x = max_pool(x, 3, 2, 1)
        pair = x if isinstance(x, tuple) else (x, x)
        number, blocks = 0, sum(self.stages)
        for stage, (depth, channels) in enumerate(zip(self.stages, self.channels, strict=True)):
            for block in range(depth):
                number += 1
                stride = 2 if block == 0 and stage > 0 else 1
                share = number / blocks
                if wide:
                    x = WideBlock(*parts, channels, stride, share)(x, training)
                else:
                    block_kind = (stride, self.kind == "bottleneck", share, number == blocks)
                    pair = Block(*parts, channels, *block_kind)(pair, training)
        x = self.norm.layer()(x, training, activation=self.activation) if wide else pair[0]
        return Dense(self.outputs, kernel_init=self.kernel_init)(x.mean(axis=(1, 2)))


def _stages(model: str, depth: int, extra: int, example: str) -> tuple[int, ...]:
    blocks, rest = divmod(depth - extra, 6)
    if rest or blocks < 1:
        raise ConfigError(f"depth is {depth}; {model} has {example}")
    return (blocks,) * 3


def _widths(channels: tuple[int, ...], default: tuple[int, ...], depth: int) -> tuple[int, ...]:
    channels = channels or default
    if len(channels) != len(default):
        raise ConfigError(f"channels has {len(channels)} sizes; depth {depth} has {len(default)} stages")
    return channels


@MODELS.register
def resnet(
    outputs: int,
    *,
    depth: int = 20,
    channels: tuple[int, ...] = (),
    stem: str = "auto",
    activation: str = "relu",
    norm: str = "batch",
    norm_momentum: float = 0.9,
    norm_epsilon: float = 1e-5,
    norm_groups: int = 32,
    zero_init_last: bool = True,
    init: str = "he_normal",
    stochastic_depth_rate: Scalar = 0.0,
) -> nn.Module:
    """Returns a ResNet; its form goes by the depth.

    Args:
      outputs: number of logits.
      depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks) is the ImageNet form of four stages; 6n + 2 (8, 14, 20, 32,
        44, 56, 110) the CIFAR form, three stages of n basic blocks.
      channels: of each stage's 3x3 convolutions; none is 64,128,256,512 or 16,32,64, as in the paper.
      stem: `cifar` is a 3x3 convolution, `imagenet` a 7x7 convolution and a 3x3 max pooling, both of stride 2; `auto` is the
        form's own.
      activation: a name in `ACTIVATIONS`.
      norm: see `Norm`, as the other `norm` settings.
      norm_momentum: see `Norm`.
      norm_epsilon: see `Norm`.
      norm_groups: see `Norm`.
      zero_init_last: whether each block's last scale (without norm: kernel) starts at zero.
      init: a name in `INITIALIZERS`.
      stochastic_depth_rate: see `StochasticDepth`.

    Raises:
      ConfigError: no such depth, or `channels` has another number of stages.

    Source: He et al., Deep Residual Learning (2015), with projections (option B) where the shape changes.
    """
    del stochastic_depth_rate
    known = "18, 34, 50, 101, 152 or 6n + 2 layers: 8, 14, 20, 32, 44, 56, 110"
    imagenet = depth in IMAGENET_DEPTHS
    kind, stages = IMAGENET_DEPTHS[depth] if imagenet else ("basic", _stages("resnet", depth, 2, known))
    widths = _widths(channels, (64, 128, 256, 512) if imagenet else (16, 32, 64), depth)
    imagenet_stem = imagenet if stem == "auto" else stem == "imagenet"
    norms = NormSettings(norm, norm_momentum, norm_epsilon, norm_groups)
    parts = (norms, activation, initializer(init), zero_init_last)
    return ResNet(*parts, outputs, stages, widths, kind, imagenet_stem, widths[0])


@MODELS.register
def wide_resnet(
    outputs: int,
    *,
    depth: int = 16,
    widen_factor: int = 4,
    channels: tuple[int, ...] = (16, 32, 64),
    activation: str = "relu",
    norm: str = "batch",
    norm_momentum: float = 0.9,
    norm_epsilon: float = 1e-5,
    norm_groups: int = 32,
    zero_init_last: bool = True,
    init: str = "he_normal",
    dropout_rate: Scalar = 0.0,
    stochastic_depth_rate: Scalar = 0.0,
) -> nn.Module:
    """Returns a wide residual network: WRN-16-4 by default, WRN-28-10 with depth 28 and factor 10.

    Args:
      outputs: number of logits.
      depth: 6n + 4 layers (10, 16, 22, 28, 40): three stages of n blocks.
      widen_factor: times the channels of the blocks; the stem keeps the first of `channels`.
      channels: of each stage, before they are widened.
      activation: a name in `ACTIVATIONS`.
      norm: see `Norm`, as the other `norm` settings.
      norm_momentum: see `Norm`.
      norm_epsilon: see `Norm`.
      norm_groups: see `Norm`.
      zero_init_last: whether each block's last kernel starts at zero.
      init: a name in `INITIALIZERS`.
      dropout_rate: between a block's two convolutions.
      stochastic_depth_rate: see `StochasticDepth`.

    Raises:
      ConfigError: no such depth, or `channels` has another number of stages.

    Source: Zagoruyko and Komodakis, Wide Residual Networks (2016).
    """
    del dropout_rate, stochastic_depth_rate
    stages = _stages("wide_resnet", depth, 4, "6n + 4 layers: 10, 16, 22, 28, 40")
    base = _widths(channels, (16, 32, 64), depth)
    norms = NormSettings(norm, norm_momentum, norm_epsilon, norm_groups)
    parts = (norms, activation, initializer(init), zero_init_last)
    return ResNet(*parts, outputs, stages, tuple(widen_factor * c for c in base), "wide", False, base[0])
