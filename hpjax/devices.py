"""Devices: one CPU device a core, how many a single run takes, and what makes two runs comparable bit for bit."""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

import hpjax
from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.ops import native

PROBE_ROUNDS = 3
PROBE_SECONDS = 0.15


class Share(NamedTuple):
    """The processes that a run's devices belong to.

    Attributes:
      processes: how many there are; each has as many of the devices as the others.
      local: devices that each has; None asks JAX, of a process that is alone.
    """

    processes: int = 1
    local: int | None = None

    def devices(self, number: int) -> list[jax.Device] | None:
        """Returns the devices of a program that takes `number` of them, process by process; None for JAX's own order."""
        if self.processes == 1:
            return None
        ordered = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        each = number // self.processes
        of = [[device for device in ordered if device.process_index == process] for process in range(self.processes)]
        return [device for devices in of for device in devices[:each]]

    def spanned(self, number: int) -> int:
        """Returns how many processes share a trial that needs `number` devices."""
        return 1 if self.processes == 1 else -(-number // self._local)

    def lane_devices(self, number: int) -> tuple[int, int]:
        """Returns the step and the largest of the numbers of devices that lanes may be spread over.

        All processes take part, with equal shares; the devices of a trial belong to as few processes as can be.

        Args:
          number: devices that share each trial's batches.

        Raises:
          ConfigError: the processes have not so many, or no equal shares of them.
        """
        if number <= self._local:
            return self.processes, self.processes * (self._local // number)
        over = self.spanned(number)
        if number % over or self.processes % over:
            raise ConfigError(
                f"devices is {number}; expected at most the {self._local} that each of {self.processes} processes has, or a "
                "number of which some of them, a divisor of theirs, have equal shares"
            )
        return self.processes // over, self.processes // over

    @property
    def _local(self) -> int:
        return self.local or jax.local_device_count()


ALL = Share()


def cores() -> int:
    """Returns the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configure(neighbours: int = 1) -> str | None:
    """Makes one CPU device a core, if JAX has not started yet and the person has not set a number.

    Args:
      neighbours: processes of the run on this host, which share its cores.

    Returns:
      None, or a line that says what is lost because JAX was started before with fewer CPU devices than there are cores.

    Raises:
      ConfigError: JAX is set to float64, or cannot start.
    """
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise ConfigError("JAX_ENABLE_X64 is set; expected float32, in which hpjax trains: unset it")
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen or jax.config.jax_num_cpu_devices > 0:  # type: ignore[attr-defined]
        return None
    try:
        jax.config.update("jax_num_cpu_devices", max(1, cores() // neighbours))
    except RuntimeError:
        if jax.default_backend() == "cpu" and len(jax.devices()) < cores():
            return (
                f"JAX was started before hpjax with {len(jax.devices())} CPU device(s) for {cores()} cores: lanes and "
                "batches use no more; import hpjax and call hpjax.configure_devices() before the first JAX operation"
            )
    return None


def found() -> int:
    """Starts JAX and returns how many devices it has here; raises ConfigError where it finds none."""
    try:
        return jax.local_device_count()
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"JAX finds no device (JAX_PLATFORMS is '{platforms}'): {reason}") from None


def candidates(
    requested: str, micro_batch_size: int, eval_batch_size: int, lane_devices: int = 1, share: Share = ALL
) -> list[int]:
    """Returns the numbers of devices a single run could share its batch over, the default first.

    Args:
      requested: `auto` or a number.
      micro_batch_size: examples a tick, which the number must divide.
      eval_batch_size: examples an evaluation batch, which the number must divide.
      lane_devices: devices that lanes are spread over, each as many as share a batch.
      share: the processes that have the devices, all of which take part.

    Raises:
      ConfigError: there are fewer devices, or the number does not divide a batch.
    """
    sizes = {"micro_batch_size": micro_batch_size, "eval_batch_size": eval_batch_size}
    if share.processes > 1:
        return [_of_all(requested, sizes, lane_devices, share)]
    present = found()
    if lane_devices > present:
        raise ConfigError(
            f"lane_devices is {lane_devices}; expected at most the {present} that this machine has (with 1 the numbers of a "
            "study's trial may differ by rounding)"
        )
    present //= lane_devices
    if requested != "auto":
        number = int(requested)
        if number > present:
            raise ConfigError(f"devices is {number}; expected at most the {present} that this machine has")
        _check_divides(number, sizes)
        return [number]
    common = math.gcd(micro_batch_size, eval_batch_size)
    largest = max(number for number in range(1, present + 1) if common % number == 0)
    if largest == 1 or jax.default_backend() != "cpu":
        return [largest]
    return [1, largest]


def check_trial(config: Config, share: Share) -> None:
    """Raises ConfigError where a study's trial cannot have the devices that its resolved config asks for."""
    sizes = {"micro_batch_size": config.micro_batch_size or config.batch_size, "eval_batch_size": config.eval_batch_size}
    if share.processes == 1:
        candidates(config.devices, sizes["micro_batch_size"], sizes["eval_batch_size"])
        return
    share.lane_devices(int(config.devices))
    _check_divides(int(config.devices), sizes)


def _of_all(requested: str, sizes: Mapping[str, int], lane_devices: int, share: Share) -> int:
    """Returns how many devices share a batch where several processes have them: a multiple of their number."""
    processes, local = share.processes, share.local or 1
    if lane_devices > 1:
        raise ConfigError(f"lane_devices is {lane_devices}; expected 1 for a run of {processes} processes")
    for name, size in sizes.items():
        if size % processes:
            raise ConfigError(f"{name} is {size}; expected a multiple of num_processes, {processes}")
    if requested == "auto":
        common = math.gcd(*sizes.values())
        return processes * max(each for each in range(1, local + 1) if common % (processes * each) == 0)
    number = int(requested)
    if number % processes:
        raise ConfigError(f"devices is {number}; expected a multiple of num_processes, {processes}")
    if number > processes * local:
        raise ConfigError(f"devices is {number}; expected at most the {processes * local} that {processes} processes have")
    _check_divides(number, sizes)
    return number


def _check_divides(number: int, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if size % number:
            raise ConfigError(f"devices is {number}; expected a divisor of {name}, {size}")


def fastest(choices: list[int], runner: Callable[[int], Callable[[int], Any]]) -> tuple[int, str]:
    """Returns the fastest of several numbers of devices, measured in turn, and a line with the rates.

    Args:
      choices: the numbers.
      runner: for a number, a function that runs so many ticks and returns arrays to wait for.
    """
    runners = {number: runner(number) for number in choices}

    def seconds(number: int, ticks: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(runners[number](ticks))
        return time.perf_counter() - start

    for number in choices:
        seconds(number, 1)
    ticks = max(1, round(PROBE_SECONDS / max(min(seconds(number, 2) / 2 for number in choices), 1e-6)))
    times: dict[int, list[float]] = {number: [] for number in choices}
    for _ in range(PROBE_ROUNDS):
        for number in choices:
            times[number].append(seconds(number, ticks) / ticks)
    rates = {number: 1.0 / statistics.median(times[number]) for number in choices}
    best = max(choices, key=lambda number: rates[number])
    measured = ", ".join(f"{number} device{'s' * (number > 1)} {rates[number]:.4g} ticks/s" for number in choices)
    return best, f"devices: {best} ({measured})"


def identity(width: int, data_devices: int, native_mode: str = "off", processes: int = 1) -> dict[str, Any]:
    """Returns what two runs must share, beside their flags, for the same bits.

    Args:
      width: lanes that run together under vmap.
      data_devices: devices that share a batch.
      native_mode: the setting `native`, resolved.
      processes: how many have those devices; named where there are several, for they sum in another order.
    """
    return {
        "width": width,
        "data_devices": data_devices,
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "cores": cores(),
        "jax": jax.__version__,
        "threefry_partitionable": jax.config.jax_threefry_partitionable,  # type: ignore[attr-defined]
        "matmul_precision": jax.config.jax_default_matmul_precision,  # type: ignore[attr-defined]
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "hpjax": hpjax.__version__,
        "kernels": native.in_use(native_mode),
        **({"processes": processes} if processes > 1 else {}),
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Yields what differs between two identities, one text each."""
    old, new = ({"processes": 1, **identity} for identity in (old, new))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name)} -> {new.get(name)}"
