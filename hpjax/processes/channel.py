"""One line of JSON after the other over TCP, between process 0 and each of the others."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any


class Channel:
    """A connection to another process. Any thread may send; one receives."""

    def __init__(self, connection: socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(True)
        self._connection, self._sending = connection, threading.Lock()
        self._received = b""
        self._waiting: list[dict[str, Any]] = []
        self.heard = time.monotonic()

    def fileno(self) -> int:
        """The connection, for `selectors`."""
        return self._connection.fileno()

    @property
    def has_more(self) -> bool:
        """Whether messages have come that `next` has not returned: `selectors` does not see them."""
        return bool(self._waiting)

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message; one to a process that is gone is lost, and the receiver notices it."""
        line = json.dumps(message).encode() + b"\n"
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(line)

    def receive(self, seconds: float | None = None) -> list[dict[str, Any]] | None:
        """Returns the messages that have come, waiting for some bytes, or None where the other side is gone.

        Args:
          seconds: how long to wait; None waits for ever.

        Raises:
          TimeoutError: nothing comes in time.
          ValueError: what comes is none of our messages.
        """
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            return waiting
        self._connection.settimeout(seconds)
        try:
            came = self._connection.recv(2**16)
        except TimeoutError:
            raise
        except OSError:
            return None
        finally:
            with contextlib.suppress(OSError):
                self._connection.settimeout(None)
        if not came:
            return None
        self.heard = time.monotonic()
        *lines, self._received = (self._received + came).split(b"\n")
        messages = [json.loads(line) for line in lines]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("not an object")
        return messages

    def next(self, deadline: float) -> dict[str, Any] | None:
        """Returns the one message that is due, or None where the other side is gone, by a time of `time.monotonic`.

        Raises:
          TimeoutError, ValueError: see `receive`.
        """
        while True:
            messages = self.receive(max(deadline - time.monotonic(), 0.001))
            if messages is None:
                return None
            if messages:
                self._waiting = messages[1:]
                return messages[0]

    def close(self) -> None:
        """Ends the connection."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
