"""The spaces that are searched: the optimizer's default one, and one narrowed around what was found good."""

import math
import re
from collections.abc import Mapping, Sequence

from hpjax import optimizers
from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.study.records import SettingSummary
from hpjax.study.space import Space

_SIMPLE = re.compile(r"(1-)?(log|uniform)\(\s*([^,()]+)\s*,\s*([^,()]+)\s*\)")
MARGIN = 0.15
"""By what share of the good region's extent it is widened on each side."""
LEAST = 0.1
"""Share of a range that is left of it at least."""
OFTEN = 5.0
"""Epochs from which on dropout is searched though the config has none."""
EDGE = 0.05
"""Share of a range that counts as its edge."""


def default_space(config: Config, low: float, high: float, epochs: float = math.inf) -> dict[str, str]:
    """Returns what is varied where nothing is asked for, in the usual order of importance.

    Args:
      config: a resolved config.
      low: the lowest learning rate worth a try.
      high: the highest.
      epochs: how often a whole run sees each example: dropout is no good where it sees none often.
    """
    space = {"learning_rate": f"log({low:.3g},{high:.3g})"}
    momentum = optimizers.momentum_setting(config.optimizer)
    if momentum is not None and getattr(config, momentum, None) is not None:
        space[momentum] = "1-log(1e-2,0.5)"
    if "weight_decay" in optimizers.OPTIMIZERS.settings(config.optimizer):
        space["weight_decay"] = "log(1e-5,1e-1)" if config.weight_decay is not None else "log(1e-6,1e-2)"
    space["warmup"] = "choice('0%','5%','10%')"
    if config.dropout_rate is not None and (config.dropout_rate > 0 or epochs >= OFTEN):
        space["dropout_rate"] = "uniform(0.01,0.5)"
    return space


def narrowed(
    space: Mapping[str, str], good: Sequence[SettingSummary], best: SettingSummary, config: Config
) -> dict[str, str]:
    """Returns a space around the good settings, beyond an edge that the best one sits on.

    `log`, `uniform` and `1-log` are narrowed; other expressions stay as they are.

    Args:
      space: expressions by setting.
      good: the settings that were found good.
      best: the best of them.
      config: the config that they differ from, which says how far an edge may be moved.
    """
    narrow = {}
    for name, text in space.items():
        values = [one.values.get(name) for one in good]
        wide, inside = (_narrowed(text, values, best.values.get(name), beyond) for beyond in (True, False))
        narrow[name] = wide if _allowed({**space, name: wide}, config) else inside
    return narrow


def _allowed(space: Mapping[str, str], config: Config) -> bool:
    try:
        Space.parse(tuple(f"{name}={text}" for name, text in space.items()), config)
    except ConfigError:
        return False
    return True


def _narrowed(text: str, values: Sequence[object], best: object, beyond: bool) -> str:
    """Returns an expression narrowed; `beyond` the edge that the best value sits on, or within its range."""
    found = _SIMPLE.fullmatch(text.strip())
    numbers = [value for value in (*values, best) if isinstance(value, (int, float))]
    if found is None or not numbers or not isinstance(best, (int, float)):
        return text
    reflected, kind, *ends = found.groups()
    to, back = (math.log, math.exp) if kind == "log" else (float, float)
    inner = [to(1 - value if reflected else value) for value in numbers]
    low, high = (to(float(end)) for end in ends)
    whole, extent = high - low, max(inner) - min(inner)
    margin = max(MARGIN * extent, (LEAST * whole - extent) / 2)
    new_low, new_high = max(min(inner) - margin, low), min(max(inner) + margin, high)
    at = inner[-1]
    if beyond and at < low + EDGE * whole:
        new_low = low - whole / 4
    if beyond and at > high - EDGE * whole:
        new_high = high + whole / 4
    return f"{reflected or ''}{kind}({back(new_low):.4g},{back(new_high):.4g})"
