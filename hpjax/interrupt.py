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
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread alone; elsewhere the caller's stay.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def leave(self) -> None:
        """Raises what the signal that came means to Python: KeyboardInterrupt, or SystemExit with 143."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and self._leave_at_second:
            os._exit(128 + number)
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        sys.stderr.write("\nstopping: the run is saved first; once more leaves at once\n")
