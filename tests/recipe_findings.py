"""Made-up recipes for the tests of the report: what each step found, and studies in their folders, without training."""

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpjax import flags, resolve
from hpjax.config import Config, StudyConfig, TuneConfig
from hpjax.objective import Objective
from hpjax.recipe.finding import Finding, Note
from hpjax.recipe.folder import RecipeFolder
from hpjax.recipe.recipe import Tuned
from hpjax.report import write
from hpjax.study.journal import Journal
from hpjax.study.records import TrialRecord
from hpjax.study.table import columns

OBJECTIVE = Objective("val/accuracy", True, "best")
NAMES = ("learning_rate", "momentum", "batch_size")
VARY = ("learning_rate=log(1e-4,1)", "momentum=uniform(0,1)", "batch_size=int(8,256)", "seed=range(2)")
CONFIG = Config(dataset="digits", model="mlp", optimizer="momentum", learning_rate=0.1, progress=False)


def first_steps(rng: np.random.Generator) -> dict[str, Finding]:
    """Returns what the steps before the search found, with every table that the report draws."""
    layers = [f"Dense_{i}" for i in range(3)]
    kinds = ["activation"] * 3 + ["gradient"] * 3
    rates = [float(rate) for rate in np.geomspace(1e-5, 10, 13)]
    curve = [2.3 - 2 * math.exp(-((math.log10(rate) + 1) ** 2)) for rate in rates]
    ramp = [float(rate) for rate in np.geomspace(1e-5, 10, 50)]
    facts = {"before": 2.3, "best": 0.1, "loss": 0.3, "gain": 2.0, "largest_stable": 0.3, "unstable": 1.0}
    facts |= {"steepest": 0.03, "minimum_tenth": 0.02, "trial_steps_per_second": 1000.0, "steps": 50}
    small = {
        "learning_rate": [rate for rate in (0.01, 0.1) for _ in range(10)],
        "step": [30 * (i + 1) for _ in range(2) for i in range(10)],
        "loss": [float(rate) for rate in 2.3 * np.exp(-np.arange(20) / 3)],
    }
    found = [
        Finding(
            "initial",
            (Note("initial_loss", "ok", "the loss before training is 2.3"), Note("layers", "warning", "a dead layer", "He")),
            tables={
                "layers": {
                    "layer": [*layers, *(f"{name}/kernel" for name in layers)],
                    "kind": kinds,
                    "size": [float(one) for one in rng.uniform(0.1, 1, 5)] + [0.0],
                    "dead": [0.0, 0.5, 0.0, math.nan, math.nan, math.nan],
                }
            },
        ),
        Finding(
            "gradient",
            (Note("gradient", "ok", "gradients agree"),),
            tables={"gradients": {"parameter": layers, "difference": [1e-9, 3e-9, 1e-10]}},
        ),
        Finding(
            "overfit",
            (Note("overfit", "ok", "32 examples: loss 2.3 to 0"),),
            tables={"overfit": small},
            facts={"before": 2.3, "after": 0.0, "learning_rate": 0.1, "floor": 0.0},
        ),
        Finding(
            "lr",
            (Note("learning_rate", "ok", "0.1 is best"),),
            settings={"learning_rate": "0.1"},
            tables={
                "rates": {"learning_rate": rates, "loss": [*curve[:-1], math.nan]},
                "ramp": {"learning_rate": ramp, "loss": [2.3 if i < 40 else math.nan for i in range(50)]},
                "optimizers": {
                    "optimizer": [name for name in ("momentum", "adamw") for _ in rates],
                    "learning_rate": rates * 2,
                    "loss": [*curve[:-1], math.nan, *(1.1 * loss for loss in curve[:-1]), 1e9],
                },
                "ramps": {"optimizer": ["adamw"] * 50, "learning_rate": ramp, "loss": [2.3 - i / 50 for i in range(50)]},
                "suggestions": {"optimizer": ["momentum", "adamw"], "best": [0.1, 0.01], "unstable": [1.0, math.nan]},
            },
            facts=facts,
        ),
        Finding(
            "batch",
            (Note("throughput", "ok", "64 pays"),),
            tables={"throughput": {"batch_size": [16, 64, 256], "examples_per_second": [1e5, 3e5, 4e5]}},
            facts={"noise_scale": 150.0, "at": 64},
        ),
    ]
    return {one.step: one for one in found}


def search(step: str, records: list[TrialRecord]) -> Finding:
    """Returns what a step with a study found."""
    settings = {"learning_rate": "0.12345678", "momentum": "0.9", "seed": "1"}
    rule = "winner" if step == "confirm" else "search"
    return Finding(
        step,
        (Note(rule, "ok", f"{len(records)} trials"),),
        settings=settings,
        advice="look further",
        tables={"trials": columns(records, OBJECTIVE)},
        facts={"objective": OBJECTIVE.name},
    )


def curves() -> Finding:
    """Returns what the last step found."""
    return Finding("curves", (Note("curves", "ok", "nothing to remark"),), tables={"curves": {"trial": [0], "step": [1]}})


def write_study(path: Path, records: list[TrialRecord], **facts: Any) -> None:
    """Writes a study's folder as a study leaves it, as far as the report reads it."""
    path.mkdir(parents=True)
    names = tuple(dict.fromkeys(name for record in records for name in record.values))
    vary = tuple(text for text in VARY if text.split("=")[0] in names)
    study = StudyConfig(vary=vary, trials=len(records))  # type: ignore[arg-type]
    (path / "flags.txt").write_text(flags.to_flagfile(resolve.resolve(CONFIG), (), study))
    objective = [OBJECTIVE.name, OBJECTIVE.maximise, OBJECTIVE.value]
    (path / "metadata.json").write_text(json.dumps({"status": "done", "objective": objective, **facts}))
    journal = Journal(path / "study.journal", "made", True, None)
    journal.begin(records)
    journal.evaluated((r.number, m) for r in records for m in r.curve)
    journal.end(r for r in records if r.status in ("done", "stopped", "diverged"))
    journal.close()


def write_recipe(path: Path, findings: Mapping[str, Finding], studies: Mapping[str, list[TrialRecord]]) -> Tuned:
    """Writes a recipe's folder with its studies and its report; returns the recipe."""
    config = resolve.resolve(CONFIG)
    with contextlib.closing(RecipeFolder.open(path)) as folder:
        assert isinstance(folder, RecipeFolder)
        folder.write("flags.txt", flags.to_flagfile(config, (), TuneConfig(budget="1min")))
        for step, records in studies.items():
            write_study(path / step, records)
        for finding in findings.values():
            folder.keep(finding)
        tuned = Tuned(path, config, dict(findings))
        write(folder, tuned)
    return tuned
