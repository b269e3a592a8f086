"""The gradient noise scale: how large a batch must be before its gradient is more signal than noise."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

LEAST_BATCHES = 4
"""Below it the jackknife says nothing of the error."""


class NoiseScale(NamedTuple):
    """The simple noise scale and what it is made of, float scalars.

    Attributes:
      scale: B_simple = noise / gradient, in examples; infinite where the gradient cannot be told from noise.
      error: its standard error, by the jackknife over the batches.
      noise: tr(Sigma), the summed variance of one example's gradient.
      gradient: |G|^2, the squared norm of the true gradient; an unbiased estimate, so it may be negative.
    """

    scale: jax.Array
    error: jax.Array
    noise: jax.Array
    gradient: jax.Array


def two_sizes(small: jax.Array, large: jax.Array, small_size: float, large_size: float) -> tuple[jax.Array, jax.Array]:
    """Returns unbiased estimates of tr(Sigma) and |G|^2 from squared gradient norms at two batch sizes.

    Args:
      small: float, (mean) squared norm of the gradient of `small_size` examples.
      large: float, likewise of `large_size` examples.
      small_size: examples.
      large_size: examples, more than `small_size`.

    Source: McCandlish et al., An Empirical Model of Large-Batch Training (2018), appendix A.1.
    """
    noise = (small - large) / (1.0 / small_size - 1.0 / large_size)
    gradient = (large_size * large - small_size * small) / (large_size - small_size)
    return noise, gradient


def noise_scale(gradient: Callable[[jax.Array], Any], batches: int, batch_size: int) -> NoiseScale:
    """Returns the simple noise scale from several batches, each the small batch and their union the large one.

    That is the mean of the estimates over all pairs of batches. Each batch's gradient is computed twice: the jackknife
    needs its product with the sum of all. Batches drawn without replacement from few examples are less noisy than the
    formula assumes: the noise comes out right, |G|^2 too small by noise / examples.

    Args:
      gradient: the gradient of the mean loss over batch i, a pytree; i is an int32 scalar.
      batches: how many, at least `LEAST_BATCHES`.
      batch_size: examples of each.

    Source: McCandlish et al. (2018), appendix A.1; the jackknife of a ratio: Quenouille (1956).
    """
    if batches < LEAST_BATCHES:
        raise ValueError(f"noise_scale: {batches} batches; expected at least {LEAST_BATCHES}")
    shapes = jax.eval_shape(gradient, jax.ShapeDtypeStruct((), jnp.int32))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(i: jax.Array, total: Any) -> Any:
        return jax.tree.map(jnp.add, total, gradient(i))

    total = lax.fori_loop(0, batches, add, zeros)

    def products(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        g = gradient(i)
        return optax.tree.vdot(g, g), optax.tree.vdot(g, total)

    squares, along = lax.map(products, jnp.arange(batches, dtype=jnp.int32))
    whole = optax.tree.vdot(total, total)
    n, size = float(batches), float(batch_size)
    noise, signal = two_sizes(squares.mean(), whole / n**2, size, n * size)
    # The same without batch i, for every i.
    rest = whole - 2.0 * along + squares
    without = two_sizes((squares.sum() - squares) / (n - 1.0), rest / (n - 1.0) ** 2, size, (n - 1.0) * size)
    ratios = without[0] / without[1]
    error = jnp.sqrt((n - 1.0) / n * jnp.sum((ratios - ratios.mean()) ** 2))
    known = signal > 0
    return NoiseScale(jnp.where(known, noise / signal, jnp.inf), jnp.where(known, error, jnp.inf), noise, signal)
