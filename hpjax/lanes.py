"""The lane program: many trials, stacked, in one compiled program.

A lane is a slot of the stacked state. Lanes are spread over the mesh axis `lane`; a device takes its lanes in groups of
`width`, group after group (`lax.map`), the lanes of a group together (`vmap`). Within one width a trial's bits do not depend
on the number of lanes, its lane or its neighbours; another width is another program and rounds differently.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hpjax import everywhere, packing, zero
from hpjax.batch import Examples
from hpjax.devices import cores
from hpjax.inspection.measure import Measured, measure
from hpjax.inspection.settings import Inspections
from hpjax.ops import native, precision
from hpjax.trial import FOREVER, Trial, TrialState, Values

LANE, DATA = "lane", "data"

TOLD = ("chunk", "evaluate", "measure", "inspect")
"""Functions whose results the host reads: where other processes have some of the lanes, all are told of all lanes."""
BYTES_AT_ONCE = 2**28
"""Of the lanes' states that `fetch` puts on every device at the same time, unless one lane of each device takes more."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a program lies on the devices.

    Attributes:
      lanes: slots in all; a multiple of `width` times `lane_devices`.
      width: lanes that run together under vmap; 1 runs them one after the other.
      lane_devices: devices over which the lanes are spread.
      data_devices: devices that share each lane's micro-batch.
      parallel: which transformation maps the devices.
    """

    lanes: int = 1
    width: int = 1
    lane_devices: int = 1
    data_devices: int = 1
    parallel: Literal["shard_map", "pmap"] = "shard_map"

    def __post_init__(self) -> None:
        if self.lanes % (self.width * self.lane_devices):
            raise ValueError(f"{self.lanes} lanes do not divide into width {self.width} on {self.lane_devices} devices")
        if self.parallel == "pmap" and self.lane_devices > 1 and self.data_devices > 1:
            raise ValueError("pmap maps one axis: use shard_map to spread both lanes and data over devices")


class LaneProgram:
    """The compiled functions of one compile group. `trial` has the static part; everything else is an argument.

    `states` is a `TrialState` whose leaves have a leading lane axis; `values` a dict of arrays [lanes].

    Attributes:
      layout: how it lies on the devices.
      trial: the trial that its lanes run, sharded as the layout says.
      mesh: the devices.
      spans: whether other processes have some of the lanes: then all processes call the same functions in the same order.
      traces: how often each function was traced, by name.
    """

    def __init__(self, trial: Trial, layout: Layout, devices: Sequence[jax.Device] | None = None):
        devices = list(devices if devices is not None else jax.devices())
        needed = layout.lane_devices * layout.data_devices
        if len(devices) < needed:
            raise ValueError(f"the layout needs {needed} devices, there are {len(devices)}")
        self.layout = layout
        # One shard needs no collective: an all-reduce among one device still costs a rendezvous every tick.
        axis = DATA if layout.data_devices > 1 else None
        self.trial = dataclasses.replace(trial, data_shards=layout.data_devices, data_axis=axis)
        grid = np.array(devices[:needed]).reshape(layout.lane_devices, layout.data_devices)
        self.mesh = Mesh(grid, (LANE, DATA), axis_types=(AxisType.Auto, AxisType.Auto))
        self.spans = layout.lane_devices > 1 and len({device.process_index for device in devices[:needed]}) > 1
        self.traces: dict[str, int] = {}
        self._inspections: dict[Inspections, Callable[..., Any]] = {}
        # What lies on the devices by name: most values of a new trial are those of the lane's last.
        self._values: dict[str, tuple[np.ndarray, jax.Array]] = {}
        if self.trial.is_shared_out and layout.parallel == "pmap":
            raise ValueError("pmap maps one axis: use shard_map to share an optimizer's state out")
        self._whole: Any = None

    def put_examples(self, examples: Examples) -> Examples:
        """Returns the data set, copied to every device."""
        return self._placed(examples, PartitionSpec())

    def put_shards(self, local: np.ndarray, first: int) -> jax.Array:
        """Returns an array whose first axis is shared out over the devices of a batch.

        Args:
          local: [shards, rows, ...], the parts of this process's devices.
          first: the number of the first of them.
        """
        rows = local.shape[1]
        shape = (self.layout.data_devices * rows, *local.shape[2:])
        sharding = NamedSharding(self.mesh, PartitionSpec(DATA))

        def part(index: Any) -> np.ndarray:
            return local[(index[0].start or 0) // rows - first]

        return jax.make_array_from_callback(shape, sharding, part)

    def shards(self) -> tuple[int, int]:
        """Returns the first and the number of this process's devices among those that share a batch."""
        here = [shard for shard, device in enumerate(self.mesh.devices[0]) if device.process_index == jax.process_index()]
        return here[0], len(here)

    def put_values(self, values: Sequence[Values]) -> Values:
        """Returns the stacked values of `lanes` trials, each lane's on its device."""
        if len(values) != self.layout.lanes:
            raise ValueError(f"{len(values)} trials for {self.layout.lanes} lanes")
        if self.trial.share_batches and len({(int(of["data_seed"]), int(of["fold"])) for of in values}) > 1:
            raise ValueError("the lanes have several data seeds or folds, but share their batches")
        stacked = {name: np.stack([of_lane[name] for of_lane in values]) for name in values[0]}
        for name, value in stacked.items():
            before = self._values.get(name)
            if before is None or before[0].dtype != value.dtype or not np.array_equal(before[0], value):
                self._values[name] = value, self._placed(value, PartitionSpec(LANE))
        return {name: self._values[name][1] for name in stacked}

    def put_states(self, states: TrialState) -> TrialState:
        """Returns the states of `lanes` trials, NumPy arrays [lanes, ...], each lane's on its device."""
        return self._placed(states, PartitionSpec(LANE))

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

    def _over_lanes(self, function: Callable[..., Any], lanewise: int) -> Callable[..., Any]:
        """Maps a function of one lane over all lanes of a device; the first `lanewise` arguments have a lane axis."""
        if self.layout.width == 1:
            return self._over_groups(function, lanewise)

        def grouped(*args: Any) -> Any:
            return jax.vmap(function, (0,) * lanewise + (None,) * (len(args) - lanewise))(*args)

        return self._over_groups(grouped, lanewise)

    def _over_groups(self, function: Callable[..., Any], lanewise: int) -> Callable[..., Any]:
        """Maps a function of one group over a device's groups, one after the other."""
        width = self.layout.width

        def mapped(*args: Any) -> Any:
            stacked, shared = args[:lanewise], args[lanewise:]
            if width > 1:
                stacked = jax.tree.map(lambda leaf: leaf.reshape(-1, width, *leaf.shape[1:]), stacked)
            results = lax.map(lambda group: function(*group, *shared), stacked)
            if width > 1:
                results = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)
            return results

        return mapped

    def _mapped(self, name: str, function: Callable[..., Any], lanewise: int, donate: bool = False) -> Callable[..., Any]:
        """Maps a per-device function over the mesh and compiles it."""

        def counted(*args: Any) -> Any:
            self._count(name)
            # Lanes or shards on other devices have the other cores.
            threads = cores() if self.mesh.size == 1 else 1
            with native.scope(self.trial.native, threads), precision.scope(self.trial.compute_dtype):
                return self._told(name, function(*args))

        if self.layout.parallel == "pmap":
            return self._pmapped(counted, lanewise)

        def sharded(*args: Any) -> Any:
            specs = tuple(self._lies(arg) if i < lanewise else self._shared_lies(arg) for i, arg in enumerate(args))
            # check_vma would sum the gradients of replicated parameters by itself, and pmean would not divide (DESIGN).
            return jax.shard_map(counted, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False)(*args)

        states, lanes = self._states_lie, PartitionSpec() if self.spans and name in TOLD else PartitionSpec(LANE)
        out = {"chunk": (states, lanes), **dict.fromkeys(("init", "refill", "observe"), states)}.get(name, lanes)
        # Said outright: else JAX drops a mesh axis of one device, and after `put` the same chunk would compile once more.
        given: Any = {"donate_argnums": 0 if donate else (), "out_shardings": self._shardings(out)}
        if self.mesh.devices.flat[0].platform == "cpu":
            # XLA splits a program's code into 32 parts for threads: they cost more than they gain where there are few.
            options = {"xla_cpu_parallel_codegen_split_count": max(1, min(32, cores() // 2))}
            # What runs once a trial is not worth the time that its optimisation takes.
            given["compiler_options"] = options | (
                {"xla_backend_optimization_level": 1} if name in ("init", "refill") else {}
            )
        return jax.jit(sharded, **given)

    def _told(self, name: str, result: Any) -> Any:
        """Returns a mapped function's result; what the host reads of it for all lanes where other processes have some."""
        if not self.spans or name not in TOLD:
            return result
        if name == "chunk":
            states, report = result
            return states, everywhere.gathered(report, LANE)
        return everywhere.gathered(result, LANE)

    @property
    def _states_lie(self) -> Any:
        """How states lie on the mesh: lanes on their devices, a shared out optimizer over those of each lane."""
        if not self.trial.is_shared_out:
            return PartitionSpec(LANE)
        lie: dict[str, Any] = {
            **dict.fromkeys(TrialState._fields, PartitionSpec(LANE)),
            "optimizer": PartitionSpec(LANE, DATA),
        }
        return TrialState(**lie)

    def _lies(self, argument: Any) -> Any:
        return self._states_lie if isinstance(argument, TrialState) else PartitionSpec(LANE)

    def _shared_lies(self, argument: Any) -> Any:
        """How what all lanes share lies on the mesh: on every device, but for streamed examples."""
        streamed = isinstance(argument, Examples) and argument.tick is not None
        return self._examples_lie(argument) if streamed else PartitionSpec()

    @staticmethod
    def _examples_lie(examples: Examples) -> Examples:
        lie: Any = jax.tree.map(lambda leaf: PartitionSpec(), examples)
        return lie._replace(x=PartitionSpec(DATA), y=PartitionSpec(DATA))

    def _shardings(self, specs: Any) -> Any:
        of = lambda spec: NamedSharding(self.mesh, spec)  # noqa: E731
        return jax.tree.map(of, specs, is_leaf=lambda spec: isinstance(spec, PartitionSpec))

    def _pmapped(self, function: Callable[..., Any], lanewise: int) -> Callable[..., Any]:
        """Maps a per-device function by pmap; its arguments and results keep the form they have under shard_map."""
        lane_devices = self.layout.lane_devices
        over_lanes = lane_devices > 1
        devices = list(self.mesh.devices.flat)
        # pmap wants one mapped argument, and a program over data alone has none: the devices' numbers are one.
        numbers = np.arange(len(devices))

        @functools.cache
        def compiled(arguments: int) -> Callable[..., Any]:
            axes = tuple(0 if over_lanes and i < lanewise else None for i in range(arguments))
            return jax.pmap(
                lambda number, *args: function(*args),
                axis_name=LANE if over_lanes else DATA,
                in_axes=(0, *axes),
                out_axes=0 if over_lanes else None,  # type: ignore[arg-type]
                devices=devices,
            )

        def split(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf.reshape(lane_devices, -1, *leaf.shape[1:]), tree)

        def join(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)

        def mapped(*args: Any) -> Any:
            if not over_lanes:
                results = compiled(len(args))(numbers, *args)
            else:
                args = tuple(split(arg) if i < lanewise else arg for i, arg in enumerate(args))
                results = join(compiled(len(args))(numbers, *args))
            return jax.device_put(results, NamedSharding(self.mesh, PartitionSpec(LANE)))

        return mapped

    def _placed(self, tree: Any, spec: PartitionSpec) -> Any:
        """Puts a tree on the mesh; where other processes have a part of it, each puts its own."""
        sharding = NamedSharding(self.mesh, spec)
        if sharding.is_fully_addressable:
            return jax.device_put(tree, sharding)

        def place(leaf: Any) -> jax.Array:
            whole = np.asarray(leaf)
            return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

        return jax.tree.map(place, tree)

    def _count(self, name: str) -> None:
        self.traces[name] = self.traces.get(name, 0) + 1
