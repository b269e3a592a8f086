"""Activations by name, as the epilogue of an operator."""

from collections.abc import Callable

import jax

from hpjax import errors

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "none": lambda x: x,
    "relu": jax.nn.relu,
    "tanh": jax.numpy.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


def activate(name: str, x: jax.Array) -> jax.Array:
    """Returns the activation called `name` of `x`; raises ConfigError for an unknown name."""
    if name not in ACTIVATIONS:
        raise errors.unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name](x)
