"""SIGTERM and Ctrl-C while a run trains: the first asks it to save and stop, the second leaves at once."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """A context in which the signals are noted instead of acted upon.

    Attributes:
      signal: the first signal that came, or None.
    """

    def __init__(self, leave_at_second: bool) -> None:
        """Makes the context; `leave_at_second` ends the process at a second signal, else that raises KeyboardInterrupt."""
        self.signal: int | None = None
        self._leave_at_second = leave_at_second
        self._handled = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread alone; elsewhere the caller's stay.
        if threading.current_thread() is threading.main_thread():
            # A handler waits until the main thread is back from XLA, which may compile for minutes: a thread listens too.
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            threading.Thread(target=self._listen, args=(reader,), daemon=True).start()
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._writer)

    def leave(self) -> None:
        """Raises what the signal that came means to Python: KeyboardInterrupt, or SystemExit with 143."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)

    def _listen(self, reader: int) -> None:
        """Notes the signals as they come, until the context is left."""
        heard = 0
        with open(reader, "rb", buffering=0) as pipe:
            while came := pipe.read(1):
                heard += came[0] in SIGNALS
                if heard == 1 and came[0] in SIGNALS:
                    self.signal = self.signal or came[0]
                    sys.stderr.write("\nstopping: the run is saved first; once more leaves at once\n")
                elif heard > 1 and self._leave_at_second:
                    os._exit(128 + came[0])

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        self._handled += 1
        if self._handled > 1 and not self._leave_at_second:
            raise KeyboardInterrupt
