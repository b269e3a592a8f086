"""Normalisation layers by name (`--norm`)."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from hpjax import errors
from hpjax.models.training import Training

KINDS = ("batch", "group", "layer", "none", "frozen_batch")


@dataclasses.dataclass(frozen=True)
class NormSettings:
    """A model's `norm` settings; `layer` makes a layer of them.

    Attributes:
      kind: a name in `KINDS`.
      momentum: share of the old value in a running average: average = momentum * average + (1 - momentum) * batch, so
        that torch's momentum 0.1 is 0.9 here.
      epsilon: added to the variance.
      groups: most groups of `group`.

    Raises:
      ConfigError: the kind is unknown.
    """

    kind: str = "batch"
    momentum: float = 0.9
    epsilon: float = 1e-5
    groups: int = 32

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise errors.unknown("norm", self.kind, KINDS)

    def layer(self, *, zero: bool = False, name: str | None = None) -> "Norm":
        """Returns a layer; with `zero` its scale starts at zero."""
        return Norm(self.kind, self.momentum, self.epsilon, self.groups, zero, name=name)

    @property
    def shifts(self) -> bool:
        """Whether a layer adds a bias of its own, so that the layer before needs none."""
        return self.kind != "none"


class Norm(nn.Module):
    """Subtracts a mean, divides by the deviation, multiplies by `scale` and adds `bias`, both [channels].

    - `batch`: mean and variance over all but the channels, of the whole micro-batch, the other shards' part included. Their
      running averages, collection `batch_stats`, are what evaluation uses. The variance kept is the batch's own, divided by
      n; torch keeps the one divided by n - 1.
    - `frozen_batch`: the running averages while training too, and they stay as they are: for fine-tuning. Parameters and
      collection are those of `batch`.
    - `group`: over each example's places and a group of channels; as many groups as divide the channels, at most `groups`.
    - `layer`: over the channels of each place.
    - `none`: the input, without parameters.

    Source: Ioffe and Szegedy (2015); Wu and He, Group Normalization (2018); Ba et al., Layer Normalization (2016).
    """

    kind: str = "batch"
    momentum: float = 0.9
    epsilon: float = 1e-5
    groups: int = 32
    zero: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns float [batch, ..., channels], shaped as x; `training` is None at evaluation."""
        if self.kind not in KINDS:
            raise errors.unknown("norm", self.kind, KINDS)
        if self.kind == "none":
            return x
        channels = x.shape[-1]
        start = nn.initializers.zeros_init() if self.zero else nn.initializers.ones_init()
        scale = self.param("scale", start, (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        if self.kind in ("batch", "frozen_batch"):
            mean, variance = self._batch(x, training)
        elif self.kind == "layer":
            mean, variance = _moments(x, (x.ndim - 1,))
        else:
            mean, variance = self._group(x)
        factor = lax.rsqrt(variance + self.epsilon) * _last(scale, x)
        return (x - mean).astype(x.dtype) * factor.astype(x.dtype) + _last(bias, x).astype(x.dtype)

    def _batch(self, x: jax.Array, training: Training | None) -> tuple[jax.Array, jax.Array]:
        channels = x.shape[-1]
        average = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        spread = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if training is None or self.kind == "frozen_batch":
            return _last(average.value, x), _last(spread.value, x)
        mean, variance = _moments(x, tuple(range(x.ndim - 1)), training.data_axis)
        if self.is_mutable_collection("batch_stats"):
            for kept, new in ((average, mean), (spread, variance)):
                batch = lax.stop_gradient(new).reshape(channels).astype(kept.value.dtype)
                kept.value = self.momentum * kept.value + (1.0 - self.momentum) * batch
        return mean, variance

    def _group(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        channels = x.shape[-1]
        groups = max(divisor for divisor in range(1, min(self.groups, channels) + 1) if channels % divisor == 0)
        grouped = x.reshape(*x.shape[:-1], groups, channels // groups)
        moments = _moments(grouped, (*range(1, x.ndim - 1), x.ndim))
        places = (x.shape[0], *(1,) * (x.ndim - 2))
        return tuple(jnp.repeat(m.reshape(*places, groups), channels // groups, axis=-1) for m in moments)  # type: ignore


def _moments(x: jax.Array, axes: tuple[int, ...], axis_name: str | None = None) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance in float32 at least, in two passes: a large mean costs no digits of the variance."""
    x = x.astype(_wide(x))

    def mean(values: jax.Array) -> jax.Array:
        result = values.mean(axes, keepdims=True)
        return result if axis_name is None else lax.pmean(result, axis_name)

    centre = mean(x)
    return centre, mean(jnp.square(x - centre))


def _last(values: jax.Array, x: jax.Array) -> jax.Array:
    return values.reshape((1,) * (x.ndim - 1) + (-1,)).astype(_wide(x))


def _wide(x: jax.Array) -> jnp.dtype:
    """The dtype of statistics: float32 at least."""
    return jnp.dtype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)
