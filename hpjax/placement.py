"""Where lanes and their data lie: a mesh of devices, and how arrays are put on it."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hpjax.batch import Examples
from hpjax.state import TrialState, Values
from hpjax.trial import Trial

LANE, DATA = "lane", "data"


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


class Placement:
    """A trial's lanes on devices.

    Attributes:
      layout: how they lie on the devices.
      trial: the trial that the lanes run, sharded as the layout says.
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
        # What lies on the devices by name: most values of a new trial are those of the lane's last.
        self._values: dict[str, tuple[np.ndarray, jax.Array]] = {}
        if self.trial.is_shared_out and layout.parallel == "pmap":
            raise ValueError("pmap maps one axis: use shard_map to share an optimizer's state out")
        self._meet()

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

    def _meet(self) -> None:
        """Has the devices of several processes sum a number, along each axis that they share.

        Where processes meet by gloo they wait 30 s for each other, the first time; later as long as it takes. Compiling may
        take one of them that much longer.
        """
        for axes in ((LANE,), (DATA,), (LANE, DATA)):
            if self._crosses(axes):
                # A number of each device, or nothing would be left to be summed.
                numbers = self._placed(np.zeros(self.mesh.devices.shape, np.float32), PartitionSpec(LANE, DATA))
                total = jax.shard_map(
                    lambda one, axes=axes: lax.psum(one, axes),
                    mesh=self.mesh,
                    in_specs=PartitionSpec(LANE, DATA),
                    out_specs=PartitionSpec(*(None if axis in axes else axis for axis in (LANE, DATA))),
                    check_vma=False,
                )
                jax.block_until_ready(jax.jit(total)(numbers))

    def _crosses(self, axes: tuple[str, ...]) -> bool:
        """Returns whether devices along some axes are of several processes."""
        process = np.vectorize(lambda device: device.process_index)(self.mesh.devices)
        along = tuple((LANE, DATA).index(axis) for axis in axes)
        return bool((process.min(along) != process.max(along)).any())

    def _placed(self, tree: Any, spec: PartitionSpec) -> Any:
        """Puts a tree on the mesh; where other processes have a part of it, each puts its own."""
        sharding = NamedSharding(self.mesh, spec)
        if sharding.is_fully_addressable:
            return jax.device_put(tree, sharding)

        def place(leaf: Any) -> jax.Array:
            whole = np.asarray(leaf)
            return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

        return jax.tree.map(place, tree)

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

    def _count(self, name: str) -> None:
        self.traces[name] = self.traces.get(name, 0) + 1
