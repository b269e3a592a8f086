"""The port at which JAX's own coordinator will listen, tried before JAX does: where it is shut, JAX aborts in C++."""

import socket
import time
from collections.abc import Mapping

from hpjax.processes.channel import Channel

SECONDS_TO_REACH = 4.0
"""How long a process tries to reach it."""


def opened(host: str, number: int) -> socket.socket:
    """Returns a listener on a free port of this host, which so many may reach at once; it takes in none."""
    return socket.create_server(("", 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=number)


def tried(channel: Channel, host: str, address: str) -> None:
    """Tells process 0 over `channel` why this process cannot reach the port of `address` on `host`, or that it can."""
    reason = None
    try:
        # Closed by this side first, so that nothing lingers at the port when JAX opens it.
        socket.create_connection((host, int(address.rpartition(":")[2])), timeout=SECONDS_TO_REACH).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    channel.send({"second": reason})


def shut(channels: Mapping[int, Channel], names: Mapping[int, str], address: str) -> str | None:
    """Returns what is wrong where one of the others cannot reach the port, or None, once all have tried."""
    deadline = time.monotonic() + 2 * SECONDS_TO_REACH
    for id_, channel in channels.items():
        try:
            said = channel.next(deadline)
        except (TimeoutError, ValueError):
            said = None
        reason = "it was lost meanwhile" if said is None else said["second"]
        if reason is not None:
            return (
                f"process {id_} ({names[id_]}) cannot reach '{address}', where JAX will listen: {reason}; expected all "
                "ports open between the hosts of a run"
            )
    return None
