"""States on their way: out of their lanes, into others, to the host."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from hpjax import everywhere, packing, zero
from hpjax.placement import LANE, Placement
from hpjax.state import TrialState

BYTES_AT_ONCE = 2**28
"""Of the lanes' states that `fetch` puts on every device at the same time, unless one lane of each device takes more."""


class Moves(Placement):
    """What moves states between lanes, devices and the host.

    An optimizer's state that is shared out lies flat, in parts; what is taken out of a lane has its arrays whole, in the
    shapes of `_whole`.
    """

    _whole: Any = None

    def fetch(self, tree: Any) -> Any:
        """Returns a pytree of arrays [lanes, ...], `states` or `results`, as NumPy arrays; waits for the device.

        Where other processes have some of the lanes, all must come here, and all are given all lanes.
        """
        if not self.spans:
            return jax.device_get(tree)
        over, each = self.layout.lane_devices, self.layout.lanes // self.layout.lane_devices
        of_lane = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) // self.layout.lanes
        most = max(1, BYTES_AT_ONCE // max(of_lane * over, 1))
        rows = max(number for number in range(1, each + 1) if each % number == 0 and number <= most)
        parts = [jax.device_get(self._rows(tree, np.int32(first), rows)) for first in range(0, each, rows)]

        def joined(*of_leaf: np.ndarray) -> np.ndarray:
            shape = of_leaf[0].shape[1:]
            return np.concatenate([part.reshape(over, rows, *shape) for part in of_leaf], axis=1).reshape(-1, *shape)

        return jax.tree.map(joined, *parts)

    def fetch_one(self, tree: Any, lane: int) -> Any:
        """Returns one lane's part of what `fetch` returns, where other processes have some of the lanes; moves no more."""
        return jax.device_get(self._one(tree, np.int32(lane)))

    def take(self, states: TrialState, lane: int) -> TrialState:
        """Returns the state of one lane, without a lane axis, in buffers of its own."""
        return self._take(states, np.int32(lane))

    def put(self, states: TrialState, lane: int, state: TrialState) -> TrialState:
        """Returns the states with `state` in the given lane. `states` is donated."""
        return self._put(states, np.int32(lane), state)

    def park(self, states: TrialState) -> jax.Array:
        """Returns the states as rows, uint32 [lanes, words] (`packing`), in a buffer of their own."""
        return self._park(states)

    def unpark(self, states: TrialState, rows: np.ndarray, mask: np.ndarray) -> TrialState:
        """Returns the states with that of a row of `park`, in every lane where `mask` (bool [lanes]) is True.

        `states` is donated.
        """
        return self._unpark(states, *self._placed((rows, mask), PartitionSpec(LANE)))

    @functools.cached_property
    def _take(self) -> Callable[..., Any]:
        def take(states: TrialState, lane: jax.Array) -> TrialState:
            self._count("take")
            if self.spans:
                return self._one(states, lane)
            state = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, lane, keepdims=False), states)
            if not self.trial.is_shared_out:
                return state
            return state._replace(optimizer=jax.tree.map(zero.unflattened, state.optimizer, self._whole))

        return jax.jit(take, out_shardings=NamedSharding(self.mesh, PartitionSpec()))

    @functools.cached_property
    def _one(self) -> Callable[..., Any]:
        """One lane's arrays on every device, where XLA's own way is to gather all lanes there first."""
        each = self.layout.lanes // self.layout.lane_devices

        def one(tree: Any, lane: jax.Array) -> Any:
            rows = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, lane % each, 1), tree)
            found = everywhere.chosen(rows, LANE, lax.axis_index(LANE) == lane // each)
            return jax.tree.map(lambda leaf: leaf[0], found)

        specs = (PartitionSpec(LANE), PartitionSpec())
        return jax.jit(jax.shard_map(one, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False))

    @functools.cached_property
    def _rows(self) -> Callable[..., Any]:
        """Gathers some lanes of each device, as many from a first one on, device after device."""

        def gather(tree: Any, first: jax.Array, rows: int) -> Any:
            def some(tree: Any, first: jax.Array) -> Any:
                of_device = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, first, rows), tree)
                return everywhere.gathered(of_device, LANE)

            specs = (PartitionSpec(LANE), PartitionSpec())
            return jax.shard_map(some, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)(
                tree, first
            )

        return jax.jit(gather, static_argnums=2)

    @functools.cached_property
    def _put(self) -> Callable[..., Any]:
        def put(states: TrialState, lane: jax.Array, state: TrialState) -> TrialState:
            self._count("put")
            if self.trial.is_shared_out:
                flat = jax.tree.map(lambda leaf: zero.flattened(leaf, self.layout.data_devices), state.optimizer)
                state = state._replace(optimizer=flat)
            return jax.tree.map(lambda all_, one: lax.dynamic_update_index_in_dim(all_, one, lane, 0), states, state)

        return jax.jit(put, donate_argnums=0, out_shardings=self._shardings(self._states_lie))

    @functools.cached_property
    def _park(self) -> Callable[..., Any]:
        def park(states: TrialState) -> jax.Array:
            self._count("park")
            return jax.vmap(packing.pack)(states)

        # A trial may go on in a lane of another process: then each of them has all rows.
        return jax.jit(park, out_shardings=NamedSharding(self.mesh, PartitionSpec() if self.spans else PartitionSpec(LANE)))

    @functools.cached_property
    def _unpark(self) -> Callable[..., Any]:
        def unpark(states: TrialState, rows: jax.Array, mask: jax.Array) -> TrialState:
            self._count("unpark")

            def of_lane(state: TrialState, row: jax.Array, parked: jax.Array) -> TrialState:
                return jax.tree.map(lambda new, old: jnp.where(parked, new, old), packing.unpack(row, state), state)

            return jax.vmap(of_lane)(states, rows, mask)

        return jax.jit(unpark, donate_argnums=0, out_shardings=self._shardings(self._states_lie))
