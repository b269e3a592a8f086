"""The report for a repository: words, and links to pictures and tables."""

from collections.abc import Sequence

from hpjax.recipe.folder import PICTURES, TABLES
from hpjax.report.sections import Section
from hpjax.report.words import Summary

NO_PICTURE = "no picture, for the budget was over; `python -m hpjax.report FOLDER` draws it"


def markdown(summary: Summary, sections: Sequence[Section], pictures: dict[str, str], tables: Sequence[str]) -> str:
    """Returns the report.

    Args:
      summary: what stands on top.
      sections: the steps.
      pictures: files by the charts' keys.
      tables: files.
    """
    lines = [f"# {plain(summary.title)}", ""]
    if summary.stopped:
        lines += [f"**The recipe stopped at step {plain(summary.stopped)}.**", ""]
    elif summary.use:
        lines += [
            "| setting | use |",
            "| --- | --- |",
            *(f"| {plain(n)} | {plain(v)} |" for n, v in summary.use.items()),
            "",
        ]
    if summary.command:
        lines += ["```", summary.command, "```", ""]
    lines += [f"- {plain(line)}" for line in summary.sure]
    lines += [f"- **{note.verdict}** ({plain(step)}) {plain(note.evidence)}" for step, note in summary.problems]
    lines += [f"- next: {plain(line)}" for line in summary.then]
    if not summary.problems:
        lines.append("- no step has a warning")
    for section in sections:
        finding = section.finding
        lines += [
            "",
            f"## {section.title}" + ("" if finding is None else f": {finding.verdict} ({finding.seconds:.1f} s)"),
            "",
        ]
        for note in () if finding is None else finding.notes:
            remedy = f" Try: {plain(note.remedy)}." if note.remedy else ""
            lines.append(f"- **{note.verdict}** {plain(note.evidence)}.{remedy}")
        if finding is not None and finding.advice:
            lines += ["", plain(finding.advice)]
        for chart in section.charts:
            if chart.key not in pictures:
                lines += ["", f"{plain(chart.title)}: {NO_PICTURE}."]
                continue
            lines += ["", f"![{plain(chart.title)}]({PICTURES}/{pictures[chart.key]})"]
            lines += ["", plain(chart.caption)] if chart.caption else []
    lines += ["", "Tables: " + ", ".join(f"[{name}]({TABLES}/{name})" for name in tables), ""]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Returns a text in which Markdown finds no marks."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text
