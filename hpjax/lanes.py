"""The lane program: many trials, stacked, in one compiled program.

A lane is a slot of the stacked state. Lanes are spread over the mesh axis `lane`; a device takes its lanes in groups of
`width`, group after group (`lax.map`), the lanes of a group together (`vmap`). Within one width a trial's bits do not depend
on the number of lanes, its lane or its neighbours; another width is another program and rounds differently.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from hpjax.batch import Examples
from hpjax.inspection.measure import Measured, measure
from hpjax.inspection.settings import Inspections
from hpjax.mapping import Mapper
from hpjax.moves import Moves
from hpjax.placement import LANE, Layout
from hpjax.state import FOREVER, TrialState, Values
from hpjax.trial import Trial


class LaneProgram(Mapper, Moves):
    """The compiled functions of one compile group. `trial` has the static part; everything else is an argument.

    `states` is a `TrialState` whose leaves have a leading lane axis; `values` a dict of arrays [lanes]. Attributes: see
    `Placement`.
    """

    def __init__(self, trial: Trial, layout: Layout, devices: Sequence[jax.Device] | None = None):
        super().__init__(trial, layout, devices)
        self._inspections: dict[Inspections, Callable[..., Any]] = {}

    def init(self, values: Values, examples: Examples) -> TrialState:
        """Returns the states of new trials."""
        if self.trial.is_shared_out and self._whole is None:
            alone = dataclasses.replace(self.trial, data_axis=None)
            first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), values)
            self._whole = jax.eval_shape(alone.init, first, examples).optimizer
        return self._init(values, examples)

    def chunk(
        self, states: TrialState, values: Values, examples: Examples, ticks: int | np.ndarray
    ) -> tuple[TrialState, dict[str, jax.Array]]:
        """Runs every lane for at most `ticks` ticks, fewer where its trial ends or diverges. shard_map donates `states`.

        Args:
          states: the lanes.
          values: their values.
          examples: the data set.
          ticks: a number for all lanes, or int32 [lanes].

        Returns:
          The new states, and what `Trial.report` returns, stacked [lanes], in buffers of its own.
        """
        return self._chunk(states, values, np.broadcast_to(np.asarray(ticks, np.int32), self.layout.lanes), examples)

    def compiled_chunk(self, states: TrialState, values: Values, examples: Examples) -> Any:
        """Returns `chunk` compiled ahead of its first call, as JAX has it (with its memory analysis), for shard_map."""
        return self._chunk.lower(states, values, np.zeros(self.layout.lanes, np.int32), examples).compile()

    def evaluate(
        self, states: TrialState, examples: Examples, start: int | np.ndarray, size: int | np.ndarray
    ) -> dict[str, jax.Array]:
        """Returns what every lane measures over a split: arrays [lanes, ...] by name.

        Args:
          states: the lanes.
          examples: the data set.
          start: the split's first example, a number for all lanes or int32 [lanes].
          size: examples of the split, likewise.
        """
        starts, sizes = (np.broadcast_to(np.asarray(value, np.int32), self.layout.lanes) for value in (start, size))
        return self._evaluate(states, starts, sizes, examples, np.int32(sizes.max()))

    def measure(self, results: Any, examples: Examples, start: int, size: int) -> dict[str, jax.Array]:
        """Returns what `evaluate` does, of `Trial.result` of every lane, a pytree of arrays [lanes, ...]."""
        starts = np.full(self.layout.lanes, start, np.int32)
        placed = jax.device_put(results, NamedSharding(self.mesh, PartitionSpec(LANE)))
        return self._measure(placed, starts, examples, np.int32(size))

    def observe(self, states: TrialState, values: Values, measured: dict[str, jax.Array]) -> TrialState:
        """Shows every lane what `evaluate` gave for the validation split, for its plateau schedule. `states` is donated."""
        return self._observe(states, values, {self.trial.observed[0]: measured[self.trial.observed[0]]})

    def inspect(self, states: TrialState, values: Values, examples: Examples, asked: Inspections) -> Measured:
        """Returns what is found inside every lane: arrays and histograms [lanes, ...] by name; nothing is changed."""
        if asked not in self._inspections:
            found = functools.partial(measure, self.trial, asked)
            self._inspections[asked] = self._mapped("inspect", self._over_lanes(found, lanewise=2), lanewise=2)
        return self._inspections[asked](states, values, examples)

    def refill(self, states: TrialState, values: Values, examples: Examples, mask: np.ndarray) -> TrialState:
        """Returns the states with a new trial, from `values`, in every lane where `mask` (bool [lanes]) is True.

        `states` is donated.
        """
        return self._refill(states, values, examples, np.asarray(mask))

    def results(self, states: TrialState) -> dict[str, Any]:
        """Returns `Trial.result` of every lane, stacked, in buffers of its own."""
        return self._results(states)

    @functools.cached_property
    def _init(self) -> Callable[..., Any]:
        return self._mapped("init", self._over_lanes(self.trial.init, lanewise=1), lanewise=1)

    @functools.cached_property
    def _evaluate(self) -> Callable[..., Any]:
        def evaluate(
            state: TrialState, start: jax.Array, size: jax.Array, examples: Examples, most: jax.Array
        ) -> dict[str, jax.Array]:
            return self.trial.evaluate(state, examples, start, size, most)

        return self._mapped("evaluate", self._over_lanes(evaluate, lanewise=3), lanewise=3)

    @functools.cached_property
    def _measure(self) -> Callable[..., Any]:
        def measured(result: Any, start: jax.Array, examples: Examples, size: jax.Array) -> dict[str, jax.Array]:
            return self.trial.measured(result, examples, start, size)

        return self._mapped("measure", self._over_lanes(measured, lanewise=2), lanewise=2)

    @functools.cached_property
    def _observe(self) -> Callable[..., Any]:
        return self._mapped("observe", self._over_lanes(self.trial.observe, lanewise=3), lanewise=3, donate=True)

    @functools.cached_property
    def _refill(self) -> Callable[..., Any]:
        def refill(state: TrialState, values: Values, mask: jax.Array, examples: Examples) -> TrialState:
            return lax.cond(mask, lambda: self.trial.init(values, examples), lambda: state)

        mapped = self._mapped("refill", self._over_lanes(refill, lanewise=3), lanewise=3, donate=True)
        return lambda states, values, examples, mask: mapped(states, values, mask, examples)

    @functools.cached_property
    def _chunk(self) -> Any:
        trial, width = self.trial, self.layout.width
        if trial.share_batches and width > 1:
            return self._mapped("chunk", self._over_groups(self._in_step, lanewise=3), lanewise=3, donate=True)
        over = (lambda f, axes: f) if width == 1 else jax.vmap
        tick = over(trial.tick, (0, 0, None, 0))
        active = over(trial.active, (0, 0, 0))
        report = over(trial.report, (0,))

        def group(states: TrialState, values: Values, ticks: jax.Array, examples: Examples) -> Any:
            stop, most = states.tick + ticks, jnp.max(ticks)

            def running(carry: tuple[jax.Array, TrialState]) -> jax.Array:
                return (carry[0] < most) & jnp.any(active(carry[1], values, stop))

            def body(carry: tuple[jax.Array, TrialState]) -> tuple[jax.Array, TrialState]:
                return carry[0] + 1, tick(carry[1], values, examples, stop)

            _, states = lax.while_loop(running, body, (jnp.int32(0), states))
            return states, report(states)

        return self._mapped("chunk", self._over_groups(group, lanewise=3), lanewise=3, donate=True)

    def _in_step(self, states: TrialState, values: Values, ticks: jax.Array, examples: Examples) -> Any:
        """A group's chunk in which a micro-batch is read once for all lanes that are at its tick.

        The lanes furthest behind go, the others wait for them: what a trial sees depends on its own tick alone.
        """
        trial, stop = self.trial, states.tick + ticks
        active = jax.vmap(trial.active)
        of_all = {name: values[name][0] for name in ("data_seed", "fold")}

        def body(states: TrialState) -> TrialState:
            now = jnp.min(jnp.where(active(states, values, stop), states.tick, FOREVER))
            read = trial.read(now, of_all, examples)
            here = jnp.where(states.tick == now, stop, 0)
            return jax.vmap(trial.tick_on, (0, 0, None, 0))(states, values, read, here)

        states = lax.while_loop(lambda states: jnp.any(active(states, values, stop)), body, states)
        return states, jax.vmap(trial.report)(states)

    @functools.cached_property
    def _results(self) -> Callable[..., Any]:
        return self._mapped("results", self._over_lanes(self.trial.result, lanewise=1), lanewise=1)
