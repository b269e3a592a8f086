"""Adafactor: second moments of matrices kept as a row and a column."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hpjax.optimizers.registry import OPTIMIZERS
from hpjax.registry import Scalar


class Moments(NamedTuple):
    """Mean squared gradients of one parameter: over its last axis and over the one before; of a vector, each."""

    row: jax.Array
    column: jax.Array


class AdafactorState(NamedTuple):
    """Count of updates and the moments, in the order of the parameters."""

    step: jax.Array
    moments: tuple[Moments, ...]


@OPTIMIZERS.register
def adafactor(
    learning_rate: Scalar = 0.01,
    *,
    beta2_decay: Scalar = -0.8,
    epsilon: Scalar = 2.0**-23,
    parameter_floor: Scalar = 1e-3,
    update_clip: Scalar = 1.0,
) -> optax.GradientTransformation:
    """Adafactor with steps relative to the parameter's RMS.

    At update t = 1, 2, ... moments decay by `1 - t^beta2_decay`; `u = g / sqrt(v)`, v the product of row and column means
    over their mean; `w = w - max(parameter_floor, rms(w)) min(learning_rate, 1 / sqrt(t)) u / max(1, rms(u) / update_clip)`.

    Args:
      learning_rate: scalar of this update, the largest relative step.
      beta2_decay: scalar in [-1, 0].
      epsilon: scalar > 0, least root of v (and least mean of v's rows), as in PyTorch; the paper adds it to g^2.
      parameter_floor: scalar > 0, least RMS of a parameter that steps are relative to.
      update_clip: scalar > 0, largest RMS of u.

    Returns:
      The transformation; its state is a row and a column for a parameter of 2 or more dimensions (its last two).

    Source: Shazeer and Stern, Adafactor (2018), algorithms 4 and 5, as in torch.optim.Adafactor.
    """

    def init(params: Any) -> AdafactorState:
        return AdafactorState(jnp.int32(0), tuple(_zero_moments(leaf) for leaf in jax.tree.leaves(params)))

    def update(gradients: Any, state: AdafactorState, params: Any = None) -> tuple[Any, AdafactorState]:
        leaves, tree = jax.tree.flatten(gradients)
        count = state.step + 1
        # At least float32: t is a count.
        t = count.astype(jnp.promote_types(jnp.result_type(*leaves), jnp.float32))
        share, relative = t**beta2_decay, jnp.minimum(learning_rate, t**-0.5)

        def step(g: jax.Array, moments: Moments, w: jax.Array) -> tuple[jax.Array, Moments]:
            moments = _updated(moments, g, share)
            u = g * jax.lax.rsqrt(jnp.maximum(_variance(moments, g, epsilon), epsilon * epsilon))
            size = jnp.maximum(parameter_floor, _rms(w)) * relative / jnp.maximum(1.0, _rms(u) / update_clip)
            return -size * u, moments

        steps = [step(*each) for each in zip(leaves, state.moments, jax.tree.leaves(params), strict=True)]
        updates, moments = zip(*steps, strict=True)
        return jax.tree.unflatten(tree, updates), AdafactorState(count, moments)

    return optax.GradientTransformation(init, update)


def _zero_moments(w: jax.Array) -> Moments:
    if w.ndim < 2:
        return Moments(jnp.zeros_like(w), jnp.zeros((), w.dtype))
    return Moments(jnp.zeros((*w.shape[:-1], 1), w.dtype), jnp.zeros((*w.shape[:-2], 1, w.shape[-1]), w.dtype))


def _updated(moments: Moments, g: jax.Array, share: jax.Array) -> Moments:
    square = g * g
    if g.ndim < 2:
        return moments._replace(row=moments.row + share * (square - moments.row))
    row, column = square.mean(-1, keepdims=True), square.mean(-2, keepdims=True)
    return Moments(moments.row + share * (row - moments.row), moments.column + share * (column - moments.column))


def _variance(moments: Moments, g: jax.Array, epsilon: Scalar) -> jax.Array:
    if g.ndim < 2:
        return moments.row
    return moments.row * moments.column / jnp.maximum(moments.row.mean(-2, keepdims=True), epsilon)


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt((x * x).mean())
