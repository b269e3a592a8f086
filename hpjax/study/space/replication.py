"""Settings that repeat every hyperparameter setting: seeds and folds."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from hpjax.study.space.distributions import MOST_VALUES
from hpjax.study.space.domains import settle
from hpjax.study.space.grammar import Parsed
from hpjax.study.space.source import Refused
from hpjax.study.space.tree import Draw


def values(parsed: Parsed) -> tuple[Any, ...]:
    """Returns the values of a replicated setting.

    Raises:
      ConfigError: it is not `range`, `grid` or `choice` alone, or a value is none of the setting's.
    """
    name, tree = parsed.source.name, parsed.tree
    drawn = parsed.drawn.get(tree.at) if isinstance(tree, Draw) else None
    if drawn is None or drawn.name not in ("range", "grid", "choice"):
        came = f"'{name}' repeats every point and is not drawn"
        raise parsed.source.error(Refused(parsed.source.start, came, f"expected {name}=range(4), grid(...) or choice(...)"))
    leaf = settle(parsed, drawn)
    return tuple(leaf.at(index) for index in range(leaf.count or 0))


def product(axes: Mapping[str, Parsed]) -> list[dict[str, Any]]:
    """Returns all combinations of replicated settings, the last fastest; one empty one if there is none.

    Raises:
      ConfigError: as `values`, or there are more than a million.
    """
    lists = [values(parsed) for parsed in axes.values()]
    total = math.prod(map(len, lists))
    if total > MOST_VALUES:
        source = list(axes.values())[-1].source
        raise source.error(Refused(source.start, f"{total} repetitions of every point", f"expected at most {MOST_VALUES}"))
    return [dict(zip(axes, combination, strict=True)) for combination in itertools.product(*lists)]
