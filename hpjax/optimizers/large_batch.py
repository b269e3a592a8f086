"""Layer-wise scaled steps for large batches: LARS and LAMB."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hpjax.optimizers.kept import kept_in
from hpjax.optimizers.registry import OPTIMIZERS
from hpjax.registry import Scalar


class LarsState(NamedTuple):
    """The momentum buffers, which hold learning rate times gradient."""

    buffer: Any


@OPTIMIZERS.register
def lars(
    learning_rate: Scalar = 1.0,
    *,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    trust_coefficient: Scalar = 0.001,
    epsilon: Scalar = 1e-9,
    optax_form: bool = False,
    moment_dtype: str = "float32",
) -> optax.GradientTransformation:
    """LARS in the paper's (and MLPerf's) form, the learning rate inside the momentum buffer.

    For weights w with gradient g: `local = trust_coefficient |w| / (|g| + weight_decay |w| + epsilon)`,
    `v = momentum v + learning_rate local (g + weight_decay w)`, `w = w - v`. For parameters of one dimension (biases,
    normalisation) local is 1; where |w| or |g| is 0 it is 1 too, and there is no decay.

    Args:
      learning_rate: scalar of this update.
      momentum: scalar in [0, 1).
      weight_decay: scalar >= 0, the decay inside the ratio.
      trust_coefficient: scalar > 0.
      epsilon: scalar >= 0.
      optax_form: `optax.lars`, which divides by |g + weight_decay w| and scales all parameters.
      moment_dtype: what the buffer is kept in: float32, or bfloat16 rounded stochastically.

    Returns:
      The transformation; its state is one buffer a parameter.

    Source: You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks (2017), algorithm 1.
    """
    if optax_form:
        theirs = optax.lars(
            learning_rate,  # type: ignore[arg-type]
            weight_decay,  # type: ignore[arg-type]
            trust_coefficient=trust_coefficient,
            eps=epsilon,
            momentum=momentum,
        )
        return kept_in(moment_dtype, theirs)

    def init(params: Any) -> LarsState:
        return LarsState(jax.tree.map(jnp.zeros_like, params))

    def direction(gradient: jax.Array, weight: jax.Array) -> jax.Array:
        if weight.ndim <= 1:
            return gradient + weight_decay * weight
        weight_norm, gradient_norm = jnp.linalg.norm(weight.ravel()), jnp.linalg.norm(gradient.ravel())
        local = trust_coefficient * weight_norm / (gradient_norm + weight_decay * weight_norm + epsilon)
        degenerate = (weight_norm == 0) | (gradient_norm == 0)
        return jnp.where(degenerate, gradient, local * (gradient + weight_decay * weight))

    def update(gradients: Any, state: LarsState, params: Any = None) -> tuple[Any, LarsState]:
        buffer = jax.tree.map(
            lambda v, g, w: momentum * v + learning_rate * direction(g, w), state.buffer, gradients, params
        )
        return jax.tree.map(jnp.negative, buffer), LarsState(buffer)

    return kept_in(moment_dtype, optax.GradientTransformation(init, update))


@OPTIMIZERS.register
def lamb(
    learning_rate: Scalar = 0.003,
    *,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    epsilon: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    optax_form: bool = False,
    moment_dtype: str = "float32",
) -> optax.GradientTransformation:
    """LAMB: Adam's step u, plus `weight_decay w`, scaled to each tensor's norm |w|.

    `w = w - learning_rate |w| / |u + weight_decay w| (u + weight_decay w)`. The ratio is 1 where either norm is 0, and for
    parameters of one dimension (biases, normalisation), as in the authors' code.

    Args:
      learning_rate: scalar of this update.
      beta1: scalar in [0, 1), decay of the mean of gradients.
      beta2: scalar in [0, 1), decay of the mean of squared gradients.
      epsilon: scalar >= 0, added outside the square root.
      weight_decay: scalar >= 0, the decay inside the ratio.
      optax_form: `optax.lamb`, which scales all parameters.
      moment_dtype: what the moments are kept in: float32, or bfloat16 rounded stochastically.

    Returns:
      The transformation; its state is two moments a parameter and a count.

    Source: You et al., Large Batch Optimization for Deep Learning (2020), algorithm 2.
    """
    ratio = optax.scale_by_trust_ratio()
    lamb = optax.chain(
        optax.scale_by_adam(beta1, beta2, epsilon),
        optax.add_decayed_weights(weight_decay),  # type: ignore[arg-type]
        ratio if optax_form else optax.masked(ratio, lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)),
        optax.scale_by_learning_rate(learning_rate),
    )
    return kept_in(moment_dtype, lamb)
