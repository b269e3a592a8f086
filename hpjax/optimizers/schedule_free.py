"""Schedule-free learning: gradients are taken at y, evaluation at x, a weighted mean of the iterates z."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hpjax.optimizers.adam import bias_correction, moment
from hpjax.optimizers.registry import OPTIMIZERS
from hpjax.registry import Scalar


class ScheduleFreeState(NamedTuple):
    """What schedule-free learning carries; the trained parameters are `y = (1 - beta1) z + beta1 x`.

    Both x and z are kept, although y and one give the other: beta1 may be 0, and may differ from update to update.

    Attributes:
      evaluated: x, what is evaluated: the mean of z weighted by the square of the largest learning rate so far.
      z: what the steps are added to.
      weight: sum of the weights.
      largest: largest learning rate so far.
      step: int32, updates.
      square: means of squared gradients; empty without Adam.
    """

    evaluated: Any
    z: Any
    weight: jax.Array
    largest: jax.Array
    step: jax.Array
    square: Any


@OPTIMIZERS.register
def schedule_free_sgd(
    learning_rate: Scalar = 1.0, *, beta1: Scalar = 0.9, weight_decay: Scalar = 0.0
) -> optax.GradientTransformation:
    """Schedule-free SGD: `z = z - learning_rate (g + weight_decay y)`, g the gradient at the trained parameters y.

    To be used with a constant schedule and warmup. `evaluated` gives the parameters to evaluate and keep.

    Args:
      learning_rate: scalar of this update.
      beta1: scalar in [0, 1), the share of the mean x in y.
      weight_decay: scalar >= 0, multiplied by the learning rate; it acts on y.

    Returns:
      The transformation; see `ScheduleFreeState`.

    Source: Defazio et al., The Road Less Scheduled (2024), equations 3 to 5 and section 4 (weights, decay at y).
    """
    return _schedule_free(learning_rate, beta1, weight_decay, None)


@OPTIMIZERS.register
def schedule_free_adamw(
    learning_rate: Scalar = 2.5e-3,
    *,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    epsilon: Scalar = 1e-8,
    weight_decay: Scalar = 0.01,
) -> optax.GradientTransformation:
    """Schedule-free AdamW: `z = z - learning_rate (g / (sqrt(s) + epsilon) + weight_decay y)`, s bias-corrected.

    To be used with a constant schedule and warmup. `evaluated` gives the parameters to evaluate and keep.

    Args:
      learning_rate: scalar of this update.
      beta1: scalar in [0, 1), the share of the mean x in y.
      beta2: scalar in [0, 1), decay of the mean of squared gradients.
      epsilon: scalar >= 0, added outside the square root.
      weight_decay: scalar >= 0, multiplied by the learning rate; it acts on y.

    Returns:
      The transformation; see `ScheduleFreeState`.

    Source: Defazio et al., The Road Less Scheduled (2024), algorithm 1, with the bias corrected in the denominator, as in
    the authors' code and Optax.
    """
    return _schedule_free(learning_rate, beta1, weight_decay, (beta2, epsilon))


def _schedule_free(
    learning_rate: Scalar, beta1: Scalar, weight_decay: Scalar, adam: tuple[Scalar, Scalar] | None
) -> optax.GradientTransformation:
    def init(params: Any) -> ScheduleFreeState:
        zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))
        square = () if adam is None else jax.tree.map(jnp.zeros_like, params)
        # Copies, so that a caller may donate the parameters and this state.
        x, z = jax.tree.map(jnp.array, params), jax.tree.map(jnp.array, params)
        return ScheduleFreeState(x, z, zero, jnp.zeros_like(zero), jnp.int32(0), square)

    def update(gradients: Any, state: ScheduleFreeState, params: Any = None) -> tuple[Any, ScheduleFreeState]:
        count, square, direction = state.step + 1, state.square, gradients
        if adam is not None:
            beta2, epsilon = adam
            square = moment(square, gradients, beta2, order=2)
            correction = bias_correction(beta2, count)
            direction = jax.tree.map(lambda g, s: g / (jnp.sqrt(s / correction) + epsilon), gradients, square)
        largest = jnp.maximum(state.largest, learning_rate)
        weight = state.weight + largest**2
        # The share is 0 as long as every learning rate has been 0.
        share = jnp.where(weight > 0, largest**2 / jnp.where(weight > 0, weight, 1.0), 0.0)
        z = jax.tree.map(lambda z, d, y: z - learning_rate * (d + weight_decay * y), state.z, direction, params)
        x = jax.tree.map(lambda x, z: (1 - share) * x + share * z, state.evaluated, z)
        updates = jax.tree.map(lambda x, z, y: (1 - beta1) * z + beta1 * x - y, x, z, params)
        return updates, ScheduleFreeState(x, z, weight, largest, count, square)

    return optax.GradientTransformation(init, update)
