"""Models with a planted fault, as plug-ins that `hpjax.tune` must see through."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from hpjax.ops import Dense

HIDDEN = 32


class _Hidden(nn.Module):
    """A layer with relu, its bias far below 0."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.relu(Dense(HIDDEN)(x) - 20.0)


class _Perceptron(nn.Module):
    """Two layers, the hidden one's units a method of their own."""

    outputs: int
    dead: bool = False
    hidden_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array, training: object = None) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        if self.dead:
            hidden = _Hidden(name="hidden")(x)
        else:
            hidden = self.between(Dense(HIDDEN, kernel_init=self.hidden_init, name="hidden")(x))
        return Dense(self.outputs, name="out")(hidden)

    def between(self, x: jax.Array) -> jax.Array:
        return nn.relu(x)


class _Flipped(_Perceptron):
    def between(self, x: jax.Array) -> jax.Array:
        return _flipped_tanh(x)


@jax.custom_vjp
def _flipped_tanh(x: jax.Array) -> jax.Array:
    return jnp.tanh(x)


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = jnp.tanh(x)
    return y, y


def _backward(y: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    return (-cotangent * (1 - y * y),)


_flipped_tanh.defvjp(_forward, _backward)


def zero_layer(outputs: int) -> nn.Module:
    """A hidden layer whose weights begin at 0."""
    return _Perceptron(outputs, hidden_init=nn.initializers.zeros_init())


def dead_relu(outputs: int) -> nn.Module:
    """Units that are 0 for every example: a bias far below 0."""
    return _Perceptron(outputs, dead=True)


def wrong_gradient(outputs: int) -> nn.Module:
    """A custom gradient with the wrong sign."""
    return _Flipped(outputs)
