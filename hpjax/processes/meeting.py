"""The pre-flight: all processes of a run meet at process 0 over TCP before JAX's runtime starts.

JAX's runtime aborts in C++ where a process is missing, comes twice or elsewhere; here each of these is one line for all.
"""

import contextlib
import errno
import importlib.metadata
import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import hpjax
from hpjax.errors import ConfigError
from hpjax.processes import second_port
from hpjax.processes.channel import Channel
from hpjax.processes.detect import Place

PROTOCOL = "hpjax-processes-1"
SECONDS_BETWEEN_TRIES = 0.2
SECONDS_FOR_A_HELLO = 5.0
GRACE = 5.0
"""Seconds more than its own patience that a process waits for process 0's word: one line from there says what is wrong."""


class Met(NamedTuple):
    """What a meeting came to.

    Attributes:
      channels: by process: of process 0 all others, of another process 0 alone.
      names: host and process number of the operating system, by process, for messages.
      address: HOST:PORT for JAX's own coordinator, at process 0.
      local: which of the processes on its host this one is, from 0.
      neighbours: how many there are on its host.
    """

    channels: dict[int, Channel]
    names: dict[int, str]
    address: str
    local: int
    neighbours: int


def hello(place: Place) -> dict[str, Any]:
    """Returns what a process says of itself."""
    versions = f"hpjax {hpjax.__version__}, JAX {importlib.metadata.version('jax')}, Python {sys.version.split()[0]}"
    return {
        "protocol": PROTOCOL,
        "id": place.id,
        "number": place.number,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "versions": versions,
    }


def meet(place: Place, seconds: float) -> Met:
    """Returns the connections to the others once all are there.

    Args:
      place: this process's.
      seconds: how long to wait for the others.

    Raises:
      ConfigError: they do not come, or do not fit together; the same line in every process that is there.
    """
    deadline = time.monotonic() + seconds
    if place.id > 0:
        return _visit(place, deadline, seconds)
    try:
        listener = _listen(place)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise ConfigError(_unusable(place, error)) from None
        # Another process 0 may have come before; it knows what to say.
        return _visit(place, min(deadline, time.monotonic() + SECONDS_FOR_A_HELLO), SECONDS_FOR_A_HELLO)
    with listener:
        return _host(place, listener, deadline, seconds)


def _listen(place: Place) -> socket.socket:
    # On every interface: a scheduler's name for the host may lead to another address than the one that others see.
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    loopback = place.host in ("localhost", "127.0.0.1", "::1")
    return socket.create_server((place.host if loopback else "", place.port), family=family, backlog=place.number)


def _unusable(place: Place, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    problem = f"coordinator_address is '{place.address}', where process 0 cannot listen: {reason}"
    return f"{problem}; expected a free port of its host"


def _host(place: Place, listener: socket.socket, deadline: float, seconds: float) -> Met:
    """Process 0's part: takes in the others, says what is wrong to all of them, else who they are."""
    mine = hello(place)
    channels: dict[int, Channel] = {}
    said: dict[int, Mapping[str, Any]] = {0: mine}
    strangers: list[Channel] = []
    problem = None
    while problem is None and len(said) < place.number:
        listener.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            missing = [str(id_) for id_ in range(place.number) if id_ not in said]
            which = f"process{'es' * (len(missing) > 1)} {_listed(missing)} of {place.number}"
            problem = f"{which} did not come to '{place.address}' within {seconds:.0f} s; expected num_processes processes"
            break
        channel = Channel(connection)
        came = _said(channel)
        if came is None:
            channel.close()
            continue
        if came["id"] in said:
            strangers.append(channel)
            both = f"{_name(said[came['id']])} and {_name(came)}"
            problem = f"process_id {came['id']} is taken twice: by {both}; expected each of 0 to {place.number - 1} once"
            continue
        channels[came["id"]], said[came["id"]] = channel, came
        problem = _mismatch(mine, came)
    everyone = [*channels.values(), *strangers]
    if problem is not None:
        raise _refused(everyone, problem)
    names = {id_: _name(of) for id_, of in sorted(said.items())}
    host = f"[{place.host}]" if ":" in place.host else place.host
    with second_port.opened(place.host, place.number) as second:
        address = f"{host}:{second.getsockname()[1]}"
        for id_, channel in channels.items():
            local, neighbours = _on_host(said, id_)
            channel.send({"names": list(names.values()), "address": address, "local": local, "neighbours": neighbours})
        problem = second_port.shut(channels, names, address)
    if problem is not None:
        raise _refused(everyone, problem)
    for channel in everyone:
        channel.send({"met": True})
    return Met(channels, names, address, *_on_host(said, 0))


def _refused(channels: list[Channel], problem: str) -> ConfigError:
    for channel in channels:
        channel.send({"refused": problem})
        channel.close()
    return ConfigError(problem)


def _visit(place: Place, deadline: float, seconds: float) -> Met:
    """The part of all others: finds process 0 and hears its word."""
    channel = _connected(place, deadline, seconds)
    channel.send(hello(place))
    met = _word(place, channel, "names", deadline + GRACE)
    second_port.tried(channel, place.host, met["address"])
    # The others have as long to try.
    _word(place, channel, "met", time.monotonic() + 2 * second_port.SECONDS_TO_REACH + GRACE)
    return Met({0: channel}, dict(enumerate(met["names"])), met["address"], met["local"], met["neighbours"])


def _word(place: Place, channel: Channel, expected: str, deadline: float) -> dict[str, Any]:
    """Returns process 0's next word; raises ConfigError where it refuses, or it is no process 0."""
    try:
        word = channel.next(deadline)
    except (TimeoutError, ValueError):
        word = None
    if word is not None and expected in word:
        return word
    channel.close()
    if word is not None and "refused" in word:
        raise ConfigError(str(word["refused"]))
    raise ConfigError(
        f"coordinator_address is '{place.address}', where something answers that is no process 0 of this run; expected "
        "its HOST and a port that nothing else uses"
    )


def _connected(place: Place, deadline: float, seconds: float) -> Channel:
    reason = ""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ConfigError(
                f"coordinator_address is '{place.address}', which process {place.id} cannot reach: {reason}, for "
                f"{seconds:.0f} s; expected process 0 there"
            )
        try:
            return Channel(socket.create_connection((place.host, place.port), timeout=max(left, 0.001)))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
        time.sleep(SECONDS_BETWEEN_TRIES)


def _said(channel: Channel) -> dict[str, Any] | None:
    """Returns a hello, or None of someone who is none of us."""
    with contextlib.suppress(TimeoutError, ValueError):
        came = channel.next(time.monotonic() + SECONDS_FOR_A_HELLO)
        if came is not None and came.get("protocol") == PROTOCOL and isinstance(came.get("id"), int):
            return came
    return None


def _mismatch(mine: Mapping[str, Any], came: Mapping[str, Any]) -> str | None:
    for name, setting in (("number", "num_processes"), ("versions", "versions")):
        if came[name] != mine[name]:
            return f"{setting} is {came[name]} in process {came['id']}, {mine[name]} in process 0; expected the same in all"
    return None


def _name(said: Mapping[str, Any]) -> str:
    return f"{said['host']}, process {said['pid']} there"


def _on_host(said: Mapping[int, Mapping[str, Any]], id_: int) -> tuple[int, int]:
    there = sorted(other for other, of in said.items() if of["host"] == said[id_]["host"])
    return there.index(id_), len(there)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
