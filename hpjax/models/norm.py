"""Normalisation layers by name (`--norm`)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hpjax import errors
from hpjax.models.training import Training
from hpjax.ops import batch_norm, normalise
from hpjax.ops.activations import activate
from hpjax.ops.batch_norm import moments, scaled

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
    def __call__(
        self,
        x: jax.Array,
        training: Training | None = None,
        residual: jax.Array | None = None,
        activation: str = "none",
        twice: bool = False,
    ) -> Any:
        """Returns the activation of the norm of x and `residual` together, float [batch, ..., channels].

        Args:
          x: float [batch, ..., channels].
          training: None at evaluation.
          residual: added to the norm, shaped as x; None adds nothing.
          activation: a name in `ACTIVATIONS`.
          twice: whether it is given as a pair, for two layers that use it; see `ops.batch_norm`.
        """
        if self.kind not in KINDS:
            raise errors.unknown("norm", self.kind, KINDS)
        if self.kind == "none":
            return _finished(x, residual, activation, twice)
        channels = x.shape[-1]
        start = nn.initializers.zeros_init() if self.zero else nn.initializers.ones_init()
        scale = self.param("scale", start, (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        if self.kind in ("batch", "frozen_batch"):
            return self._batch(x, training, scale, bias, residual, activation, twice)
        mean, variance = moments(x, (x.ndim - 1,)) if self.kind == "layer" else self._group(x)
        return _finished(scaled(x, mean, variance, scale, bias, self.epsilon), residual, activation, twice)

    def _batch(self, x: jax.Array, training: Training | None, *rest: Any) -> Any:
        *operands, activation, twice = rest
        average = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1:], jnp.float32)
        spread = self.variable("batch_stats", "var", jnp.ones, x.shape[-1:], jnp.float32)
        how = {"activation": activation, "epsilon": self.epsilon}
        if training is None or self.kind == "frozen_batch":
            y = normalise(x, average.value, spread.value, *operands, **how)
            return (y, y) if twice else y
        y, mean, variance = batch_norm(x, *operands, axis_name=training.data_axis, twice=twice, **how)
        if self.is_mutable_collection("batch_stats"):
            for kept, new in ((average, mean), (spread, variance)):
                kept.value = self.momentum * kept.value + (1.0 - self.momentum) * new.astype(kept.value.dtype)
        return y

    def _group(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        channels = x.shape[-1]
        groups = max(divisor for divisor in range(1, min(self.groups, channels) + 1) if channels % divisor == 0)
        grouped = x.reshape(*x.shape[:-1], groups, channels // groups)
        of_groups = moments(grouped, (*range(1, x.ndim - 1), x.ndim))
        places = (x.shape[0], *(1,) * (x.ndim - 2))
        return tuple(jnp.repeat(m.reshape(*places, groups), channels // groups, axis=-1) for m in of_groups)  # type: ignore


def _finished(y: jax.Array, residual: jax.Array | None, activation: str, twice: bool) -> Any:
    y = activate(activation, y if residual is None else y + residual)
    return (y, y) if twice else y
