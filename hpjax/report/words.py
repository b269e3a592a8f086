"""What a recipe came to, in plain words."""

from typing import TYPE_CHECKING

from hpjax.study.folder import BEST

if TYPE_CHECKING:
    from hpjax.recipe.recipe import Tuned

NOT_CHOSEN = ("seed", "data_seed", "fold")


def headline(tuned: "Tuned") -> list[str]:
    """Returns a few sentences: what to use, how sure that is, what is wrong, what to do next."""
    lines = []
    if tuned.stopped_by is not None:
        note = next(note for note in tuned.findings[tuned.stopped_by].notes if note.verdict == "failed")
        lines.append(f"stopped at step '{tuned.stopped_by}': {note.evidence}")
        lines.append(f"try: {note.remedy}")
        return lines
    chosen = chosen_settings(tuned)
    if chosen:
        lines.append("use: " + ", ".join(f"{name}={value}" for name, value in chosen.items()))
    for step, rules in (("confirm", ("winner", "told_apart", "test")), ("refine", ("search",)), ("coarse", ("search",))):
        if step in tuned.findings:
            lines += [note.evidence for note in tuned.findings[step].notes if note.rule in rules]
            break
    warnings = [(step, note) for step, finding in tuned.findings.items() for note in finding.notes if note.verdict != "ok"]
    for step, note in warnings:
        lines.append(f"{note.verdict} ({step}): {note.evidence}" + (f"; try: {note.remedy}" if note.remedy else ""))
    if not warnings:
        lines.append(f"no warning in {len(tuned.findings)} steps")
    lines.append(f"next: python -m hpjax.train --flagfile={tuned.path / BEST} --run_dir=runs/NAME")
    return lines


def chosen_settings(tuned: "Tuned") -> dict[str, str]:
    """Returns the settings that the steps have chosen, as flags spell them."""
    chosen: dict[str, str] = {}
    for finding in tuned.findings.values():
        chosen |= finding.settings
    return {name: value for name, value in chosen.items() if name not in NOT_CHOSEN}


def markdown(tuned: "Tuned") -> str:
    """Returns the report for a repository: the summary, then each step with its notes."""
    config = tuned.config
    lines = [f"# {config.model} on {config.dataset}", "", *(f"- {line}" for line in headline(tuned)), ""]
    for step, finding in tuned.findings.items():
        lines += [f"## {step}: {finding.verdict} ({finding.seconds:.1f} s)", ""]
        for note in finding.notes:
            remedy = f" Try: {note.remedy}." if note.remedy else ""
            lines.append(f"- **{note.verdict}** {note.evidence}.{remedy}")
        lines += ["", finding.advice, ""] if finding.advice else [""]
    return "\n".join(lines)
