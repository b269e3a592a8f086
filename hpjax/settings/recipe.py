"""Settings of the recipe: how long it may take, which steps it makes, what it searches."""

import dataclasses

from hpjax.durations import is_time, seconds
from hpjax.settings.fields import AT_LEAST_2, Domain, Lines, setting, some_of

STEPS = ("initial", "gradient", "overfit", "lr", "batch", "coarse", "refine", "confirm", "curves")
"""The steps of the recipe, in their order."""


LEAST_SECONDS = 20
"""The smallest budget: starting up, the first step and the report take that long."""
LONG_ENOUGH: Domain = (
    lambda v: is_time(v) and seconds(v) >= LEAST_SECONDS,
    f"a time of at least {LEAST_SECONDS}s: 90s, 10min or 2h",
)


@dataclasses.dataclass(frozen=True)
class RecipeSettings:
    """Settings of `hpjax.tune`, beside those of the trials."""

    budget: str = setting("5min", "how long all of it may take: 90s, 10min or 2h", LONG_ENOUGH, main=True)
    steps: tuple[str, ...] = setting(
        STEPS,
        "steps to make: " + ", ".join(STEPS),
        some_of(STEPS),
        main=True,
    )
    vary: Lines = setting(
        Lines(()), "what the search varies, one setting a flag (default: what the optimizer's users vary)", main=True
    )
    confirm_seeds: int = setting(4, "seeds that each of the best settings is trained with in the end", AT_LEAST_2, main=True)
    study: str | None = setting(None, "the recipe's folder (default: runs/DATASET_MODEL-tune-TIME)", main=True)
