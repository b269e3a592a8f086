"""SIGTERM and Ctrl-C while a run trains: the first asks it to save and stop, the second leaves at once."""

import os
import signal
import sys
import threading
from types import TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHOW_CURSOR = "\x1b[?25h"


class Interrupt:
    """A context in which the signals are noted instead of acted upon.

    Attributes:
      signal: the first signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}
        self._listener: threading.Thread | None = None

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread alone; elsewhere the caller's stay.
        if threading.current_thread() is threading.main_thread():
            # A handler runs only when the main thread is back from compiling or from waiting for the device. The wakeup
            # file is written to at once, and a thread that waits for it can leave whatever the main thread does.
            self._read, self._written = os.pipe()
            os.set_blocking(self._written, False)
            self._listener = threading.Thread(target=self._listen, name="signals", daemon=True)
            self._listener.start()
            self._before = {number: signal.signal(number, lambda number, frame: None) for number in SIGNALS}
            self._wakeup_before = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._listener is None:
            return
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._written)
        self._listener.join()
        os.close(self._read)

    def leave(self) -> None:
        """Raises what the signal that came means to Python: KeyboardInterrupt, or SystemExit with 143."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)

    def _listen(self) -> None:
        while byte := os.read(self._read, 1):
            if byte[0] in SIGNALS:
                self._note(byte[0])

    def _note(self, number: int) -> None:
        if self.signal is not None:
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), SHOW_CURSOR.encode())
            os._exit(128 + number)
        self.signal = number
        sys.stderr.write("\nstopping: the run is saved first; once more leaves at once\n")
        sys.stderr.flush()
