"""Largest eigenvalues of a symmetric operator that is known by its products with vectors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

BREAKDOWN = 10.0
"""A new direction shorter than so many rounding errors of the operator is none."""


class Eigenvalues(NamedTuple):
    """The largest eigenvalues.

    Attributes:
      values: float [top_k], the largest first.
      errors: float [top_k]: within so much of each value, rounding aside, there is an eigenvalue.
    """

    values: jax.Array
    errors: jax.Array


def lanczos(operator: Callable[[Any], Any], like: Any, key: jax.Array, iterations: int, top_k: int = 1) -> Eigenvalues:
    """Returns the algebraically largest eigenvalues of a symmetric operator.

    The basis is orthogonalised anew, twice, against all of its vectors in each iteration. Where it has come to span an
    invariant subspace, it goes on from a random vector outside: several equal eigenvalues are found so.

    Args:
      operator: the product with a vector, pytree to pytree of one float dtype.
      like: a pytree in the operator's structure; only shapes and dtypes matter.
      key: random key of the first vector.
      iterations: products, and vectors kept in memory; fewer where the operator has fewer dimensions.
      top_k: eigenvalues, at most `iterations`; fewer where the operator has fewer dimensions.

    Source: Lanczos (1950); full reorthogonalisation and the residual's bound: Parlett, The Symmetric Eigenvalue Problem
    (1998), chapter 13.
    """
    if not 1 <= top_k <= iterations:
        raise ValueError(f"lanczos: top_k is {top_k}; expected 1 to iterations, {iterations}")
    flat, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, like))
    size, dtype = flat.size, flat.dtype
    iterations = min(iterations, size)
    tiny = jnp.finfo(dtype).tiny

    def orthogonal(vector: jax.Array, basis: jax.Array) -> jax.Array:
        # Rows not made yet are zero. Full precision: an accelerator's default product would lose the orthogonality.
        along = jnp.matmul(basis, vector, precision=lax.Precision.HIGHEST)
        return vector - jnp.matmul(along, basis, precision=lax.Precision.HIGHEST)

    def unit(k: jax.Array, basis: jax.Array) -> jax.Array:
        vector = jax.random.normal(jax.random.fold_in(key, k), (size,), dtype)
        vector = orthogonal(orthogonal(vector, basis), basis)
        return vector / jnp.maximum(jnp.linalg.norm(vector), tiny)

    def iteration(
        carry: tuple[jax.Array, jax.Array, jax.Array], k: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        basis, vector, scale = carry
        basis = basis.at[k].set(vector)
        product, _ = ravel_pytree(operator(unravel(vector)))
        scale = jnp.maximum(scale, jnp.linalg.norm(product))
        rest = orthogonal(orthogonal(product, basis), basis)
        length = jnp.linalg.norm(rest)
        # NaN is no breakdown: it comes through.
        broken = length <= BREAKDOWN * jnp.finfo(dtype).eps * scale
        following = lax.cond(broken, lambda: unit(k + 1, basis), lambda: rest / jnp.maximum(length, tiny))
        diagonal = jnp.vdot(vector, product, precision=lax.Precision.HIGHEST)
        return (basis, following, scale), (diagonal, jnp.where(broken, 0.0, length))

    basis = jnp.zeros((iterations, size), dtype)
    start = (basis, unit(jnp.int32(0), basis), jnp.zeros((), dtype))
    _, (diagonal, beside) = lax.scan(iteration, start, jnp.arange(iterations, dtype=jnp.int32))
    values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1))
    errors = jnp.abs(beside[-1] * vectors[-1])
    return Eigenvalues(values[::-1][:top_k], errors[::-1][:top_k])


def hessian_product(function: Callable[[Any], jax.Array], point: Any, vector: Any) -> Any:
    """Returns the product of a scalar function's Hessian with a vector, forward over reverse.

    Args:
      function: pytree to float scalar.
      point: where the Hessian is taken.
      vector: a pytree as `point`.

    Source: Pearlmutter, Fast Exact Multiplication by the Hessian (1994).
    """
    return jax.jvp(jax.grad(function), (point,), (vector,))[1]
