"""Moments and momentum buffers kept in another dtype than they are computed in."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from hpjax.ops import rounding


def kept_in(moment_dtype: str, transformation: optax.GradientTransformation) -> Any:
    """Returns a transformation whose buffers lie in `moment_dtype` between steps.

    A step reads them as float32, and what it writes is rounded stochastically (`rounding.stochastic`); the step itself is
    made of the numbers before they are rounded.

    Args:
      moment_dtype: float32 (the transformation as it is) or bfloat16.
      transformation: over a list of parameters; the float arrays of its state are buffers, at most two a parameter, each a
        list like the parameters.

    Returns:
      The transformation; `update` of one in bfloat16 takes `keys`, uint32 [parameters, 2], see `rounding.keys`.
    """
    if moment_dtype == "float32":
        return transformation

    def init(params: Any) -> Any:
        return _mapped(lambda leaf, _: leaf.astype(jnp.bfloat16), transformation.init(params))

    def update(gradients: Any, state: Any, params: Any = None, *, keys: jax.Array) -> tuple[Any, Any]:
        wide = _mapped(lambda leaf, _: leaf.astype(jnp.float32), state)
        updates, after = transformation.update(gradients, wide, params)
        random = [rounding.bits(key, leaf.size) for key, leaf in zip(keys, params, strict=True)]

        def rounded(leaf: jax.Array, number: int) -> jax.Array:
            draw, place = divmod(number, len(random))
            return rounding.stochastic(leaf.astype(jnp.float32), random[place], draw)

        return updates, _mapped(rounded, after)

    return optax.GradientTransformationExtraArgs(init, update)


def _mapped(function: Any, state: Any) -> Any:
    """Maps the float arrays of a state, with their numbers in its order."""
    leaves, tree = jax.tree.flatten(state)
    buffers = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    for number, i in enumerate(buffers):
        leaves[i] = function(leaves[i], number)
    return jax.tree.unflatten(tree, leaves)
