"""The block that the transformer and the vision transformer are made of: attention, then a perceptron, both residual."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from hpjax.errors import ConfigError
from hpjax.models.dropout import Dropout, StochasticDepth
from hpjax.models.training import Training
from hpjax.ops import Dense, ResidualNorm, attention, join_heads, perceptron, self_attention, split_heads

SMALL = nn.initializers.normal(0.02)
"""GPT-2's initialiser of everything that is multiplied."""


class KeyValues(NamedTuple):
    """What a place shows to later ones: float [batch, heads, time, dim] each."""

    keys: jax.Array
    values: jax.Array


class SelfAttention(nn.Module):
    """Attention of a sequence to itself: queries, keys and values from one product, heads side by side, then a product.

    Attributes:
      width: features of its input and output; a multiple of `heads`.
      heads: number of heads.
      causal: whether a place sees only itself and those before it.
      out_init: initialiser of the last product.
    """

    width: int
    heads: int
    causal: bool
    out_init: nn.initializers.Initializer = SMALL

    def setup(self) -> None:
        """Makes the two products."""
        self.qkv = Dense(3 * self.width, kernel_init=SMALL)
        self.out = Dense(self.width, kernel_init=self.out_init)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, KeyValues]:
        """Returns float32 [batch, time, width] for the same, and the keys and values."""
        qkv = self.qkv(x)
        _, k, v = split_heads(qkv, self.heads)
        return self.out(self_attention(qkv, self.heads, causal=self.causal)), KeyValues(k, v)

    def decode(self, x: jax.Array, past: KeyValues, position: jax.Array) -> tuple[jax.Array, KeyValues]:
        """Returns what `__call__` gives at one place, from what the places before it left.

        Args:
          x: float32 [batch, 1, width], the place's input.
          past: keys and values with room for it, right at the places before `position`.
          position: int32 scalar, the place.

        Returns:
          float32 [batch, 1, width], and `past` with the place's keys and values.
        """
        q, k, v = split_heads(self.qkv(x), self.heads)
        keys = lax.dynamic_update_slice_in_dim(past.keys, k, position, 2)
        values = lax.dynamic_update_slice_in_dim(past.values, v, position, 2)
        seen = jnp.arange(keys.shape[2])[None] <= position
        return self.out(join_heads(attention(q, keys, values, seen))), KeyValues(keys, values)


class Block(nn.Module):
    """`x + attention(norm(x))`, then `x + perceptron(norm(x))`, each branch with dropout and stochastic depth.

    Attributes:
      width: features.
      heads: attention heads.
      mlp_ratio: hidden units of the perceptron for each feature.
      causal: whether a place sees only itself and those before it.
      activation: the perceptron's.
      index: this block's number, from 0.
      depth: number of blocks.

    Source: Radford et al., Language Models are Unsupervised Multitask Learners (2019), section 2.3: norm first, and the
    last product of each branch starts smaller by 1 / sqrt(branches). Dropout is on the branches, not on the attention.
    """

    width: int
    heads: int
    mlp_ratio: int
    causal: bool
    activation: str
    index: int
    depth: int

    def setup(self) -> None:
        """Makes the layers."""
        last = nn.initializers.normal(0.02 * (2 * self.depth) ** -0.5)
        self.attention_norm = ResidualNorm()
        self.attention = SelfAttention(self.width, self.heads, self.causal, last)
        self.mlp_norm = ResidualNorm()
        self.hidden = Dense(self.mlp_ratio * self.width, self.activation, kernel_init=SMALL)
        self.out = Dense(self.width, kernel_init=last)
        self.attention_dropout, self.mlp_dropout = Dropout(), Dropout()
        share = (self.index + 1) / self.depth
        self.attention_depth, self.mlp_depth = StochasticDepth(share), StochasticDepth(share)

    def __call__(self, x: jax.Array, training: Training | None = None) -> tuple[jax.Array, KeyValues]:
        """Returns float32 [batch, time, width] for the same, and the keys and values of its attention."""
        x, normed = self.attention_norm(x)
        branch, past = self.attention(normed)
        x, normed = self.mlp_norm(x, self.attention_depth(self.attention_dropout(branch, training), training))
        branch = self._perceptron(normed)
        return x + self.mlp_depth(self.mlp_dropout(branch, training), training), past

    def decode(self, x: jax.Array, past: KeyValues, position: jax.Array) -> tuple[jax.Array, KeyValues]:
        """Returns one place's output and the keys and values with its own; see `SelfAttention.decode`."""
        x, normed = self.attention_norm(x)
        branch, past = self.attention.decode(normed, past, position)
        x, normed = self.mlp_norm(x, branch)
        return x + self._perceptron(normed), past

    def _perceptron(self, x: jax.Array) -> jax.Array:
        hidden = self.hidden.parameters(x.shape[-1])
        return perceptron(x, *hidden, *self.out.parameters(hidden[0].shape[1]), self.activation)


def check_heads(width: int, heads: int) -> None:
    """Raises ConfigError where `width` features do not divide into `heads`."""
    if width % heads:
        raise ConfigError(f"heads is {heads}; expected a divisor of width, {width}")
