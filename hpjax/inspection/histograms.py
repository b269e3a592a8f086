"""Histograms with the bucket limits that TensorBoard itself uses: fixed, so that a compiled program can count."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hpjax.inspection.layers import wide
from hpjax.tensorboard import summary_pb2

SMALLEST, LARGEST, GROWTH = 1e-12, 1e20, 1.1


def _limits() -> np.ndarray:
    positive = list(itertools.takewhile(lambda v: v < LARGEST, itertools.accumulate(itertools.repeat(SMALLEST), _grown)))
    most = float(np.finfo(np.float32).max)
    return np.array([-v for v in reversed(positive)] + [0.0] + positive + [most])


def _grown(value: float, _: float) -> float:
    return value * GROWTH


LIMITS = _limits()
"""float64 [buckets], rising: the upper limits of the buckets; a bucket has values `LIMITS[i-1] <= v < LIMITS[i]`."""


class Histogram(NamedTuple):
    """How often the finite values of an array fall into each bucket, and their sums.

    Attributes:
      counts: int32 [buckets].
      min: float scalar, +inf if there is no finite value.
      max: likewise, -inf.
      sum: float scalar.
      sum_squares: float scalar.
    """

    counts: jax.Array
    min: jax.Array
    max: jax.Array
    sum: jax.Array
    sum_squares: jax.Array


def histogram(array: jax.Array, axis: str | None = None) -> Histogram:
    """Returns the histogram of an array; NaN and infinities are not counted.

    Args:
      array: float [...], fewer than 2^31 entries; taken as float32 where it is narrower.
      axis: name of the mapped axis over which it is sharded; None where every shard has all of it.
    """
    array = wide(array).reshape(-1)
    finite = jnp.isfinite(array)
    limits = jnp.asarray(LIMITS, array.dtype)
    bucket = jnp.minimum(jnp.searchsorted(limits, array, side="right"), len(LIMITS) - 1)
    counts = jnp.zeros(len(LIMITS), jnp.int32).at[bucket].add(finite.astype(jnp.int32))
    least, most = jnp.where(finite, array, jnp.inf).min(), jnp.where(finite, array, -jnp.inf).max()
    values = jnp.where(finite, array, 0.0)
    sums = jnp.sum(values), jnp.sum(values**2)
    if axis is not None:
        counts, sums = lax.psum((counts, sums), axis)
        least, most = lax.pmin(least, axis), lax.pmax(most, axis)
    return Histogram(counts, least, most, *sums)


def proto(found: Histogram) -> Any:
    """Returns a histogram as TensorBoard stores it; empty buckets at both ends are left out.

    Args:
      found: NumPy arrays of one histogram.
    """
    counts = np.asarray(found.counts)
    filled = np.flatnonzero(counts)
    if not filled.size:
        return summary_pb2.HistogramProto(num=0.0)  # type: ignore[attr-defined]
    # An empty bucket before the first one: its limit is where that one begins.
    first, end = max(int(filled[0]) - 1, 0), int(filled[-1]) + 1
    return summary_pb2.HistogramProto(  # type: ignore[attr-defined]
        min=float(found.min),
        max=float(found.max),
        num=float(counts.sum()),
        sum=float(found.sum),
        sum_squares=float(found.sum_squares),
        bucket_limit=LIMITS[first:end].tolist(),
        bucket=counts[first:end].astype(float).tolist(),
    )
