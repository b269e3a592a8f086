"""What a person sees while a study runs: a live table on a terminal, a line now and then elsewhere."""

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpjax.progress import _Quiet
from hpjax.study.axes import text_of
from hpjax.study.records import ENDED

SECONDS_BETWEEN_LINES, SECONDS_BETWEEN_PICTURES = 10.0, 0.5
SECONDS_OF_RATE = 30.0
"""How far back the rate of steps looks."""

_LIVE = ("running", "paused", "waiting")


class StudyView:
    """Shows how far a study is: trials by status, rate, time left, the best so far, how busy the lanes are."""

    def __init__(self, enabled: bool, clock: Callable[[], float] = time.monotonic, silent: bool = False):
        """Begins to show nothing yet.

        Args:
          enabled: whether progress is shown; warnings always are.
          clock: returns seconds.
          silent: whether nothing is, for another process shows it.
        """
        self._enabled, self._clock = enabled and not silent, clock
        self._console = _Quiet(highlight=False, soft_wrap=True, quiet=sys.stdout is None or silent)
        self._facts: dict[str, Any] = {}
        self._first: tuple[float, int] | None = None
        self._steps: deque[tuple[float, int]] = deque()
        self._shown = -math.inf
        self._live: Live | None = None
        if self._enabled and sys.stdout is not None and sys.stdout.isatty():
            self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, facts: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Notes where the study is, and shows it if it is time to; a few microseconds if not.

        Args:
          facts: any of the facts below, by name.
          **more: further ones: `total` (trials in all), `counts` (how many trials have each status), `steps` (trial-steps
            so far), `occupancy` (share of the lanes' time), `best` (number and value of a setting, or None), `values` (the
            best setting's), `metric` (the objective's name). One that is not given stays as it was.
        """
        if not self._enabled:
            return
        self._facts.update(facts or {}, **more)
        now = self._clock()
        if self._first is None:
            self._first = (now, self._ended())
        if now - self._shown < (SECONDS_BETWEEN_LINES if self._live is None else SECONDS_BETWEEN_PICTURES):
            return
        self._shown = now
        self._steps.append((now, self._facts.get("steps", 0)))
        while len(self._steps) > 2 and now - self._steps[1][0] >= SECONDS_OF_RATE:
            self._steps.popleft()
        if self._live is not None:
            self._live.update(self._table(now), refresh=True)
        else:
            self._console.print(self.line(now), markup=False)

    def say(self, line: str) -> None:
        """Prints a line above the table."""
        if self._enabled:
            self.warn(line)

    def warn(self, line: str) -> None:
        """Prints a line above the table even if no progress is to be shown."""
        self._console.print(line, markup=False)

    def line(self, now: float) -> str:
        """Returns where the study is, in a line."""
        parts = [f"{self._of_total()} trials ended{self._kinds()}", *self._pace(now), *self._lanes(), *self._best()]
        return "; ".join(parts)

    def _table(self, now: float) -> Table:
        total = self._facts.get("total")
        table = Table.grid(padding=(0, 2))
        bar: Any = ProgressBar(total=total, completed=self._ended(), width=30) if total else ""
        head = Table.grid(padding=(0, 2))
        head.add_row(f"{self._of_total()} trials", bar, "  ".join(self._pace(now)))
        table.add_row(head)
        table.add_row(Text("  ".join([f"{n:,} {status}" for status, n in self._counted().items()] + self._lanes())))
        for one in self._best():
            table.add_row(Text(one, overflow="ellipsis", no_wrap=True))
        return table

    def _counted(self) -> dict[str, int]:
        counts = self._facts.get("counts", {})
        return {status: counts.get(status, 0) for status in (*ENDED, *_LIVE) if counts.get(status, 0)}

    def _ended(self) -> int:
        return sum(count for status, count in self._counted().items() if status in ENDED)

    def _of_total(self) -> str:
        total = self._facts.get("total")
        return f"{self._ended():,}" + (f"/{total:,}" if total else "")

    def _kinds(self) -> str:
        kinds = ", ".join(f"{count:,} {status}" for status, count in self._counted().items())
        return f" ({kinds})" if kinds else ""

    def _pace(self, now: float) -> list[str]:
        """Returns the rate of the last seconds, and the time left at the rate of this sitting."""
        words = []
        (then, before), (_, steps) = self._steps[0], self._steps[-1]
        if now > then and steps > before:
            words.append(f"{(steps - before) / (now - then):,.0f} trial-steps/s")
        assert self._first is not None
        began, there = self._first
        ended, total = self._ended(), self._facts.get("total")
        if total and ended > there and now > began:
            words.append(f"left {_duration((total - ended) * (now - began) / (ended - there))}")
        return words

    def _lanes(self) -> list[str]:
        occupancy = self._facts.get("occupancy")
        return [] if occupancy is None or math.isnan(occupancy) else [f"lanes busy {occupancy:.1%}"]

    def _best(self) -> list[str]:
        best = self._facts.get("best")
        if best is None:
            return []
        setting, value = best
        values = ", ".join(f"{name}={text_of(name, one)}" for name, one in self._facts.get("values", {}).items())
        metric = self._facts.get("metric", "")
        return [f"best: {metric} {value:.4g}".replace("  ", " ") + f" (setting {setting}{': ' if values else ''}{values})"]


def _duration(seconds: float) -> str:
    """Returns seconds as people say them: 45 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
