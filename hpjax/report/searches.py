"""Pictures of a study: the objective against each hyperparameter, and the learning curves."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from hpjax.report.chart import Axis, Chart, Marks
from hpjax.report.material import Trials, finite
from hpjax.report.places import axis_name, places, spread_out
from hpjax.study import axes
from hpjax.study.axes import text_of
from hpjax.study.records import SettingSummary, TrialRecord

MOST_POINTS = 30_000
"""Evaluations that the learning curves show; of more each trial shows an even part."""
FEW, MANY = 30, 200
"""Trials above which lines are faint, settings above which dots are small."""
FATES = (("stopped", "stopped, not ended"), ("done", "done"), ("diverged", "diverged"))


def slices(trials: Trials) -> Iterator[Chart]:
    """Yields the objective against each hyperparameter; settings with several seeds with their standard deviation."""
    for name, scale in trials.scales.items():
        found = [one for one in trials.settings if name in one.values]
        if not found:
            continue
        place = places(name, [one.values[name] for one in found], scale)
        at = dict(zip((one.setting for one in found), spread_out(place), strict=True))
        shown = axes.span([one.value for one in finite(found)], trials.objective)
        foot = shown.low - axes.FOOT / 2 * (shown.high - shown.low)
        # A little more room than the values need: the star is large.
        ends = shown.low - axes.FOOT * (shown.high - shown.low), shown.high + 0.04 * (shown.high - shown.low)
        y = Axis(axes.better(trials.objective), ends=ends, ticks=None if finite(found) else ())
        x = Axis(axis_name(name, place), place.scale, None if place.labels is None else tuple(place.labels))
        inside = [one for one in finite(found) if shown.low <= one.value <= shown.high]
        marks = [
            *_settings(trials, [one for one in inside if one.status != "done"], at, "stopped", "circle-open"),
            *_settings(trials, [one for one in inside if one.status == "done"], at, "done", "circle"),
            *_infeasible(trials, [one for one in found if axes.infeasible(one)], at, foot),
        ]
        best = trials.best
        title = name
        if best is not None and best.setting in at:
            title = f"{name}: best at {text_of(name, best.values[name])}"
            marks.append(_dots(trials, [best], at, "best", symbol="star", size=17))
        left_out = f"{shown.outside} values beyond the range are left out." if shown.outside else ""
        yield Chart(f"{trials.step}_{name}", title, x, y, tuple(marks), caption=left_out, height=270, study=trials.step)


def _settings(trials: Trials, own: Sequence[SettingSummary], at: dict[int, float], colour: str, symbol: str) -> list[Marks]:
    if not own:
        return []
    few = len(trials.settings) <= MANY
    size, opacity = (7, 0.85) if few else (5, 0.55)
    marks = _dots(trials, own, at, colour, symbol=symbol, size=size, opacity=opacity)
    if any(math.isfinite(one.spread) for one in own):
        marks = marks._replace(spread=[one.spread if math.isfinite(one.spread) else 0.0 for one in own])
    return [marks]


def _dots(trials: Trials, own: Sequence[SettingSummary], at: dict[int, float], colour: str, **look: Any) -> Marks:
    x, y = [at[one.setting] for one in own], [one.value for one in own]
    texts = [setting_text(one, trials) for one in own]
    return Marks("", x, y, colour, "dots", texts=texts, trials=[one.numbers[0] for one in own], **look)


def _infeasible(trials: Trials, own: Sequence[SettingSummary], at: dict[int, float], foot: float) -> list[Marks]:
    if not own:
        return []
    dots = _dots(trials, own, at, "diverged", symbol="x", size=8)
    return [dots._replace(y=[foot] * len(own))]


def setting_text(one: SettingSummary, trials: Trials) -> str:
    """Returns what is said of a setting that is pointed at."""
    trial = f"trial {one.numbers[0]}" if len(one.numbers) == 1 else f"setting {one.setting}, {len(one.numbers)} trials"
    spread = f" ± {one.spread:.2g}" if math.isfinite(one.spread) else ""
    value = f"{one.value:.4g}{spread}" if math.isfinite(one.value) else "no value"
    return f"{trial}: {one.status}\n{trials.objective.name} {value}"


def curves(trials: Trials) -> Chart | None:
    """Returns the learning curves of all trials, those of the best setting in front; None without an evaluation."""
    points = sum(len(record.curve) for record in trials.records)
    if not points:
        return None
    every = -(-points // MOST_POINTS)
    best = trials.best
    front = set() if best is None else set(best.numbers)
    shown = axes.span([one.value for record in trials.records for one in record.curve], trials.objective)
    marks = []
    # Of the whole trace, where lines cross too: faint enough for the best to stand out.
    opacity = 0.8 if len(trials.records) <= FEW else 0.45
    for fate, words in FATES:
        own = [record for record in trials.records if _fate(record) == fate]
        if own:
            behind = [record for record in own if record.number not in front]
            lines = _lines(behind, every, fate, f"{words} ({len(own)})")
            marks.append(lines._replace(opacity=opacity if fate != "diverged" else 0.8))
            if fate == "diverged" and (crosses := _crosses(behind)):
                marks.append(crosses)
    if best is not None:
        own = [record for record in trials.records if record.number in front]
        lines = _lines(own, every, "best", f"best: setting {best.setting}, {best.value:.4g}")
        marks.append(lines._replace(style="both", width=2.5, size=5))
    words = f"{shown.outside} values beyond the range are left out. " if shown.outside else ""
    return Chart(
        f"{trials.step}_curves",
        f"Learning curves of {len(trials.records)} trials",
        Axis("step"),
        Axis(axes.better(trials.objective), ends=(shown.low, shown.high)),
        tuple(marks),
        caption=words.strip(),
        height=420,
        study=trials.step,
    )


def _fate(record: TrialRecord) -> str:
    return record.status if record.status in ("done", "diverged") else "stopped"


def _lines(records: Sequence[TrialRecord], every: int, colour: str, words: str) -> Marks:
    """Returns some trials' curves as one line with gaps: two thousand lines of their own would take a minute."""
    x: list[float | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    alone = True
    for record in records:
        seen = [one for one in record.curve if math.isfinite(one.value)]
        # From the end: the last evaluation is always shown.
        thin = seen[::-1][::every][::-1]
        alone = alone and len(thin) < 2
        x += [*(one.step for one in thin), None]
        y += [*(one.value for one in thin), None]
        numbers += [record.number] * (len(thin) + 1)
    style = "both" if alone else "line"
    return Marks(words, x, y, colour, style, width=1.2, size=5, trials=numbers)  # type: ignore[arg-type]


def _crosses(records: Sequence[TrialRecord]) -> Marks | None:
    """Returns a cross where each trial was seen last before it diverged."""
    last = [(r.number, [one for one in r.curve if math.isfinite(one.value)]) for r in records]
    ends = [(number, seen[-1]) for number, seen in last if seen]
    if not ends:
        return None
    x, y = [one.step for _, one in ends], [one.value for _, one in ends]
    return Marks("", x, y, "diverged", "dots", "x", 7, trials=[number for number, _ in ends])
