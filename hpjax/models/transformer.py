"""The transformer: a causal language model."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from hpjax.errors import ConfigError
from hpjax.models.attention import SMALL, Block, KeyValues, check_heads
from hpjax.models.dropout import Dropout
from hpjax.models.registry import MODELS
from hpjax.models.training import Training
from hpjax.ops import Embedding, LayerNorm
from hpjax.registry import Scalar


class Cache(NamedTuple):
    """What the places read so far left for the next one.

    Attributes:
      blocks: each block's keys and values, float32 [batch, heads, context_length, dim].
      length: int32 scalar, the number of places read.
    """

    blocks: tuple[KeyValues, ...]
    length: jax.Array


class Transformer(nn.Module):
    """Embedded tokens plus learned positions, `depth` causal blocks, a norm and a product with the vocabulary.

    Attributes:
      outputs: tokens in the vocabulary.
      depth: number of blocks.
      width: features.
      heads: attention heads.
      mlp_ratio: hidden units of a block's perceptron for each feature.
      context_length: the most places it can read.
      tie_embeddings: whether the last product uses the table of the embedding.
      activation: the perceptrons'.

    Source: Radford et al. (2019), GPT-2; the last product has no bias.
    """

    outputs: int
    depth: int
    width: int
    heads: int
    mlp_ratio: int
    context_length: int
    tie_embeddings: bool
    activation: str

    def setup(self) -> None:
        """Makes the layers."""
        self.embedding = Embedding(self.outputs, self.width, SMALL)
        self.positions = self.param("positions", SMALL, (self.context_length, self.width))
        self.dropout = Dropout()
        sizes = (self.width, self.heads, self.mlp_ratio, True, self.activation)
        self.blocks = [Block(*sizes, index, self.depth) for index in range(self.depth)]
        self.norm = LayerNorm()
        # A table as the embedding's: one row a token.
        self.head = self.embedding if self.tie_embeddings else Embedding(self.outputs, self.width, SMALL)

    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns the logits of each next token: float32 [batch, time, outputs] for int32 [batch, time].

        Raises:
          ConfigError: x is no batch of tokens, or longer than `context_length`.
        """
        return self._read(x, training)[0]

    def prefill(self, tokens: jax.Array) -> tuple[jax.Array, Cache]:
        """Returns `self(tokens)`, and what `decode` needs to go on behind them."""
        logits, past = self._read(tokens, None)
        room = ((0, 0), (0, 0), (0, self.context_length - tokens.shape[1]), (0, 0))
        blocks = tuple(KeyValues(*(jnp.pad(part, room) for part in block)) for block in past)
        return logits, Cache(blocks, jnp.int32(tokens.shape[1]))

    def decode(self, token: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Reads one more token.

        Args:
          token: int32 [batch].
          cache: of the tokens before, fewer than `context_length`.

        Returns:
          float32 [batch, outputs], the logits of the next token, and the cache with this one.
        """
        x = (self.embedding(token) + self.positions[cache.length][None])[:, None]
        blocks = []
        for block, past in zip(self.blocks, cache.blocks, strict=True):
            x, seen = block.decode(x, past, cache.length)
            blocks.append(seen)
        return self.head.logits(self.norm(x[:, 0])), Cache(tuple(blocks), cache.length + 1)

    def _read(self, x: jax.Array, training: Training | None) -> tuple[jax.Array, list[KeyValues]]:
        if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer):
            raise ConfigError(f"model 'transformer' got {x.dtype}{list(x.shape)}; expected tokens, int32 [batch, time]")
        if x.shape[1] > self.context_length:
            raise ConfigError(f"context_length is {self.context_length}; expected at least the input's {x.shape[1]} tokens")
        x = self.dropout(self.embedding(x) + self.positions[None, : x.shape[1]], training)
        every = []
        for block in self.blocks:
            x, past = block(x, training)
            every.append(past)
        return self.head.logits(self.norm(x)), every


@MODELS.register
def transformer(
    outputs: int,
    *,
    depth: int = 4,
    width: int = 128,
    heads: int = 4,
    mlp_ratio: int = 4,
    context_length: int = 64,
    tie_embeddings: bool = False,
    activation: str = "gelu",
    dropout_rate: Scalar = 0.0,
    stochastic_depth_rate: Scalar = 0.0,
) -> nn.Module:
    """Returns a causal language model of `depth` blocks of `width` features.

    Raises:
      ConfigError: `heads` does not divide `width`.
    """
    del dropout_rate, stochastic_depth_rate
    check_heads(width, heads)
    return Transformer(outputs, depth, width, heads, mlp_ratio, context_length, tie_embeddings, activation)
