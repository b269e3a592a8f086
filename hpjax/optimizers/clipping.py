"""Clipping of gradients: by value, by the norm of each tensor, by the norm of all, in one pass of reductions."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from hpjax.registry import Scalar

LIMITS = ("clip_value", "clip_layer_norm", "clip_norm")
"""The settings of `clipped`, in its order."""


def clipped(
    gradients: Sequence[jax.Array],
    clip_value: Scalar | None = None,
    clip_layer_norm: Scalar | None = None,
    clip_norm: Scalar | None = None,
) -> list[jax.Array]:
    """Returns gradients clipped by value, then each tensor to its largest L2 norm, then all to their largest global norm.

    The global norm is derived from the tensors' norms, so that each tensor is read once for both. Infinity, for any of the
    three, changes no bit; None leaves the work out. torch's `clip_grad_norm_` adds 1e-6 to the norm it divides by; here
    nothing is added.

    Args:
      gradients: tensors.
      clip_value: scalar > 0, largest absolute value of an element.
      clip_layer_norm: scalar > 0, largest L2 norm of a tensor.
      clip_norm: scalar > 0, largest L2 norm of all tensors together.

    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks (2013), algorithm 1.
    """
    if clip_value is not None:
        gradients = [jnp.clip(g, -clip_value, clip_value) for g in gradients]  # type: ignore[operator]
    if clip_layer_norm is None and clip_norm is None:
        return list(gradients)
    squares = jnp.stack([(g * g).sum() for g in gradients])
    scales = jnp.ones_like(squares)
    if clip_layer_norm is not None:
        scales = _scale(squares, clip_layer_norm)
    if clip_norm is not None:
        scales = scales * _scale((squares * scales**2).sum(), clip_norm)
    return [g * scales[i].astype(g.dtype) for i, g in enumerate(gradients)]


def bites(gradients: Sequence[jax.Array], limits: Mapping[str, Scalar]) -> jax.Array:
    """Returns whether `clipped` changes any of the gradients: a bool scalar.

    Args:
      gradients: tensors.
      limits: scalars by name, those of `LIMITS` that are on.
    """
    # A limit that comes after another need not know what that one left: where that one changed anything, clipping bites.
    found = jnp.bool_(False)
    if "clip_value" in limits:
        found |= jnp.stack([jnp.abs(g).max(initial=0.0) for g in gradients]).max() > limits["clip_value"]
    if {"clip_layer_norm", "clip_norm"} & set(limits):
        squares = jnp.stack([(g * g).sum() for g in gradients])
        if "clip_layer_norm" in limits:
            found |= jnp.sqrt(squares.max()) > limits["clip_layer_norm"]
        if "clip_norm" in limits:
            found |= jnp.sqrt(squares.sum()) > limits["clip_norm"]
    return found


def _scale(square: jax.Array, largest: Scalar) -> jax.Array:
    norm = jnp.sqrt(square)
    over = norm > largest
    return jnp.where(over, largest / jnp.where(over, norm, 1.0), 1.0).astype(square.dtype)
