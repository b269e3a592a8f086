"""Pictures of the last steps: the confirmed settings beside each other, and the losses of the best trials."""

import math

from hpjax.report.chart import Axis, Chart, Marks, positive
from hpjax.report.material import Trials
from hpjax.report.searches import setting_text
from hpjax.study import axes

MOST = 12
"""Settings beside each other."""
TOP = 3
"""Trials whose losses are shown."""
_COLOURS = ("done", "second", "third")


def side_by_side(trials: Trials) -> Chart | None:
    """Returns each setting with its seeds, its mean and standard deviation, the best first; None without a value."""
    score = trials.objective.score
    known = [one for one in trials.settings if math.isfinite(one.value)]
    ranked = sorted(known, key=lambda one: (-score(one.value), one.setting))[:MOST]
    if not ranked:
        return None
    means = [one.value for one in ranked]
    spread = [one.spread if math.isfinite(one.spread) else 0.0 for one in ranked]
    texts = [setting_text(one, trials) for one in ranked]
    of = {record.number: record.objective for record in trials.records}
    # Beside each other: seeds often come to the same value.
    seeds = [
        (i + 0.12 + 0.3 * k / len(one.numbers), of[n], n) for i, one in enumerate(ranked) for k, n in enumerate(one.numbers)
    ]
    x, y, numbers = (list(column) for column in zip(*seeds, strict=True))
    marks = (
        Marks("each seed", x, y, "stopped", "dots", size=7, opacity=0.8, trials=numbers),
        Marks(
            "mean, standard deviation over seeds",
            range(len(ranked)),
            means,
            "done",
            "dots",
            size=11,
            spread=spread,
            texts=texts,
            trials=[one.numbers[0] for one in ranked],
        ),
    )
    labels = tuple(f"setting {one.setting}" for one in ranked)
    key, y_axis = f"{trials.step}_settings", Axis(axes.better(trials.objective))
    return Chart(key, "The best settings, seed by seed", Axis("", labels=labels), y_axis, marks, study=trials.step)


def losses(trials: Trials) -> Chart | None:
    """Returns training and validation loss of the best trials that came to their end; None where none was measured."""
    score = trials.objective.score
    done = [one for one in trials.records if one.status == "done" and math.isfinite(one.objective) and one.curve]
    marks = []
    for record, colour in zip(
        sorted(done, key=lambda one: (-score(one.objective), one.number))[:TOP], _COLOURS, strict=False
    ):
        for name, dash in (("train/loss", True), ("val/loss", False)):
            points = [(one.step, one.numbers[name]) for one in record.curve if name in one.numbers]
            if points:
                steps, values = (list(column) for column in zip(*points, strict=True))
                marks.append(Marks(f"trial {record.number}, {name}", steps, values, colour, size=5, dash=dash))
    if not marks:
        return None
    scale = "log" if positive(value for one in marks for value in one.y) else "linear"
    x, y = Axis("step"), Axis("loss", scale)  # type: ignore[arg-type]
    caption = "Validation loss that turns upwards while training loss falls: overfitting."
    return Chart("losses", "Losses of the best trials", x, y, tuple(marks), caption=caption)
