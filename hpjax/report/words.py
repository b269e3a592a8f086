"""What a recipe came to, in plain words."""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from hpjax.recipe.finding import Note
from hpjax.study.folder import BEST

if TYPE_CHECKING:
    from hpjax.recipe.recipe import Tuned

NOT_CHOSEN = ("seed", "data_seed", "fold")


class Summary(NamedTuple):
    """What a reader wants to know first.

    Attributes:
      title: what was tuned.
      stopped: the step that made the rest pointless; empty for none.
      use: the settings that were chosen, as flags spell them; numbers to four digits.
      sure: how good that is, and how sure it is.
      problems: what is wrong, by step.
      then: what to do next.
      command: trains the winner; empty where the recipe stopped.
    """

    title: str
    stopped: str
    use: dict[str, str]
    sure: list[str]
    problems: list[tuple[str, Note]]
    then: list[str]
    command: str


def summary(tuned: "Tuned") -> Summary:
    """Returns a recipe's summary."""
    stopped = tuned.stopped_by or ""
    sure: list[str] = []
    for step, rules in (
        ("confirm", ("winner", "told_apart", "optimism", "test")),
        ("refine", ("search",)),
        ("coarse", ("search",)),
        ("lr", ("learning_rate",)),
    ):
        if step in tuned.findings and not stopped:
            sure = [note.evidence for note in tuned.findings[step].notes if note.rule in rules]
            break
    if sure and "confirm" not in tuned.findings:
        sure.append("not confirmed: one seed each, and the best of many looks better than it is")
    problems = list(_problems(tuned))
    problems.sort(key=lambda one: one[1].verdict != "failed")
    then = list(dict.fromkeys(f"{note.remedy} ({step})" for step, note in problems if note.remedy))
    gap = tuned.findings["confirm"].facts.get("difference") if "confirm" in tuned.findings else None
    if gap and not gap[1] > 0:
        then.append("the best settings cannot be told apart: take the one that suits you, or raise --confirm_seeds")
    command = (
        "" if stopped else f"python -m hpjax.train --flagfile={shlex.quote(str(tuned.path / BEST))} --run_dir=runs/NAME"
    )
    config = tuned.config
    return Summary(f"{config.model} on {config.dataset}", stopped, chosen_settings(tuned), sure, problems, then, command)


def _problems(tuned: "Tuned") -> Iterator[tuple[str, Note]]:
    """Yields what is wrong, by step; the steps that were left out together."""
    left_out = [step for step, finding in tuned.findings.items() if finding.left_out]
    for step, finding in tuned.findings.items():
        if not finding.left_out:
            yield from ((step, note) for note in finding.notes if note.verdict != "ok")
    if left_out:
        note = tuned.findings[left_out[0]].notes[0]
        yield ", ".join(left_out), note


def headline(tuned: "Tuned") -> list[str]:
    """Returns a few lines: what to use, how sure that is, what is wrong, what to do next."""
    found = summary(tuned)
    if found.stopped:
        silent = Note("", "failed", tuned.findings[found.stopped].advice)
        note = next((note for step, note in found.problems if step == found.stopped), silent)
        return [f"stopped at step '{found.stopped}': {note.evidence}", f"try: {note.remedy}"]
    lines = ["use: " + ", ".join(f"{name}={value}" for name, value in found.use.items())] if found.use else []
    lines += found.sure
    for step, note in found.problems:
        lines.append(f"{note.verdict} ({step}): {note.evidence}" + (f"; try: {note.remedy}" if note.remedy else ""))
    if not found.problems:
        lines.append(f"no warning in {len(tuned.findings)} steps")
    lines.append(f"next: {found.command}")
    return lines


def chosen_settings(tuned: "Tuned") -> dict[str, str]:
    """Returns the settings that the steps have chosen; `best.flags` has all their digits."""
    chosen: dict[str, str] = {}
    for finding in tuned.findings.values():
        chosen |= finding.settings
    return {name: _rounded(value) for name, value in chosen.items() if name not in NOT_CHOSEN}


def _rounded(text: str) -> str:
    try:
        return f"{float(text):.4g}" if "." in text or "e" in text else text
    except ValueError:
        return text
