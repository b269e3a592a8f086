"""Functions of one lane as compiled functions of all: groups under lax.map, lanes of a group under vmap, devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from hpjax import everywhere
from hpjax.devices import cores
from hpjax.ops import native, precision
from hpjax.placement import DATA, LANE, Placement

TOLD = ("chunk", "evaluate", "measure", "inspect")
"""Functions whose results the host reads: where other processes have some of the lanes, all are told of all lanes."""


class Mapper(Placement):
    """Maps functions over lanes and devices, and compiles them."""

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
