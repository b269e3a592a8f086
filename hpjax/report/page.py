"""The report as one HTML file: text, pictures and their script in it, nothing from elsewhere."""

import json
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

from hpjax.recipe.finding import Note
from hpjax.report.chart import Chart
from hpjax.report.interactive import figure
from hpjax.report.markup import identifier, table, text
from hpjax.report.material import Trials
from hpjax.report.sections import Panel, Section
from hpjax.report.words import Summary
from hpjax.study.axes import text_of

GLYPHS = {"ok": "✓", "warning": "!", "failed": "✗", "": "·"}
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""What the file may load: nothing; a browser refuses the rest."""


def page(summary: Summary, verdict: str, sections: Sequence[Section], studies: dict[str, Trials], foot: str) -> str:
    """Returns the whole file.

    Args:
      summary: what stands on top.
      verdict: the worst of the steps'.
      sections: the steps.
      studies: their trials, for what is said of the one that is pointed at.
      foot: a line at the end.
    """
    charts = {_key(chart): figure(chart) for section in sections for chart in section.charts}
    trials = {step: _trials(one) for step, one in studies.items()}
    # Imported here: it takes a moment, which `python -m hpjax.tune --help` need not wait for.
    from plotly.offline import get_plotlyjs

    body = [
        f"<header><p class=kind>hpjax recipe</p><h1>{text(summary.title)}</h1></header>",
        _summary(summary, verdict),
        _navigation(sections),
        "<main>",
        *(_section(section) for section in sections),
        f"</main><footer>{text(foot)}</footer>",
    ]
    head = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<link rel="icon" href="data:,"><title>{text(summary.title)}: recipe</title>',
        f"<style>{_file('page.css')}</style></head><body>",
    ]
    data = [
        f'<script type="application/json" id="{name}">{_json(value)}</script>'
        for name, value in (("charts-data", charts), ("trials-data", trials))
    ]
    scripts = [f"<script>{get_plotlyjs()}</script>", f"<script>{_file('page.js')}</script>"]
    return "\n".join([*head, *body, *data, *scripts, "</body></html>\n"])


def _summary(found: Summary, verdict: str) -> str:
    parts = [f'<section class="summary" id="summary"><h2>Summary {_badge(verdict)}</h2>']
    if found.stopped:
        parts.append(
            f'<p class="lead">The recipe stopped at step <b>{text(found.stopped)}</b>: what follows it says nothing.</p>'
        )
    if found.use and not found.stopped:
        rows = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in found.use.items())
        parts.append(f'<h3>What to use</h3><dl class="use">{rows}</dl>')
    if found.command:
        copy = '<button type="button" class="copy">Copy</button>'
        # A line ends between two words, however many signs a word has.
        words = " ".join(f"<span>{text(word)}</span>" for word in found.command.split(" "))
        parts.append(f'<div class="command"><code>{words}</code>{copy}</div>')
    if found.sure:
        parts.append("<h3>How sure</h3>" + _list(map(text, found.sure)))
    if found.problems:
        lines = [f"{_badge(note.verdict)} {text(step)}: {text(note.evidence)}" for step, note in found.problems]
        parts.append("<h3>What is wrong</h3>" + _list(lines))
    elif not found.stopped:
        parts.append("<p>No step has a warning.</p>")
    then = [*map(text, found.then)] or ["Train it with the command above; the flagfile has every setting in full."]
    parts.append("<h3>What to do next</h3>" + _list(then))
    return "".join(parts) + "</section>"


def _navigation(sections: Sequence[Section]) -> str:
    links = "".join(
        f'<a href="#{identifier(one.step)}" class="{_verdict(one)}">'
        f"<span>{GLYPHS[_verdict(one)]}</span> {text(one.step)}</a>"
        for one in sections
    )
    return f'<nav aria-label="Steps">{links}</nav>'


def _section(section: Section) -> str:
    finding = section.finding
    seconds = "" if finding is None else f'<span class="seconds">{finding.seconds:.1f} s</span>'
    badge = "" if finding is None else _badge(finding.verdict)
    parts = [f'<section class="step" id="{identifier(section.step)}"><h2>{text(section.title)} {badge}{seconds}</h2>']
    if finding is not None:
        parts.append('<ul class="notes">' + "".join(map(_note, finding.notes)) + "</ul>")
        if finding.advice:
            parts.append(f'<p class="advice">{text(finding.advice)}</p>')
    parts.append(_panels(section))
    return "".join(parts) + "</section>"


def _panels(section: Section) -> str:
    if len(section.panels) < 2:
        return "".join(_panel(panel) for panel in section.panels)
    tabs, bodies = [], []
    for i, panel in enumerate(section.panels):
        name = f"{identifier(section.step)}-{identifier(panel.name)}"
        chosen = f'aria-selected="{"false" if i else "true"}" tabindex="{-1 if i else 0}"'
        tabs.append(
            f'<button type="button" role="tab" id="tab-{name}" aria-controls="{name}" {chosen}>{text(panel.name)}</button>'
        )
        hidden = " hidden" if i else ""
        title = f'<h3 class="printed">{text(panel.name)}</h3>'
        marks = f'role="tabpanel" id="{name}" aria-labelledby="tab-{name}"{hidden}'
        bodies.append(f'<div class="panel" {marks}>{title}{_panel(panel)}</div>')
    return f'<div class="tabs" role="tablist">{"".join(tabs)}</div>{"".join(bodies)}'


def _panel(panel: Panel) -> str:
    parts = [f'<div class="charts">{"".join(map(_chart, panel.charts))}</div>'] if panel.charts else []
    if any(chart.study for chart in panel.charts):
        parts.append('<p class="details" aria-live="polite">Point at a mark, or touch it, to see its trial here.</p>')
    if panel.examples:
        shown = "".join(
            f'<figure><img alt="" src="{one.picture}"><figcaption>{text(one.words)}</figcaption></figure>'
            if one.picture
            else f"<p><b>{text(one.words)}</b><br>{text(one.values)}</p>"
            for one in panel.examples
        )
        kind = "examples" if panel.examples[0].picture else "examples rows"
        parts.append(f'<h3>The worst examples</h3><div class="{kind}">{shown}</div>')
    if panel.said:
        parts.append(f'<p class="caption">{text(panel.said)}</p>')
    if panel.table:
        parts.append(table(panel.table))
    return "".join(parts)


def _chart(chart: Chart) -> str:
    kind = "square" if chart.square else "small" if chart.height <= 300 and chart.study else ""
    caption = f"<figcaption>{text(chart.caption)}</figcaption>" if chart.caption else ""
    study = f' data-study="{text(chart.study)}"' if chart.study else ""
    place = f'<div class="plot" data-chart="{_key(chart)}"{study} style="min-height:{chart.height}px"></div>'
    return f'<figure class="chart {kind}"><h4>{text(chart.title)}</h4>{place}{caption}</figure>'


def _trials(trials: Trials) -> dict[int, str]:
    """Returns what is said of each trial that is pointed at."""
    found = {}
    for record in trials.records:
        values = ", ".join(f"{name} {text_of(name, value)}" for name, value in record.values.items())
        value = f"{trials.objective.name} {record.objective:.4g}" if math.isfinite(record.objective) else "no value"
        end = f" at step {record.diverged_at}" if record.diverged_at is not None else ""
        found[record.number] = f"Trial {record.number}, {record.status}{end}: {value}; {values}"
    return found


def _note(note: Note) -> str:
    remedy = f'<p class="remedy">Try: {text(note.remedy)}</p>' if note.remedy else ""
    return f'<li class="{note.verdict}">{_badge(note.verdict)}<div>{text(note.evidence)}{remedy}</div></li>'


def _badge(verdict: str) -> str:
    return f'<span class="badge {verdict}">{GLYPHS[verdict]} {verdict}</span>'


def _verdict(section: Section) -> str:
    return "" if section.finding is None else section.finding.verdict


def _list(lines: Any) -> str:
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def _key(chart: Chart) -> str:
    return identifier(chart.key)


def _json(value: Any) -> str:
    # What ends a script would end it anywhere in it.
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _file(name: str) -> str:
    return (resources.files("hpjax.report") / name).read_text()
