"""The LSTM: a recurrent network for sequences of tokens or of numbers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from hpjax.models.dropout import Dropout
from hpjax.models.registry import MODELS
from hpjax.models.training import Training
from hpjax.ops import Dense, Embedding, dense
from hpjax.registry import Scalar


class State(NamedTuple):
    """What a layer remembers: float [batch, width] each."""

    hidden: jax.Array
    cell: jax.Array


def forget_gate_open(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike | None = None) -> jax.Array:
    """Returns the initial bias: 1 for the forget gate, 0 else, so that a layer begins by remembering.

    Source: Jozefowicz, Zaremba and Sutskever, An Empirical Exploration of Recurrent Network Architectures (2015).
    """
    del key
    gate = jnp.arange(shape[0]) // (shape[0] // 4)
    return (gate == 1).astype(jnp.zeros((), dtype).dtype)


class LSTMLayer(nn.Module):
    """One layer. The gates stand in torch's order: input, forget, candidate, output.

    Source: Hochreiter and Schmidhuber (1997) with the forget gate of Gers, Schmidhuber and Cummins (2000).
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, state: State) -> tuple[jax.Array, State]:
        """Returns the hidden vectors, float [batch, time, width], for float [batch, time, features], and the last state."""
        gates = 4 * self.width
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], gates))
        recurrent = self.param("recurrent_kernel", nn.initializers.orthogonal(), (self.width, gates))
        bias = self.param("bias", forget_gate_open, (gates,))

        def step(state: State, projected: jax.Array) -> tuple[State, jax.Array]:
            i, f, g, o = jnp.split(projected + state.hidden @ recurrent, 4, axis=-1)
            cell = jax.nn.sigmoid(f) * state.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            state = State(jax.nn.sigmoid(o) * jnp.tanh(cell), cell)
            return state, state.hidden

        # What does not wait for the step before is one product for all steps.
        state, hidden = lax.scan(step, state, dense(x, kernel, bias).swapaxes(0, 1))
        return hidden.swapaxes(0, 1), state


class LSTM(nn.Module):
    """`depth` LSTM layers of `width` units, each followed by dropout, and a dense layer of logits.

    Tokens, int [batch, time], are embedded and give logits at every place. Numbers give logits at the last place alone:
    [batch, time, features] as they are; a picture's rows and a table's columns are its places in time.

    Dropout is on what goes from layer to layer and to the logits, never on what goes from place to place.

    Source: Zaremba, Sutskever and Vinyals, Recurrent Neural Network Regularization (2014).
    """

    outputs: int
    depth: int
    width: int

    context_length = None
    """It reads texts of any length."""

    def setup(self) -> None:
        """Makes the layers."""
        self.embedding = Embedding(self.outputs, self.width)
        self.layers = [LSTMLayer(self.width) for _ in range(self.depth)]
        self.dropouts = [Dropout() for _ in range(self.depth)]
        self.head = Dense(self.outputs)

    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns float32 [batch, time, outputs] for int [batch, time]; [batch, outputs] for float32 [batch, ...]."""
        if jnp.issubdtype(x.dtype, jnp.integer):
            return self.head(self._read(self.embedding(x), self._zeros(x.shape[0]), training)[0])
        x = x[..., None] if x.ndim == 2 else x.reshape(*x.shape[:2], -1)
        return self.head(self._read(x, self._zeros(x.shape[0]), training)[0][:, -1])

    def prefill(self, tokens: jax.Array) -> tuple[jax.Array, tuple[State, ...]]:
        """Returns `self(tokens)`, and what `decode` needs to go on behind them."""
        hidden, states = self._read(self.embedding(tokens), self._zeros(tokens.shape[0]), None)
        return self.head(hidden), states

    def decode(self, token: jax.Array, cache: tuple[State, ...]) -> tuple[jax.Array, tuple[State, ...]]:
        """Reads one more token, int32 [batch]; returns float32 [batch, outputs], the next one's logits, and the cache."""
        hidden, states = self._read(self.embedding(token)[:, None], cache, None)
        return self.head(hidden[:, 0]), states

    def _read(
        self, x: jax.Array, states: tuple[State, ...], training: Training | None
    ) -> tuple[jax.Array, tuple[State, ...]]:
        last = []
        for layer, dropout, state in zip(self.layers, self.dropouts, states, strict=True):
            hidden, after = layer(x, State(state.hidden.astype(x.dtype), state.cell.astype(x.dtype)))
            x = dropout(hidden, training)
            last.append(after)
        return x, tuple(last)

    def _zeros(self, batch: int) -> tuple[State, ...]:
        zeros = jnp.zeros((batch, self.width), jnp.float32)
        return (State(zeros, zeros),) * self.depth


@MODELS.register
def lstm(outputs: int, *, depth: int = 2, width: int = 128, dropout_rate: Scalar = 0.0) -> nn.Module:
    """Returns an LSTM of `depth` layers of `width` units."""
    del dropout_rate
    return LSTM(outputs, depth, width)
