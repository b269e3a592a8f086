"""Optimizers: Optax gradient transformations whose every setting may be traced.

An entry takes the learning rate of this one update (its default is where a person would start) and its settings, and returns
a `GradientTransformation` whose state does not depend on them: the trial builds it anew inside each update, with that
update's values.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike as Scalar

from hpjax.registry import Registry

Optimizer = Callable[..., optax.GradientTransformation]
OPTIMIZERS: Registry[Optimizer] = Registry("optimizer")


def matrices(params: Any) -> Any:
    """Returns a tree of bools: True for what decay and layer-wise scaling apply to, False for biases and scales (1-D)."""
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)


@OPTIMIZERS.register
def momentum(
    learning_rate: Scalar = 0.1, *, momentum: Scalar = 0.9, weight_decay: Scalar = 0.0, l2: Scalar = 0.0
) -> optax.GradientTransformation:
    """SGD with heavy-ball momentum: `v = momentum v + g + l2 w; w = w - learning_rate (v + weight_decay w)`.

    Args:
      learning_rate: float32 scalar of this update.
      momentum: float32 scalar in [0, 1).
      weight_decay: float32 scalar >= 0, decoupled decay, multiplied by the learning rate; 1-D parameters have none.
      l2: float32 scalar >= 0, added to the gradient (torch's `weight_decay`); 1-D parameters have none.

    Returns:
      The transformation; its state is one buffer a parameter.

    Source: Polyak (1964) in the form of torch.optim.SGD; the decay of Loshchilov and Hutter (2019), algorithm 1.
    """
    return optax.chain(
        optax.add_decayed_weights(l2, matrices),
        optax.trace(momentum),
        optax.add_decayed_weights(weight_decay, matrices),
        optax.scale_by_learning_rate(learning_rate),
    )


@OPTIMIZERS.register
def adamw(
    learning_rate: Scalar = 1e-3,
    *,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    epsilon: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    l2: Scalar = 0.0,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay; with `weight_decay=0`, plain Adam.

    Args:
      learning_rate: float32 scalar of this update.
      beta1: float32 scalar in [0, 1), decay of the mean of gradients.
      beta2: float32 scalar in [0, 1), decay of the mean of squared gradients.
      epsilon: float32 scalar >= 0, added outside the square root.
      weight_decay: float32 scalar >= 0, decoupled decay, multiplied by the learning rate; 1-D parameters have none.
      l2: float32 scalar >= 0, added to the gradient, which is not AdamW; 1-D parameters have none.

    Returns:
      The transformation; its state is two moments a parameter and a count.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019), algorithm 2, as in torch.optim.AdamW.
    """
    return optax.chain(
        optax.add_decayed_weights(l2, matrices),
        optax.scale_by_adam(beta1, beta2, epsilon),
        optax.add_decayed_weights(weight_decay, matrices),
        optax.scale_by_learning_rate(learning_rate),
    )


class LarsState(NamedTuple):
    """The momentum buffers, which hold learning rate times gradient."""

    buffer: optax.Updates


@OPTIMIZERS.register
def lars(
    learning_rate: Scalar = 1.0,
    *,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    trust_coefficient: Scalar = 0.001,
    epsilon: Scalar = 1e-9,
) -> optax.GradientTransformation:
    """LARS in the paper's (and MLPerf's) form, the learning rate inside the momentum buffer.

    For weights w with gradient g: `local = trust_coefficient |w| / (|g| + weight_decay |w| + epsilon)`,
    `v = momentum v + learning_rate local (g + weight_decay w)`, `w = w - v`. Where |w| or |g| is 0, and for 1-D parameters
    (biases, normalisation), local is 1 and there is no decay. `optax.lars` divides by |g + weight_decay w| instead.

    Args:
      learning_rate: float32 scalar of this update.
      momentum: float32 scalar in [0, 1).
      weight_decay: float32 scalar >= 0, the decay inside the ratio.
      trust_coefficient: float32 scalar > 0.
      epsilon: float32 scalar >= 0.

    Returns:
      The transformation; its state is one buffer a parameter.

    Source: You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks (2017), algorithm 1.
    """

    def init(params: optax.Params) -> LarsState:
        return LarsState(jax.tree.map(jnp.zeros_like, params))

    def direction(gradient: jax.Array, weight: jax.Array) -> jax.Array:
        if weight.ndim <= 1:
            return gradient
        weight_norm, gradient_norm = jnp.linalg.norm(weight.ravel()), jnp.linalg.norm(gradient.ravel())
        local = trust_coefficient * weight_norm / (gradient_norm + weight_decay * weight_norm + epsilon)
        degenerate = (weight_norm == 0) | (gradient_norm == 0)
        decayed = gradient + weight_decay * weight
        return jnp.where(degenerate, gradient, local * decayed)

    def update(
        updates: optax.Updates, state: LarsState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, LarsState]:
        buffer = jax.tree.map(lambda v, g, w: momentum * v + learning_rate * direction(g, w), state.buffer, updates, params)
        return jax.tree.map(jnp.negative, buffer), LarsState(buffer)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def create(name: str, learning_rate: Scalar, values: Mapping[str, Scalar]) -> optax.GradientTransformation:
    """Returns the named optimizer behind global-norm clipping, as one update of a trial uses it.

    Args:
      name: a name in `OPTIMIZERS`.
      learning_rate: float32 scalar of this update.
      values: scalars by name: `clip_norm` (infinity: no clipping) and the optimizer's settings. All may be traced.

    Returns:
      `clip_by_global_norm` chained with the optimizer.

    Raises:
      ConfigError: the name is unknown.
    """
    settings = {key: values[key] for key in OPTIMIZERS.settings(name)}
    return optax.chain(
        optax.clip_by_global_norm(values["clip_norm"]),  # type: ignore[arg-type]
        OPTIMIZERS.get(name)(learning_rate, **settings),
    )
