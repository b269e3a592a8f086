"""Adaptive steps without bias correction: Adagrad, Adadelta, RMSprop."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hpjax.optimizers.registry import OPTIMIZERS
from hpjax.registry import Scalar


class AdagradState(NamedTuple):
    """Sums of squared gradients."""

    total: Any


@OPTIMIZERS.register
def adagrad(
    learning_rate: Scalar = 0.01, *, epsilon: Scalar = 1e-10, initial_accumulator: Scalar = 0.0
) -> optax.GradientTransformation:
    """Adagrad: `s = s + g^2; w = w - learning_rate g / (sqrt(s) + epsilon)`.

    Args:
      learning_rate: scalar of this update.
      epsilon: scalar >= 0, added outside the square root (Optax: inside).
      initial_accumulator: scalar >= 0, what s starts from: 0 in PyTorch, 0.1 in Optax and Keras.

    Returns:
      The transformation; its state is one sum a parameter.

    Source: Duchi, Hazan and Singer, Adaptive Subgradient Methods (2011), as in torch.optim.Adagrad.
    """

    def init(params: Any) -> AdagradState:
        return AdagradState(jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Any, state: AdagradState, params: Any = None) -> tuple[Any, AdagradState]:
        total = jax.tree.map(lambda s, g: s + g * g, state.total, gradients)

        def step(g: jax.Array, s: jax.Array) -> jax.Array:
            # Where no gradient ever was, 0 / 0 if epsilon is 0.
            root = jnp.sqrt(s + initial_accumulator) + epsilon
            return jnp.where(root > 0, learning_rate * -g / jnp.where(root > 0, root, 1.0), 0.0)

        return jax.tree.map(step, gradients, total), AdagradState(total)

    return optax.GradientTransformation(init, update)


@OPTIMIZERS.register
def adadelta(learning_rate: Scalar = 0.1, *, beta2: Scalar = 0.9, epsilon: Scalar = 1e-6) -> optax.GradientTransformation:
    """Adadelta: the step is the gradient times the ratio of the running RMS of steps and of gradients.

    Args:
      learning_rate: scalar of this update; 1 is the paper's.
      beta2: scalar in [0, 1), decay of both means of squares (rho).
      epsilon: scalar > 0, added inside both square roots.

    Returns:
      The transformation; its state is two means a parameter.

    Source: Zeiler, ADADELTA (2012), algorithm 1, as in torch.optim.Adadelta.
    """
    return optax.chain(optax.scale_by_adadelta(beta2, epsilon), optax.scale_by_learning_rate(learning_rate))


class RmspropState(NamedTuple):
    """Means of gradients (only where centered) and of their squares, and the momentum buffers."""

    mean: Any
    square: Any
    buffer: Any


@OPTIMIZERS.register
def rmsprop(
    learning_rate: Scalar = 0.003,
    *,
    beta2: Scalar = 0.99,
    momentum: Scalar = 0.0,
    epsilon: Scalar = 1e-8,
    centered: bool = False,
) -> optax.GradientTransformation:
    """RMSprop: `s = mean of g^2; v = momentum v + g / (sqrt(s) + epsilon); w = w - learning_rate v`.

    Args:
      learning_rate: scalar of this update.
      beta2: scalar in [0, 1), decay of the means (alpha).
      momentum: scalar in [0, 1), of the scaled gradients.
      epsilon: scalar > 0, added outside the square root (Optax and TensorFlow: inside).
      centered: whether s is the variance, `mean of g^2 - (mean of g)^2`; rounding below 0 counts as 0.

    Returns:
      The transformation; its state is two buffers a parameter, three where centered.

    Source: Tieleman and Hinton (2012); centered: Graves, Generating Sequences (2013); as in torch.optim.RMSprop.
    """

    def init(params: Any) -> RmspropState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return RmspropState(zeros if centered else (), zeros, zeros)

    def update(gradients: Any, state: RmspropState, params: Any = None) -> tuple[Any, RmspropState]:
        square = jax.tree.map(lambda s, g: beta2 * s + (1 - beta2) * g * g, state.square, gradients)
        mean, variance = state.mean, square
        if centered:
            mean = jax.tree.map(lambda m, g: beta2 * m + (1 - beta2) * g, mean, gradients)
            variance = jax.tree.map(lambda s, m: jnp.maximum(s - m * m, 0.0), square, mean)
        buffer = jax.tree.map(lambda v, g, s: momentum * v + g / (jnp.sqrt(s) + epsilon), state.buffer, gradients, variance)
        return jax.tree.map(lambda v: learning_rate * -v, buffer), RmspropState(mean, square, buffer)

    return optax.GradientTransformation(init, update)
