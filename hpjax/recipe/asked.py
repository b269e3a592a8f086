"""What the config had before the recipe chose anything, as far as the searches need it."""

from collections.abc import Mapping
from typing import Any

from hpjax import resolve
from hpjax.config import Config
from hpjax.recipe.context import Context
from hpjax.recipe.finding import Finding
from hpjax.study import table
from hpjax.study.plan import OFF_AT_ZERO, in_examples
from hpjax.study.space import Space


def full_length(context: Context) -> int:
    """Returns the steps of a whole run."""
    return resolve.lengths(context.config, context.dataset.splits["train"][1])[0].train_steps


def asked_values(context: Context, space: Mapping[str, str]) -> dict[str, Any]:
    """Returns the values of what is searched that the config had before the recipe chose any; empty if it has not all."""
    asked = context.asked or context.config
    values = {name: getattr(asked, name) for name in space if name not in table.SEED_LIKE}
    if "warmup" in values:
        values["warmup"] = warmup_share(context)
    # A rate that is 0 makes a program of its own, without that part: it is no place of the space.
    off = any(values.get(name) == 0 for name in OFF_AT_ZERO)
    return {} if off or any(value is None for value in values.values()) else values


def warmup_share(context: Context) -> str:
    """Returns the warmup that the config had as a share of a whole run, which it is in short runs, too."""
    lengths = resolve.lengths(context.asked or context.config, context.dataset.splits["train"][1])[0]
    return f"{100 * lengths.warmup_share:.4g}%"


def replicas(config: Config, space: Mapping[str, str]) -> int:
    """Returns the trials that a study makes of each setting of a space: its seeds and folds, and those of the data."""
    varied = len(Space.parse([f"{name}={text}" for name, text in space.items()], config).replicas) if space else 1
    return varied * (config.folds or 1 if "fold" not in space else 1)


def chosen(given: Config, findings: Mapping[str, Finding]) -> Config:
    """Returns a config with what the steps have chosen, resolved; a run of another batch size sees as many examples.

    Args:
      given: the recipe's config, defaults not filled in.
      findings: what the steps found, in their order.
    """
    settings = {name: text for finding in findings.values() for name, text in finding.settings.items()}
    lengths = in_examples(given, given.batch_size) if "batch_size" in settings else {}
    return resolve.resolve(given.replace(**{**lengths, **settings}))
