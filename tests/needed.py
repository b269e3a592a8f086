"""What parts cannot do without, so that every registered one can be tested."""

from hpjax.config import FIELDS, kind
from hpjax.losses import registry as losses
from hpjax.registry import REQUIRED
from hpjax.resolve import PARTS
from hpjax.schedules import SCHEDULES
from hpjax.settings.fields import Length

DATASET_OF = {
    "classification": {"dataset": "digits"},
    "regression": {"dataset": "diabetes"},
    "multilabel": {"dataset": "npz", "task": "multilabel", "data_file": "mine.npz"},
    "language": {"dataset": "synthetic_tokens"},
}
"""A data set of each task, as settings; nothing is read until a run loads it."""


def needed(schedule: str) -> dict[str, object]:
    """Returns values for those of a schedule's settings that have no default."""
    values = {}
    for setting, default in SCHEDULES.settings(schedule).items():
        if default is REQUIRED:
            assert setting in FIELDS
            of = kind(setting)
            values[setting] = "20%" if of is Length else ("30%", "60%") if of is not float else 0.5
    return values


def choosing(part: str, name: str) -> dict[str, object]:
    """Returns settings that resolve and choose a registered part: its name and what it cannot do without."""
    if part == "schedule":
        return {"schedule": name, **needed(name)}
    if part == "augment":
        return {"augment": (name,)}
    if part == "loss":
        return {**DATASET_OF[losses.tasks(name)[0]], "loss": name}
    settings = PARTS[part].settings(name)
    return {part: name} | {setting: "mine" for setting in ("data_file",) if settings.get(setting) is REQUIRED}
