"""A config's schedules drawn: with plain characters for a terminal, and as a picture."""

import io
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hpjax.errors import ConfigError
from hpjax.schedules.curves import Curves, table

WIDTH, HEIGHT = 80, 17
_LABEL = 10
INK, ACCENT, MUTED = "#1f4e79", "#c8553d", "#8a8f98"


def in_terminal(found: Curves) -> str:
    """Returns every curve as a chart of plain characters, 80 columns wide, and the table of values."""
    charts = [_chart(quantity, found.steps, values) for quantity, values in found.values.items()]
    return "\n\n".join([*charts, _table(found), *(textwrap.fill(note, WIDTH) for note in found.notes)]) + "\n"


def number(value: float) -> str:
    """Returns a number in at most nine characters."""
    return f"{value:.4g}"


def _chart(title: str, steps: np.ndarray, values: np.ndarray) -> str:
    columns = WIDTH - _LABEL - 2
    low, high = float(values.min()), float(values.max())
    low, high = (min(low, 0.0), high) if low < high / 2 or high == low else (low, high)
    span = high - low or 1.0
    rows = [[" "] * columns for _ in range(HEIGHT)]
    column = np.minimum((steps - steps[0]) * columns // max(int(steps[-1] - steps[0]), 1), columns - 1)
    row = HEIGHT - 1 - np.round((values - low) / span * (HEIGHT - 1)).astype(int)
    previous: int | None = None
    for c in range(columns):
        here = row[column == c]
        if not len(here):
            # Fewer steps than columns: the value stays until the next step.
            if previous is not None:
                rows[previous][c] = "*"
            continue
        top, bottom = int(here.min()), int(here.max())
        if previous is not None:
            # A line has no gaps where it jumps.
            top, bottom = min(top, previous + (previous < top)), max(bottom, previous - (previous > bottom))
        for r in range(top, bottom + 1):
            rows[r][c] = "*"
        previous = int(here[-1])
    marks = {0: high, (HEIGHT - 1) // 2: high - span * ((HEIGHT - 1) // 2) / (HEIGHT - 1), HEIGHT - 1: low}
    lines = [f"{number(marks[r]) if r in marks else '':>{_LABEL}} |{''.join(rows[r]).rstrip()}" for r in range(HEIGHT)]
    first, middle, last = (str(int(steps[0])), str(int(steps[-1]) // 2), str(int(steps[-1])))
    half = columns // 2
    axis = f"{first:<{half - len(middle) // 2}}{middle}"
    ticks = f"{axis}{last:>{columns - len(axis)}}"
    return "\n".join([f"{title}", *lines, " " * _LABEL + " +" + "-" * columns, f"{'step':>{_LABEL}}  {ticks}"])


def _table(found: Curves) -> str:
    head = f"{'':<10}{'step':>12}" + "".join(f"{quantity:>16}" for quantity in found.values)
    lines = [
        f"{what:<10}{step:>12}" + "".join(f"{number(value):>16}" for value in values) for what, step, values in table(found)
    ]
    return "\n".join([head, *lines])


def as_picture(found: Curves, path: str, title: str) -> None:
    """Writes every curve into one picture, whose format the path's ending names.

    Raises:
      ConfigError: the format is unknown or the file cannot be written.
    """
    figure, axes = figure_of(len(found.values), 1, (8.0, 2.7 * len(found.values)))
    for (quantity, values), axis in zip(found.values.items(), axes.ravel(), strict=True):
        curve(axis, found, values, ACCENT if quantity == "momentum" else INK)
        axis.set_ylabel(quantity)
    axes.ravel()[0].set_title(title, loc="left", fontsize=10)
    axes.ravel()[-1].set_xlabel("step")
    save(figure, path)


def figure_of(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """Returns a figure and its axes; matplotlib is imported here, as most commands draw nothing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=size, layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    # A notebook asks for it: of itself it shows a figure only where pyplot was imported.
    figure._repr_png_ = partial(_png, figure)
    return figure, np.atleast_1d(figure.subplots(rows, columns, sharex=True))


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def curve(axis: Any, found: Curves, values: np.ndarray, colour: str) -> None:
    """Draws one quantity over the steps, the warmup in grey."""
    if found.warmup_steps:
        axis.axvspan(0, found.warmup_steps, color=MUTED, alpha=0.18, linewidth=0)
    axis.plot(found.steps, values, color=colour, linewidth=1.6)
    axis.grid(color=MUTED, alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.01)


def save(figure: Any, path: str) -> None:
    """Writes a figure; raises ConfigError for an unknown ending or a place that cannot be written."""
    if Path(path).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"plot is '{path}'; expected a file that ends in .png, .pdf or .svg")
    try:
        figure.savefig(path, metadata={"Software": None} if path.lower().endswith(".png") else None)
    except OSError as error:
        raise ConfigError(f"plot '{path}' cannot be written: {(error.strerror or str(error)).lower()}") from None
