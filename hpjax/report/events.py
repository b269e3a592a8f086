"""What the steps before the search measured, as TensorBoard's scalars; the studies have events of their own."""

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hpjax.runfolder import EVENTS, explained
from hpjax.tensorboard import RecordWriter, event_pb2, summary_pb2

if TYPE_CHECKING:
    from hpjax.recipe.recipe import Tuned

Point = tuple[str, int, float]
"""A tag, a step, a value."""


def write_events(path: Path, tuned: "Tuned") -> None:
    """Writes `tb/` of a recipe's folder anew: `tensorboard --logdir FOLDER` shows it beside the studies.

    Every number among a step's facts is a scalar `STEP/NAME` of the run `recipe`; the ramp of the learning rate and the
    samples learned by heart are runs of their own.

    Raises:
      RunFolderError: it cannot be written.
    """
    runs: dict[str, list[Point]] = {"recipe": []}
    for step, finding in tuned.findings.items():
        numbers = {"seconds": finding.seconds, **finding.facts}
        plain = {k: v for k, v in numbers.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        runs["recipe"] += [(f"{step}/{name}", 0, float(value)) for name, value in plain.items()]
        for name, table in finding.tables.items():
            if name == "ramp":
                for tag in ("loss", "learning_rate"):
                    runs.setdefault("lr_ramp", []).extend((f"lr/{tag}", i, value) for i, value in enumerate(table[tag]))
            if name == "overfit":
                for rate, at, loss in zip(table["learning_rate"], table["step"], table["loss"], strict=True):
                    runs.setdefault(f"overfit_{rate:.2g}", []).append(("overfit/loss", at, loss))
    with explained(path):
        for run, points in runs.items():
            _write(path / EVENTS / run, [point for point in points if math.isfinite(point[2])])


def _write(folder: Path, points: list[Point]) -> None:
    """Writes an event file, to a temporary name that TensorBoard does not read, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    new, now = folder / "new", time.time()
    writer = RecordWriter(str(new))
    writer.write(event_pb2.Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for tag, step, value in points:
        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)])
        writer.write(event_pb2.Event(wall_time=now, step=step, summary=summary).SerializeToString())
    writer.close()
    os.replace(new, folder / "events.out.tfevents.0.hpjax")
