"""The processes of one run while it goes on: what process 0 decides all follow, and nobody waits for one that is gone.

Beside JAX's collectives, which say nothing of why they fail, and its coordination service, which aborts in C++.
"""

import atexit
import os
import queue
import selectors
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from hpjax.command import BAD_INPUT
from hpjax.errors import HpjaxError
from hpjax.processes.channel import Channel
from hpjax.processes.detect import Place
from hpjax.processes.meeting import Met

LOST = 3
"""Exit code where another process was lost."""
SECONDS_BETWEEN_PINGS = 5.0
SECONDS_OF_SILENCE = 30.0
"""After which a process counts as lost whose connection has not even closed."""
SECONDS_FOR_LAST_WORDS = 3.0


class Alone:
    """A run of one process."""

    id, number, neighbours, local = 0, 1, 1, 0
    first = True

    def agreed(self, value: Any, what: str) -> Any:
        """Returns the value that process 0 has, JSON, in every process; all must come here, with the same `what`."""
        return value

    def gathered(self, value: Any, what: str) -> list[Any]:
        """Returns the values of all processes in their order, JSON, in every process."""
        return [value]

    def pace(self, look: int, signal: int | None) -> tuple[int, int | None]:
        """Returns process 0's `look`, and the signal at which all stop now: one that any process got, or None."""
        return look, signal

    def fail(self, error: BaseException) -> None:
        """Tells the others of an error that ends this process."""

    def at_end(self, hook: Callable[[str], None] | None) -> None:
        """Has `hook` called with the reason where another process's end ends this one; None calls none."""


ALONE = Alone()


class Team(Alone):
    """A run of several processes, from one of them.

    Attributes:
      id: which process this is, from 0.
      number: how many there are.
      first: whether it is process 0, which decides and writes.
      local: which of the processes on its host this one is.
      neighbours: how many are on its host.
    """

    def __init__(self, place: Place, met: Met):
        self.id, self.number = place.id, place.number
        self.first = place.id == 0
        self.local, self.neighbours = met.local, met.neighbours
        self._names, self._channels = met.names, met.channels
        self._values: dict[int, queue.Queue[dict[str, Any]]] = {id_: queue.Queue() for id_ in met.channels}
        self._signal: int | None = None
        self._told: int | None = None
        self._stopped = False
        self._left: set[int] = set()
        # Set once all have come to their end, after which none can be lost any more.
        self._over = threading.Event()
        self._code: int | None = None
        # Whoever holds it says why this process ends; nobody gives it back.
        self._last_word = threading.Lock()
        self._hook: Callable[[str], None] | None = None
        threading.Thread(target=self._watch, daemon=True, name="processes").start()
        # Called before JAX's own, which was registered when it was imported and waits for all processes.
        atexit.register(self._leave)

    def agreed(self, value: Any, what: str) -> Any:
        """See `Alone`."""
        if self.first:
            self._tell({"value": value, "what": what})
            return value
        return self._next(0, what)

    def gathered(self, value: Any, what: str) -> list[Any]:
        """See `Alone`."""
        if self.first:
            return self.agreed([value] + [self._next(id_, what) for id_ in sorted(self._channels)], what)
        self._tell({"value": value, "what": what})
        return self._next(0, what)

    def pace(self, look: int, signal: int | None) -> tuple[int, int | None]:
        """See `Alone`."""
        if not self.first and signal is not None and self._told is None:
            self._told = signal
            self._tell({"signal": signal})
        # Process 0's word alone counts: a signal that comes here after it was spoken waits for the next one.
        look, stop = self.agreed([look, signal or self._signal], "pace")
        self._stopped = stop is not None
        return look, stop

    def fail(self, error: BaseException) -> None:
        """See `Alone`."""
        left_alike = self._stopped and not isinstance(error, Exception)
        if left_alike or self._code is not None:
            return
        if isinstance(error, HpjaxError):
            text, code = " ".join(str(error).split()), BAD_INPUT
        else:
            # A collective whose other side is gone fails here before it is known why: the watcher will say it, and end this.
            time.sleep(SECONDS_FOR_LAST_WORDS if isinstance(error, Exception) else 0.0)
            text, code = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", 1
        self._last_word.acquire()
        self._code = code
        self._tell({"failed": f"process {self.id} of {self.number}: {text}", "code": code})
        if self.first:
            self._wait_for_the_others()

    def at_end(self, hook: Callable[[str], None] | None) -> None:
        """See `Alone`."""
        self._hook = hook

    def _next(self, id_: int, what: str) -> Any:
        message = self._values[id_].get()
        if message["what"] != what:
            raise RuntimeError(f"processes {self.id} and {id_} are out of step: {what}, {message['what']}")
        return message["value"]

    def _tell(self, message: dict[str, Any]) -> None:
        for channel in self._channels.values():
            channel.send(message)

    def _watch(self) -> None:
        """Receives from the others, and notices who is gone, for as long as this process lives."""
        pinged = 0.0
        with selectors.DefaultSelector() as selector:
            for id_, channel in self._channels.items():
                selector.register(channel, selectors.EVENT_READ, id_)
                if channel.has_more:
                    self._take(id_, channel)
            while selector.get_map():
                for key, _ in selector.select(1.0):
                    if not self._take(key.data, self._channels[key.data]):
                        selector.unregister(key.fileobj)
                now = time.monotonic()
                if now - pinged > SECONDS_BETWEEN_PINGS:
                    pinged = now
                    self._tell({"ping": True})
                for id_ in [key.data for key in selector.get_map().values()]:
                    if now - self._channels[id_].heard > SECONDS_OF_SILENCE and not self._over.is_set():
                        self._lose(id_, f"has said nothing for {SECONDS_OF_SILENCE:.0f} s")

    def _take(self, id_: int, channel: Channel) -> bool:
        """Takes in what a process has sent; returns whether it is still there."""
        try:
            messages = channel.receive()
        except ValueError:
            messages = None
        if messages is None:
            if not self._over.is_set():
                self._lose(id_, "was lost")
            return False
        for message in messages:
            if "value" in message:
                self._values[id_].put(message)
            elif "signal" in message:
                self._signal = self._signal or message["signal"]
            elif "left" in message:
                self._leaves(id_)
            elif "failed" in message:
                self._end(message["failed"], message["code"])
        return True

    def _lose(self, id_: int, how: str) -> None:
        who = f"process {id_} of {self.number} ({self._names[id_]}) {how}"
        self._end(f"{who}; the same command goes on from the last checkpoint", LOST)

    def _end(self, reason: str, code: int) -> None:
        """Ends this process with one line, after process 0 has told the others; the main thread may be waiting in C++."""
        self._last_word.acquire()
        if self.first:
            self._tell({"failed": reason, "code": code})
        if self._hook is not None:
            self._hook(reason)
        sys.stderr.write(f"hpjax: {reason}\n")
        sys.stderr.flush()
        if self.first:
            self._wait_for_the_others()
        os._exit(code)

    def _wait_for_the_others(self) -> None:
        """Waits until they have gone: where process 0 goes first, JAX aborts them before they have said why."""
        deadline = time.monotonic() + SECONDS_FOR_LAST_WORDS
        for channel in self._channels.values():
            try:
                while channel.receive(max(deadline - time.monotonic(), 0.001)) is not None:
                    pass
            except (TimeoutError, ValueError, OSError):
                continue

    def _leaves(self, id_: int) -> None:
        """Notes that a process has come to its end; process 0's is the last, and that of all."""
        self._left.add(id_)
        if not self.first or len(self._left) == self.number:
            self._over.set()

    def _leave(self) -> None:
        """Waits at the process's end for the others to come to theirs: JAX does so for 30 s, then it aborts all of them."""
        if self._code is not None:
            # JAX would wait for the others to end too, and abort.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._code)
        if self.first:
            self._leaves(0)
            self._over.wait()
            self._tell({"left": True})
        else:
            self._tell({"left": True})
            self._over.wait()
