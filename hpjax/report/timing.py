"""What the recipe cost: seconds by step, and the steps of training that they bought."""

import math
from typing import TYPE_CHECKING

from hpjax.recipe.finding import Table
from hpjax.report.chart import Axis, Chart, Marks
from hpjax.report.material import Trials
from hpjax.study.records import Status

if TYPE_CHECKING:
    from hpjax.recipe.recipe import Tuned


def timing(tuned: "Tuned") -> Chart:
    """Returns the picture of the seconds of each step."""
    names, seconds = list(tuned.findings), [finding.seconds for finding in tuned.findings.values()]
    texts = [f"{name}\n{value:.1f} s" for name, value in zip(names, seconds, strict=True)]
    marks = [Marks("", seconds, list(range(len(names))), "done", "bars", texts=texts)]
    given = [(one.planned, i) for i, one in enumerate(tuned.findings.values()) if math.isfinite(one.planned)]
    if given:
        at, rows = (list(column) for column in zip(*given, strict=True))
        said = [f"{names[i]}\n{value:.1f} s planned" for value, i in given]
        marks.append(Marks("planned", at, rows, "best", "dots", "circle-open", 10, texts=said))
    words = f"{math.fsum(seconds):.0f} s in all, without starting up and reading the data."
    if math.isfinite(tuned.budget) and math.isfinite(tuned.used):
        of_all = f"with starting up and reading the data {tuned.used:.0f} s of a budget of {tuned.budget:.0f} s"
        words = f"The steps took {math.fsum(seconds):.0f} s; {of_all} were used before this report."
    height = 110 + 28 * len(names)
    return Chart(
        "timing", "Time by step", Axis("seconds"), Axis("", labels=tuple(names)), tuple(marks), caption=words, height=height
    )


def cost(tuned: "Tuned", studies: dict[str, Trials]) -> Table:
    """Returns what each step cost: seconds, and of a study its trials, how they ended, and their optimizer steps."""
    rows = []
    for step, finding in tuned.findings.items():
        records = studies[step].records if step in studies else []
        ended = [record.status for record in records]
        steps = sum(record.curve[-1].step for record in records if record.curve)
        counts = [len(ended), *(ended.count(one) for one in _ENDS), steps]
        # A step without a study has no trials, rather than none.
        planned = finding.planned if math.isfinite(finding.planned) else None
        rows.append((step, finding.verdict, planned, finding.seconds, *(counts if ended else [None] * len(counts))))
    names = ("step", "verdict", "planned", "seconds", "trials", *_ENDS, "train_steps")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


_ENDS: tuple[Status, ...] = ("done", "stopped", "diverged")
