"""What a person sees while a run trains: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 2.0


class _Quiet(Console):
    """A console that falls silent when nobody can read it any more: a run is not to end for that."""

    def on_broken_pipe(self) -> None:
        """Goes on in silence, where rich would leave the program."""
        self.quiet = True

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints, unless the screen is gone."""
        try:
            super().print(*objects, **options)
        except OSError:
            self.quiet = True


class ProgressView:
    """Shows steps done, rate, time left, learning rate and loss."""

    def __init__(self, steps: int, enabled: bool, silent: bool = False):
        """Makes the view.

        Args:
          steps: of the whole run.
          enabled: whether progress is shown; warnings are in any case.
          silent: whether nothing is, for another process shows it.
        """
        self._steps, self._enabled = steps, enabled and not silent
        self._console = _Quiet(highlight=False, soft_wrap=True, quiet=sys.stdout is None or silent)
        self._bar: Progress | None = None
        self._last_line = -float("inf")
        self._first: tuple[float, int] | None = None
        if self._enabled and sys.stdout is not None and sys.stdout.isatty():
            columns = (
                TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[values]}"),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=steps, values="compiling")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, loss: float, learning_rate: float, examples_per_second: float) -> None:
        """Shows where the run is; cheap enough for every chunk."""
        values = f"loss {loss:.4g}  learning rate {learning_rate:.3g}  {examples_per_second:,.0f} examples/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, values=values)
        elif self._enabled and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now = time.monotonic()
            self._first = self._first or (now, step)
            rate = (step - self._first[1]) / max(now - self._first[0], 1e-9)
            left = f"  left {(self._steps - step) / rate:.0f} s" if rate > 0 else ""
            self._console.print(f"step {step}/{self._steps}  {values}{left}")

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        if self._enabled:
            self.warn(line)

    def warn(self, line: str) -> None:
        """Prints a line above the bar even if no progress is to be shown."""
        self._console.print(line, markup=False)
