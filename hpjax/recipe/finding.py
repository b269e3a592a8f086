"""What a step of the recipe found: a verdict with its evidence, what to do about it, and the numbers behind it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Verdict = Literal["ok", "warning", "failed"]
Table = Mapping[str, Sequence[Any]]
"""Columns by name, all of one length."""

VERDICTS: tuple[Verdict, ...] = ("ok", "warning", "failed")
"""From good to bad."""


@dataclasses.dataclass(frozen=True)
class Note:
    """One thing that was noticed.

    Attributes:
      rule: what was looked for, a few words with `_`: `initial_loss`.
      verdict: how bad it is.
      evidence: what was measured, with its figure.
      remedy: what to try; empty where nothing is wrong.
    """

    rule: str
    verdict: Verdict
    evidence: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a step found; plain values that JSON can hold.

    Attributes:
      step: the step's name.
      notes: what was noticed.
      settings: what follows for the steps after it: settings by name, as flags spell them.
      advice: what follows, in a sentence; empty for nothing.
      stops: whether the steps after it would be pointless.
      tables: columns by name, by the table's name: what pictures are drawn from.
      facts: further numbers and texts by name.
      seconds: what the step took.
      planned: seconds that it was given; NaN where nothing was planned.
    """

    step: str
    notes: tuple[Note, ...]
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    advice: str = ""
    stops: bool = False
    tables: Mapping[str, Table] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    planned: float = math.nan

    @property
    def left_out(self) -> bool:
        """Whether the step was not made, for want of time."""
        return bool(self.facts.get("left_out"))

    @property
    def verdict(self) -> Verdict:
        """The worst of its notes'."""
        return worst(note.verdict for note in self.notes)

    def lines(self) -> list[str]:
        """Returns what the screen says: the verdict, each note with its evidence, and what follows."""
        lines = [f"{self.step}: {self.verdict} ({self.seconds:.1f} s)"]
        for note in self.notes:
            lines.append(f"  {note.verdict:7} {note.evidence}")
            if note.remedy:
                lines.append(f"          try: {note.remedy}")
        if self.advice:
            lines.append(f"  next: {self.advice}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Returns values that JSON can hold; numbers that are not finite as texts."""
        return _plain(dataclasses.asdict(self))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Finding":
        """Returns what `to_json` was given."""
        values = _restored(values)
        notes = tuple(Note(**note) for note in values["notes"])
        return cls(**{**values, "notes": notes})


def worst(verdicts: Any) -> Verdict:
    """Returns the worst of some verdicts; `ok` of none."""
    return max(verdicts, key=VERDICTS.index, default="ok")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"float"}:
            return float(value["float"])
        return {name: _restored(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_restored(one) for one in value]
    return value
