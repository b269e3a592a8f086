"""Settings of a study: what is varied, how the space is searched, and when a trial is stopped."""

import dataclasses

from hpjax.settings.fields import AT_LEAST_1, AT_LEAST_2, SEED, Lines, choice, counted, setting


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """Settings of a study, beside those of its trials."""

    vary: Lines = setting(
        Lines(()), "what is varied, one setting a flag: --vary='learning_rate=log(1e-4,1)' --vary='seed=range(4)'", main=True
    )
    trials: int = setting(64, "trials in all, seeds and folds counted", AT_LEAST_1, main=True)
    sampler: str = setting(
        "halton",
        "how the space is searched: halton, random, grid, or tpe (Optuna's)",
        choice("halton", "random", "grid", "tpe"),
        main=True,
    )
    sampler_seed: int = setting(0, "seed of the sampler", SEED, main=True)
    scheduler: str = setting(
        "none",
        "what stops trials early: none, asha (stopping rule), asha_promotion, median, halving or hyperband",
        choice("none", "asha", "asha_promotion", "median", "halving", "hyperband"),
        main=True,
    )
    eta: int = setting(3, "of eta settings at a rung one goes on", AT_LEAST_2, main=True)
    min_evaluations: int = setting(1, "evaluations before the first rung", AT_LEAST_1, main=True)
    aggregate: str = setting("mean", "what counts of a setting's seeds and folds: mean or median", choice("mean", "median"))
    enqueue: str | None = setting(None, "file of settings to run first: JSON or csv with a header")
    warm_start: str | None = setting(None, "folder of another study whose results the sampler is told")
    lanes: str = setting("auto", "trials in the program at once: auto or a number", counted("auto"), main=True)
    storage: str | None = setting(None, "URL of an Optuna storage that the finished study is copied to")
    extend: bool = setting(
        False, "whether the folder's study goes on with more --trials, or with another --vary, instead of being refused"
    )
    study: str | None = setting(None, "the study's folder (default: runs/DATASET_MODEL-sweep-TIME)", main=True)
