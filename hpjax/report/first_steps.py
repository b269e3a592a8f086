"""Pictures of the steps before the search: layers, gradients, overfitting, learning rates, batch sizes."""

import math
from collections.abc import Callable, Mapping, Sequence

from hpjax.recipe.batch import GAIN
from hpjax.recipe.finding import Finding, Table
from hpjax.recipe.gradient import AGREES
from hpjax.report.chart import Axis, Chart, Marks, Rule, positive, room
from hpjax.report.ticks import rounded, short

_COLOURS = ("done", "second", "third", "best")
MOST_ROWS = 80
"""Layers or parameters that a picture lists; of more it shows the first."""


def charts(findings: Mapping[str, Finding]) -> dict[str, list[Chart]]:
    """Returns the pictures of each of these steps that was made, by step; none of a table that is missing or empty."""
    found: dict[str, list[Chart]] = {}
    for step, table, draw in _DRAWN:
        finding = findings.get(step)
        if finding is not None and any(len(column) for column in finding.tables.get(table, {}).values()):
            found.setdefault(step, []).extend(draw(finding))
    return found


def _layers(finding: Finding) -> list[Chart]:
    rows = _rows(finding.tables["layers"], "kind", "layer", "size", "dead")
    result = []
    for kind, title in (("activation", "Activations by layer"), ("gradient", "Gradients by parameter")):
        own = [(layer, size, dead) for what, layer, size, dead in rows if what == kind][:MOST_ROWS]
        if own:
            texts = [
                f"{layer}\nsize {short(size)}" + (f"\n{dead:.0%} of the units are dead" if math.isfinite(dead) else "")
                for layer, size, dead in own
            ]
            size = "root mean square, before training"
            result.append(_list(f"{kind}s", title, [row[0] for row in own], [row[1] for row in own], size, texts))
    return result


def _gradients(finding: Finding) -> list[Chart]:
    rows = _rows(finding.tables["gradients"], "parameter", "difference")[:MOST_ROWS]
    names, values = [row[0] for row in rows], [row[1] for row in rows]
    chart = _list("gradient_check", "Gradients against central differences", names, values, "relative difference", None)
    low, high = chart.x.ends or (AGREES, AGREES)
    rule = Rule(AGREES, "too far off from here on", "diverged")
    return [chart._replace(x=chart.x._replace(ends=(low, max(high, 3 * AGREES))), rules=(rule,))]


def _list(
    key: str, title: str, names: Sequence[str], values: Sequence[float], axis: str, texts: Sequence[str] | None
) -> Chart:
    """Returns a list of names with a dot each, on a log axis; a cross at its foot where a value is 0 or not finite."""
    known = [value for value in values if math.isfinite(value) and value > 0]
    foot = min(known, default=1.0) / 10
    shown = [value if math.isfinite(value) and value > 0 else foot for value in values]
    texts = texts or [f"{name}\n{short(value)}" for name, value in zip(names, values, strict=True)]
    kinds: list[tuple[str, str, Callable[[float], bool]]] = [
        ("", "done", lambda value: math.isfinite(value) and value > 0),
        ("0, or not finite", "diverged", lambda value: not (math.isfinite(value) and value > 0)),
    ]
    marks = []
    for name, colour, belongs in kinds:
        own = [i for i, value in enumerate(values) if belongs(value)]
        if own:
            symbol = "circle" if colour == "done" else "x"
            at, said = [shown[i] for i in own], [texts[i] for i in own]
            marks.append(Marks(name, at, own, colour, "dots", symbol, 10, texts=said))  # type: ignore[arg-type]
    height = 110 + 24 * len(names)
    low, high = room(shown, "log")
    # A decade at least: sizes that are much the same should look so.
    wider = max(math.sqrt(10 * low / high), 1.0)
    x = Axis(axis, "log", ends=(low / wider, high * wider))
    return Chart(key, title, x, Axis("", labels=tuple(names)), tuple(marks), height=height)


def _overfit(finding: Finding) -> list[Chart]:
    rows = _rows(finding.tables["overfit"], "learning_rate", "step", "loss")
    before, floor = finding.facts.get("before", math.nan), finding.facts.get("floor", 0.0)
    rates = sorted({rate for rate, *_ in rows})
    marks = []
    for i, rate in enumerate(rates):
        own = [(0, before)] if math.isfinite(before) else []
        own += [(step, loss) for of, step, loss in rows if of == rate]
        colour = f"rank{round(i * 5 / max(len(rates) - 1, 1))}"
        marks.append(Marks(f"rate {rounded(rate)}", *_columns(own), colour, size=5))
    scale = "log" if positive(row[2] for row in rows) else "linear"
    rules = [Rule(before, "before training", "muted", "dot", level=True)] if math.isfinite(before) else []
    rules += [Rule(floor, "lowest possible", "ink", "dash", level=True)] if floor > 0 else []
    y = Axis("loss of the small sample", scale)  # type: ignore[arg-type]
    return [Chart("overfit", "A few examples, learned by heart", Axis("step"), y, tuple(marks), tuple(rules))]


def _rates(finding: Finding) -> list[Chart]:
    facts = finding.facts
    constant = _rows(finding.tables["rates"], "learning_rate", "loss")
    ramp = _rows(finding.tables.get("ramp", {"learning_rate": [], "loss": []}), "learning_rate", "loss")
    marks = [
        Marks("one ramp", *_columns(ramp), "stopped", "line", width=1.6),
        Marks(f"constant rates, {facts.get('steps', 0):.0f} steps each", *_columns(constant), "done", size=8),
    ]
    best = facts.get("best", math.nan)
    loss = dict(constant).get(best, math.nan)
    if finding.settings and math.isfinite(loss):
        marks.append(Marks(f"suggested: {rounded(best)}", [best], [loss], "best", "dots", "star", 17))
    rules = [
        Rule(facts[name], f"{words}: {rounded(facts[name])}", colour, dash)  # type: ignore[arg-type]
        for name, words, colour, dash in (
            ("steepest", "steepest of the ramp", "second", "dash"),
            ("minimum_tenth", "minimum of the ramp / 10", "third", "dot"),
            ("largest_stable", "largest stable", "ink", "dashdot"),
        )
        if math.isfinite(facts.get(name, math.nan)) and facts[name] > 0
    ]
    unstable = facts.get("unstable", math.nan)
    y = _losses([loss for _, loss in constant + ramp], facts.get("before", math.nan))
    caption = (
        "Constant rates side by side, and the classical ramp through all of them in one run. What ends far up is left out."
    )
    if math.isfinite(unstable):
        caption += f" Shaded: from {rounded(unstable)} on the loss ends above its start."
    return [
        Chart(
            "learning_rate",
            "Which learning rates bring the loss down",
            Axis("learning rate", "log"),
            y,
            tuple(marks),
            tuple(rules),
            unstable if math.isfinite(unstable) else None,
            caption=caption,
            height=420,
        )
    ]


def _optimizers(finding: Finding) -> list[Chart]:
    rows = _rows(finding.tables["optimizers"], "optimizer", "learning_rate", "loss")
    ramps = _rows(finding.tables.get("ramps", {}), "optimizer", "learning_rate", "loss") if "ramps" in finding.tables else []
    names = list(dict.fromkeys(row[0] for row in rows))
    marks = []
    for name, colour in zip(names, _COLOURS, strict=False):
        own = [row[1:] for row in rows if row[0] == name]
        ramp = [row[1:] for row in ramps if row[0] == name]
        if ramp:
            marks.append(Marks("", *_columns(ramp), colour, "line", width=1, opacity=0.35, dash=True))
        marks.append(Marks(name, *_columns(own), colour, size=7))
        known = [row for row in own if math.isfinite(row[1])]
        if known:
            best = min(known, key=lambda row: row[1])
            marks.append(Marks("", [best[0]], [best[1]], colour, "dots", "star", 15))
    y = _losses([row[2] for row in rows], finding.facts.get("before", math.nan))
    caption = "Constant rates, each with a star at its best; dashed, one ramp each. Losses far above the start are left out."
    title = "Other optimizers in as many steps"
    return [Chart("optimizers", title, Axis("learning rate", "log"), y, tuple(marks), caption=caption, height=400)]


def _losses(losses: Sequence[float], before: float) -> Axis:
    """Returns an axis of training losses: what ends far above the start, which would flatten the rest, is left out."""
    known = [loss for loss in losses if math.isfinite(loss)]
    if not positive(known) or not math.isfinite(before):
        return Axis("training loss")
    return Axis("training loss", "log", ends=(0.8 * min(known), 3 * max(before, min(known))))


def _throughput(finding: Finding) -> list[Chart]:
    rows = _rows(finding.tables["throughput"], "batch_size", "examples_per_second")
    marks = [Marks("", *_columns(rows), "done", size=9)]
    own = [row for row in rows if row[0] == finding.facts.get("at")]
    if own:
        marks.append(Marks(f"in use: {own[0][0]}", *_columns(own), "best", "dots", "star", 17))
    noise = finding.facts.get("noise_scale", math.nan)
    rules = (
        (Rule(noise, f"gradient noise scale: {rounded(noise, 3)}", "third"),) if noise > 0 and math.isfinite(noise) else ()
    )
    x, y = Axis("batch size", "log", ticks=tuple(row[0] for row in rows)), Axis("examples a second", "log")
    more = f"{GAIN - 1:.0%}"
    caption = f"A larger batch pays as long as twice the size makes at least {more} more examples a second."
    return [Chart("throughput", "Throughput by batch size", x, y, tuple(marks), rules, caption=caption)]


def _rows(table: Table, *names: str) -> list[tuple]:
    return list(zip(*(table[name] for name in names), strict=True))


def _columns(rows: Sequence[tuple]) -> tuple[list, list]:
    return [row[0] for row in rows], [row[1] for row in rows]


_DRAWN: tuple[tuple[str, str, Callable[[Finding], list[Chart]]], ...] = (
    ("initial", "layers", _layers),
    ("gradient", "gradients", _gradients),
    ("overfit", "overfit", _overfit),
    ("lr", "rates", _rates),
    ("lr", "optimizers", _optimizers),
    ("batch", "throughput", _throughput),
)
