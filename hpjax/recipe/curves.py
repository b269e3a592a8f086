"""Step 9: the learning curves of the best trials, and of the study as a whole."""

import math

from hpjax.recipe.context import Context
from hpjax.recipe.diagnosis import curves_of, diagnose, of_study, seed_noise
from hpjax.recipe.finding import Finding, Note
from hpjax.recipe.search import load
from hpjax.study.records import TrialRecord

TOP = 3
"""Trials whose curves are judged."""


def curves(context: Context, name: str, chance: float) -> Finding:
    """Returns what the curves of a step's best trials say.

    Args:
      context: the recipe.
      name: the step whose study has them.
      chance: the loss at chance; NaN where it is not known.
    """
    study = load(context, name)
    objective = study.objective
    done = [record for record in study.records if record.status == "done" and math.isfinite(record.objective)]
    top = sorted(done, key=lambda one: (-objective.score(one.objective), one.number))[:TOP]
    notes: list[Note] = []
    for record in top:
        steps = record.curve[-1].step if record.curve else 0
        found = diagnose(curves_of(record, objective, chance, steps))
        notes += [Note(note.rule, note.verdict, f"trial {record.number}: {note.evidence}", note.remedy) for note in found]
    searched = next((step for step in ("refine", "coarse") if (context.path / step).exists()), None)
    if searched is not None:
        notes += of_study(load(context, searched).records, objective, seed_noise(study.records))
    notes = notes or [Note("curves", "ok", "no trial came to its end")]
    return Finding("curves", tuple(notes), tables={"curves": _table(done or list(study.records))})


def _table(records: list[TrialRecord]) -> dict[str, list[float]]:
    rows = [(record.number, one.step, one.numbers) for record in records for one in record.curve]
    names = list(dict.fromkeys(name for *_, numbers in rows for name in numbers))
    return {
        "trial": [number for number, *_ in rows],
        "step": [step for _, step, _ in rows],
        **{name: [numbers.get(name, math.nan) for *_, numbers in rows] for name in names},
    }
