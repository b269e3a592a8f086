"""Adam and its kin: adam, adamw, amsgrad, adamax, nadam."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hpjax.optimizers.kept import kept_in
from hpjax.optimizers.registry import OPTIMIZERS
from hpjax.registry import Scalar


@OPTIMIZERS.register
def adamw(
    learning_rate: Scalar = 1e-3,
    *,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    epsilon: Scalar = 1e-8,
    weight_decay: Scalar = 0.01,
    moment_dtype: str = "float32",
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay: `w = w - learning_rate (m / (sqrt(s) + epsilon) + weight_decay w)`.

    Args:
      learning_rate: scalar of this update.
      beta1: scalar in [0, 1), decay of the mean of gradients.
      beta2: scalar in [0, 1), decay of the mean of squared gradients.
      epsilon: scalar >= 0, added outside the square root.
      weight_decay: scalar >= 0, multiplied by the learning rate, as in PyTorch.
      moment_dtype: what the moments are kept in: float32, or bfloat16 rounded stochastically.

    Returns:
      The transformation; its state is two moments a parameter and a count.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019), algorithm 2, as in torch.optim.AdamW.
    """
    adam = optax.chain(
        optax.scale_by_adam(beta1, beta2, epsilon),
        optax.add_decayed_weights(weight_decay),  # type: ignore[arg-type]
        optax.scale_by_learning_rate(learning_rate),
    )
    return kept_in(moment_dtype, adam)


@OPTIMIZERS.register
def adam(
    learning_rate: Scalar = 1e-3,
    *,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    epsilon: Scalar = 1e-8,
    moment_dtype: str = "float32",
) -> optax.GradientTransformation:
    """Adam: `w = w - learning_rate m / (sqrt(s) + epsilon)`, m and s the bias-corrected means of g and g^2.

    With `l2` it is torch's Adam with `weight_decay`; with `weight_decay` it is AdamW, which is not the same.

    Args:
      learning_rate: scalar of this update.
      beta1: scalar in [0, 1), decay of the mean of gradients.
      beta2: scalar in [0, 1), decay of the mean of squared gradients.
      epsilon: scalar >= 0, added outside the square root.
      moment_dtype: what the moments are kept in: float32, or bfloat16 rounded stochastically.

    Returns:
      The transformation; its state is two moments a parameter and a count.

    Source: Kingma and Ba, Adam (2015), algorithm 1, as in torch.optim.Adam.
    """
    adam = optax.chain(optax.scale_by_adam(beta1, beta2, epsilon), optax.scale_by_learning_rate(learning_rate))
    return kept_in(moment_dtype, adam)


@OPTIMIZERS.register
def adamax(
    learning_rate: Scalar = 2e-3,
    *,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    epsilon: Scalar = 1e-8,
) -> optax.GradientTransformation:
    """Adamax: Adam with the decayed maximum of |g| in place of the root of the mean square.

    Args:
      learning_rate: scalar of this update.
      beta1: scalar in [0, 1), decay of the mean of gradients.
      beta2: scalar in [0, 1), decay of the maximum.
      epsilon: scalar > 0, added to |g|.

    Returns:
      The transformation; its state is two moments a parameter and a count.

    Source: Kingma and Ba, Adam (2015), algorithm 2, as in torch.optim.Adamax.
    """
    return optax.chain(optax.scale_by_adamax(beta1, beta2, epsilon), optax.scale_by_learning_rate(learning_rate))


class AmsgradState(NamedTuple):
    """Count of updates, means of gradients and of their squares, the largest mean of squares so far."""

    step: jax.Array
    mean: Any
    square: Any
    largest: Any


@OPTIMIZERS.register
def amsgrad(
    learning_rate: Scalar = 1e-3,
    *,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    epsilon: Scalar = 1e-8,
    optax_form: bool = False,
) -> optax.GradientTransformation:
    """AMSGrad: Adam whose mean of squares never falls.

    Args:
      learning_rate: scalar of this update.
      beta1: scalar in [0, 1), decay of the mean of gradients.
      beta2: scalar in [0, 1), decay of the mean of squared gradients.
      epsilon: scalar >= 0, added outside the square root.
      optax_form: the maximum is of bias-corrected means, as in `optax.amsgrad`; else it is corrected afterwards.

    Returns:
      The transformation; its state is three moments a parameter and a count.

    Source: Reddi, Kale and Kumar, On the Convergence of Adam and Beyond (2018), as in torch.optim.Adam(amsgrad=True).
    """
    if optax_form:
        return optax.chain(optax.scale_by_amsgrad(beta1, beta2, epsilon), optax.scale_by_learning_rate(learning_rate))

    def init(params: Any) -> AmsgradState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AmsgradState(jnp.int32(0), zeros, zeros, zeros)

    def update(gradients: Any, state: AmsgradState, params: Any = None) -> tuple[Any, AmsgradState]:
        count = state.step + 1
        mean = moment(state.mean, gradients, beta1)
        square = moment(state.square, gradients, beta2, order=2)
        largest = jax.tree.map(jnp.maximum, state.largest, square)
        first, second = bias_correction(beta1, count), bias_correction(beta2, count)
        step = lambda m, s: learning_rate * -(m / first) / (jnp.sqrt(s / second) + epsilon)  # noqa: E731
        return jax.tree.map(step, mean, largest), AmsgradState(count, mean, square, largest)

    return optax.GradientTransformation(init, update)


class NadamState(NamedTuple):
    """Count of updates, product of the momenta so far, means of gradients and of their squares."""

    step: jax.Array
    product: jax.Array
    mean: Any
    square: Any


@OPTIMIZERS.register
def nadam(
    learning_rate: Scalar = 2e-3,
    *,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    epsilon: Scalar = 1e-8,
    momentum_decay: Scalar = 4e-3,
    optax_form: bool = False,
) -> optax.GradientTransformation:
    """NAdam: Adam with Nesterov's momentum, which grows as `beta1 (1 - 0.96^(momentum_decay t) / 2)`.

    Args:
      learning_rate: scalar of this update.
      beta1: scalar in [0, 1), decay of the mean of gradients and the limit of the momentum.
      beta2: scalar in [0, 1), decay of the mean of squared gradients.
      epsilon: scalar >= 0, added outside the square root.
      momentum_decay: scalar >= 0.
      optax_form: a constant momentum, as in `optax.nadam`; `momentum_decay` then does nothing.

    Returns:
      The transformation; its state is two moments a parameter, a count and a product.

    Source: Dozat, Incorporating Nesterov Momentum into Adam (2016), as in torch.optim.NAdam.
    """
    if optax_form:
        adam = optax.scale_by_adam(beta1, beta2, epsilon, nesterov=True)
        return optax.chain(adam, optax.scale_by_learning_rate(learning_rate))

    def init(params: Any) -> NadamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return NadamState(jnp.int32(0), jnp.ones((), jnp.result_type(*jax.tree.leaves(params))), zeros, zeros)

    def update(gradients: Any, state: NadamState, params: Any = None) -> tuple[Any, NadamState]:
        count, dtype = state.step + 1, state.product.dtype
        momentum = lambda t: beta1 * (1 - 0.5 * 0.96 ** (momentum_decay * t.astype(dtype)))  # noqa: E731
        now, later = momentum(count), momentum(count + 1)
        product = (state.product * now).astype(dtype)
        mean = moment(state.mean, gradients, beta1)
        square = moment(state.square, gradients, beta2, order=2)
        second = bias_correction(beta2, count)

        def step(g: jax.Array, m: jax.Array, s: jax.Array) -> jax.Array:
            ahead = (1 - now) / (1 - product) * g + later / (1 - product * later) * m
            return learning_rate * -ahead / (jnp.sqrt(s / second) + epsilon)

        return jax.tree.map(step, gradients, mean, square), NadamState(count, product, mean, square)

    return optax.GradientTransformation(init, update)


def moment(mean: Any, gradients: Any, beta: Scalar, order: int = 1) -> Any:
    """Returns the running means of the gradients' `order`-th power, one step on: a tree like `mean`."""
    return jax.tree.map(lambda m, g: beta * m + (1 - beta) * g**order, mean, gradients)


def bias_correction(beta: Scalar, count: jax.Array) -> jax.Array:
    """Returns `1 - beta^count`, without the cancellation of beta near 1; beta: scalar in [0, 1), count: int32 >= 1."""
    log = jnp.log(beta)
    return -jnp.expm1(count.astype(log.dtype) * log)
