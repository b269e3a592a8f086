"""JAX's distributed runtime, started once all processes have met."""

import ctypes
import signal

import jax

from hpjax import devices
from hpjax.errors import ConfigError
from hpjax.processes.detect import Place
from hpjax.processes.meeting import Met


def start(place: Place, met: Met, seconds: int) -> None:
    """Starts JAX's runtime, and leaves every process its share of its host's cores or GPUs.

    Args:
      place: this process's.
      met: what the meeting came to.
      seconds: how long JAX waits for the others.

    Raises:
      ConfigError: JAX had been started before, for one process.
    """
    # SIGTERM is ours: every process saves at the same step and leaves, see `Team.pace`.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    devices.configure(met.neighbours)
    _hold_aborts()
    try:
        jax.distributed.initialize(
            met.address,
            place.number,
            place.id,
            # Of GPUs one a process where several processes share a host; without effect on CPUs and TPUs.
            local_device_ids=[met.local] if met.neighbours > 1 else None,
            cluster_detection_method="deactivate",
            initialization_timeout=seconds,
            # Ours are quicker and say who; JAX aborts.
            heartbeat_timeout_seconds=100,
            shutdown_timeout_seconds=30,
        )
    except RuntimeError as error:
        if "must be called before" not in str(error):
            raise
        raise ConfigError(
            "JAX was started before hpjax.run, for one process; expected no JAX operation before it in a run of several"
        ) from None


def _hold_aborts() -> None:
    """Lets a thread that aborts sleep for some seconds first.

    JAX aborts from a C++ thread as soon as process 0 is gone; meanwhile the watcher says who went, and ends this process.
    """
    libc = ctypes.CDLL(None)
    # The handler is called with the signal's number, 6: so many seconds. Then `abort` does what it always does.
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
