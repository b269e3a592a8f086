"""What a person is told while data is read or fetched: lines on standard error, never an end of the program."""

import contextlib
import sys
import time
from types import TracebackType
from typing import Self

FIRST_AFTER = 1.0
"""Seconds for which nothing is said: most work is done by then."""

BETWEEN_LINES = 5.0
"""Seconds between two lines where there is no terminal."""


def say(line: str) -> None:
    """Prints a line on standard error, if anybody can read it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(line, file=sys.stderr, flush=True)


class Progress:
    """A line that says how far a long piece of work is: rewritten on a terminal, now and then a new one elsewhere."""

    def __init__(self, what: str, total: float, unit: str):
        self._what, self._total, self._unit = what, total, unit
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._last, self._shown = time.monotonic() + FIRST_AFTER - self._pause, False

    @property
    def _pause(self) -> float:
        return 0.2 if self._terminal else BETWEEN_LINES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shown and self._terminal:
            say("")

    def update(self, done: float) -> None:
        """Shows how much is done; cheap enough to be called often."""
        now = time.monotonic()
        if now - self._last < self._pause:
            return
        self._last, self._shown = now, True
        line = f"{self._what}: {done:,.0f} of {self._total:,.0f} {self._unit}"
        if self._terminal:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"\r{line}")
                sys.stderr.flush()
        else:
            say(line)
