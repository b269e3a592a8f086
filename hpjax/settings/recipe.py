"""Settings of the recipe: how long it may take, which steps it makes, what it searches."""

import dataclasses

from hpjax.durations import is_time
from hpjax.settings.fields import AT_LEAST_2, Lines, setting

STEPS = ("initial", "gradient", "overfit", "lr", "batch", "coarse", "refine", "confirm", "curves")
"""The steps of the recipe, in their order."""


@dataclasses.dataclass(frozen=True)
class RecipeSettings:
    """Settings of `hpjax.tune`, beside those of the trials."""

    budget: str = setting(
        "5min", "how long all of it may take: 90s, 10min or 2h", (is_time, "a time: 90s, 10min or 2h"), main=True
    )
    steps: tuple[str, ...] = setting(
        STEPS,
        "steps to make: " + ", ".join(STEPS),
        (lambda v: bool(v) and set(v) <= set(STEPS), "some of " + ", ".join(STEPS)),
        main=True,
    )
    vary: Lines = setting(
        Lines(()), "what the search varies, one setting a flag (default: what the optimizer's users vary)", main=True
    )
    confirm_seeds: int = setting(4, "seeds that each of the best settings is trained with in the end", AT_LEAST_2, main=True)
    study: str | None = setting(None, "the recipe's folder (default: runs/DATASET_MODEL-tune-TIME)", main=True)
