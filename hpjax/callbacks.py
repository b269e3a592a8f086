"""Functions of a user's own that look on while a run trains: `--callback=package.module:name`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from hpjax.registry import Registry
from hpjax.state import TrialState


@dataclasses.dataclass(frozen=True)
class ChunkEnd:
    """What a callback is shown at a log point, an evaluation or a checkpoint; all of it is read-only.

    Attributes:
      step: optimizer steps done.
      train_steps: steps of the whole run.
      metrics: what was measured there, by name (`train/loss`, `val/accuracy`, ...); read-only.
    """

    step: int
    train_steps: int
    metrics: Mapping[str, float]
    _snapshot: TrialState = dataclasses.field(repr=False)

    @functools.cached_property
    def state(self) -> TrialState:
        """The trial's state as read-only NumPy arrays; copied from the device when first asked for."""

        def frozen(leaf: Any) -> np.ndarray:
            array = np.array(leaf)
            array.flags.writeable = False
            return array

        return jax.tree.map(frozen, jax.device_get(self._snapshot))


Callback = Callable[[ChunkEnd], Any]
CALLBACKS: Registry[Callback] = Registry("callback")


class Callbacks:
    """The callbacks of one run."""

    def __init__(self, names: Sequence[str]):
        """Loads them.

        Raises:
          ConfigError: a name that leads to no function, or to one that does not take a `ChunkEnd`.
        """
        for name in names:
            CALLBACKS.check_call(name, "chunk_end")
        self._callbacks = [CALLBACKS.get(name) for name in names]

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def call(self, step: int, train_steps: int, metrics: Mapping[str, float], snapshot: TrialState) -> None:
        """Shows every callback a chunk's end."""
        for callback in self._callbacks:
            callback(ChunkEnd(step, train_steps, MappingProxyType(dict(metrics)), snapshot))
