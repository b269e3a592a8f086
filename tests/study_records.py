"""Made-up trials of a study, for the tests of what a study writes and shows."""

import math
from typing import Any

import numpy as np

from hpjax.study.records import Measured, TrialRecord
from hpjax.study.searched import Choices, Range, Searched

SEARCHED: dict[str, Searched] = {
    "learning_rate": Range("float", 1e-4, 1.0, log=True),
    "momentum": Range("float", 0.0, 1.0),
    "batch_size": Range("int", 8, 256, log=True),
    "optimizer": Choices(("momentum", "adamw")),
    "seed": Range("int", 0, 3),
}
SCALES = {"learning_rate": "log", "momentum": "linear", "batch_size": "log", "optimizer": "category"}


def trials(
    rng: np.random.Generator,
    settings: int,
    seeds: int = 2,
    evaluations: int = 10,
    *,
    diverged: float = 0.1,
    stopped: float = 0.0,
    names: tuple[str, ...] = tuple(SCALES),
) -> list[TrialRecord]:
    """Returns trials with curves that rise towards a level which depends on the settings, some diverged, some stopped.

    Args:
      rng: where the numbers come from.
      settings: hyperparameter settings.
      seeds: trials of each.
      evaluations: of a whole run, 50 steps apart.
      diverged: share of the trials whose loss became NaN in mid-run.
      stopped: share of the others that were stopped in mid-run.
      names: what was varied, of `SCALES`, beside the seed.
    """
    result = []
    for setting in range(settings):
        point = tuple(rng.random(len(names)).tolist())
        drawn: dict[str, Any] = {
            "learning_rate": float(10 ** rng.uniform(-4, 0)),
            "momentum": float(rng.random()),
            "batch_size": int(rng.integers(8, 257)),
            "optimizer": ("momentum", "adamw")[int(rng.integers(2))],
        }
        level = 0.95 - 0.05 * (math.log10(drawn["learning_rate"]) + 1.5) ** 2
        for seed in range(seeds):
            number = setting * seeds + seed
            values = {name: drawn[name] for name in names} | {"seed": seed}
            record = TrialRecord(number, setting, values, point, "done", began=0.1 * number, ended=0.1 * number + 2.5)
            last = evaluations
            if rng.random() < diverged:
                record.status, last = "diverged", int(rng.integers(1, evaluations + 1))
                record.diverged_at = 50 * last - 7
            elif rng.random() < stopped:
                record.status, last = "stopped", int(rng.integers(1, evaluations + 1))
            for e in range(1, last + 1):
                value = level * (1 - math.exp(-0.5 * e)) + 0.01 * float(rng.normal())
                bad = record.status == "diverged" and e == last
                value = math.nan if bad else value
                numbers = {"val/loss": 1 - value, "val/accuracy": value, "train/loss": 0.9 - value}
                record.curve.append(Measured(100 * e, 50 * e, value, numbers))
            if record.status != "diverged":
                record.objective = max(m.value for m in record.curve)
            result.append(record)
    return result
