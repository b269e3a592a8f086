"""The measure of a model over a split: sums on the device, batch by batch, that metrics are made of on the host."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hpjax import metrics
from hpjax.batch import Examples, Reader
from hpjax.losses import LOSSES, weights
from hpjax.metrics import METRICS

COUNT = "count"
"""Name under which the number of items, masked ones left out, stands among what was measured."""


class Measure:
    """Loss and metrics of a model's outputs, as reduced over a split."""

    def __init__(
        self,
        loss: str,
        names: Sequence[str],
        reader: Reader,
        batch_size: int,
        capacity: int,
        masked: bool,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ):
        """Says what to measure.

        Args:
          loss: a name in `LOSSES`, without its traced settings: lanes are measured alike.
          names: names in `METRICS`.
          reader: reads examples.
          batch_size: examples at a time, over all shards.
          capacity: examples of the largest split, for metrics that keep a value of each.
          masked: whether some targets are masked.
          settings: the loss's static settings.
        """
        self._settings = settings
        self._loss, self._names, self._reader = loss, tuple(names), reader
        self._batch_size, self._masked = batch_size, masked
        self._capacity = -(-capacity // batch_size) * batch_size

    def split(
        self,
        outputs: Callable[[jax.Array], jax.Array],
        examples: Examples,
        start: jax.Array,
        size: jax.Array,
        shards: int = 1,
        axis: str | None = None,
        most: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Returns what is measured over a split, reduced, by name; `finish` makes numbers of it.

        Args:
          outputs: the model, inputs to outputs.
          examples: the data set.
          start: int32 scalar, the split's first example (where it lies on a device, of a streamed data set).
          size: int32 scalar, its number of examples.
          shards: devices that share a batch.
          axis: name of the mapped axis they form; None where nothing is mapped.
          most: the largest `size` of what is measured together under vmap, where the number of batches must be one for all.
        """
        most = size if most is None else most
        share = self._batch_size // shards
        shard = 0 if axis is None else lax.axis_index(axis)

        def batch(i: jax.Array, sums: dict[str, jax.Array]) -> dict[str, jax.Array]:
            place = i * self._batch_size + shard * share + jnp.arange(share)
            # Of a streamed data set each device has its own part of every batch, one after the other.
            row = i * share + jnp.arange(share) if self._reader.streamed else jnp.minimum(place, size - 1)
            x, y = self._reader.read(examples, start + row)
            new = self._batch(outputs(x), y, place < size)
            first = i * self._batch_size + shard * share
            return {name: self._reduced(name, sums[name], value, first) for name, value in new.items()}

        empty = jax.eval_shape(lambda: self._batch(*self._example(outputs, examples), jnp.ones(1, bool)))
        zeros = {name: jnp.zeros(self._shape(name, value), value.dtype) for name, value in empty.items()}
        sums = lax.fori_loop(0, -(-most // self._batch_size), batch, zeros)
        if axis is not None:
            sums = lax.psum(sums, axis)
        count = jnp.maximum(sums[COUNT], 1.0)
        return {name: value / count if self._is_mean(name) else value for name, value in sums.items()}

    def _example(self, outputs: Callable[[jax.Array], jax.Array], examples: Examples) -> tuple[jax.Array, jax.Array]:
        x, y = self._reader.read(examples, jnp.zeros(1, jnp.int32))
        return outputs(x), y

    def _batch(self, outputs: jax.Array, y: jax.Array, present: jax.Array) -> dict[str, jax.Array]:
        """Returns what a batch adds: sums of means and their count, statistics summed, or the values of each example."""
        loss = LOSSES.get(self._loss)(outputs, y, **self._settings)
        here = present.reshape(-1, *(1,) * (loss.ndim - 1))
        items = jnp.where(here, weights(y) if self._masked else jnp.ones_like(loss), 0.0)
        result = {COUNT: items.sum(), "loss": jnp.where(items > 0, loss * items, 0.0).sum()}
        for name in self._names:
            value = METRICS.get(name)(outputs, y)
            if metrics.reduction(name) == "mean":
                result[name] = jnp.where(items > 0, value * items, 0).sum()
            elif metrics.reduction(name) == "sum":
                result[name] = jnp.where(present.reshape(-1, *(1,) * (value.ndim - 1)), value, 0).sum(axis=0)
            else:
                result[name] = value
        return result

    def _is_mean(self, name: str) -> bool:
        return name == "loss" or (name != COUNT and metrics.reduction(name) == "mean")

    def _keeps(self, name: str) -> bool:
        return name in self._names and metrics.reduction(name) == "keep"

    def _shape(self, name: str, value: jax.ShapeDtypeStruct) -> tuple[int, ...]:
        return (self._capacity, *value.shape[1:]) if self._keeps(name) else value.shape

    def _reduced(self, name: str, so_far: jax.Array, value: jax.Array, first: jax.Array) -> jax.Array:
        if self._keeps(name):
            return lax.dynamic_update_slice_in_dim(so_far, value, first, axis=0)
        return so_far + value


def finish(
    measured: Mapping[str, np.ndarray], size: int, target_scale: float | Sequence[float] = 1.0
) -> tuple[dict[str, float], dict[str, Any]]:
    """Returns the numbers of a split, and what is no single number, from what `Measure.split` gave for one lane.

    Args:
      measured: arrays on the host, by name.
      size: examples in the split.
      target_scale: of a regression, see `Dataset`.
    """
    numbers: dict[str, float] = {"loss": float(measured["loss"])}
    tables: dict[str, Any] = {}
    for name, value in measured.items():
        if name in ("loss", COUNT):
            continue
        kept = metrics.reduction(name) == "keep"
        result = metrics.finish(name, np.asarray(value)[:size] if kept else np.asarray(value), target_scale)
        if isinstance(result, float):
            # Of outputs that are NaN every example is taken for class 0, which may be most of a split.
            numbers[name] = math.nan if math.isnan(numbers["loss"]) else result
        else:
            tables[name] = result.tolist()
    return numbers, tables
