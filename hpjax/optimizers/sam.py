"""Sharpness-aware minimisation: the gradient of another place, a step of length rho uphill."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hpjax.registry import Scalar


def sam(
    value_and_grad: Callable[[Any], tuple[Any, Any]], rho: Scalar, pmean: Callable[[Any], Any] = lambda tree: tree
) -> Callable[[Any], tuple[Any, Any]]:
    """Returns `value_and_grad` with the gradient taken at `w + rho g / |g|`, g the gradient at w.

    Args:
      value_and_grad: a function of the parameters; what it returns first (loss, statistics) is kept of w.
      rho: scalar >= 0, the step's global L2 norm; there is no step where g is 0.
      pmean: what averages g over devices that share a batch. The second gradient is left as it is.

    Source: Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization (2021), algorithm 1.
    """

    def wrapped(params: Any) -> tuple[Any, Any]:
        value, gradients = value_and_grad(params)
        gradients = pmean(gradients)
        norm = optax.tree.norm(gradients)
        size = jnp.where(norm > 0, rho / jnp.where(norm > 0, norm, 1.0), 0.0)
        _, gradients = value_and_grad(jax.tree.map(lambda w, g: w + size.astype(w.dtype) * g, params, gradients))
        return value, gradients

    return wrapped
