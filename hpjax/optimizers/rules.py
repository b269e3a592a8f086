"""Which parameters decay, which learn faster, which are frozen: by regular expressions on their paths."""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

from hpjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Rules:
    """What holds for each parameter of one tree, in the order of its leaves. Hashable: it shapes a program.

    Attributes:
      paths: the parameters' paths, `Dense_0/kernel`.
      decay: what `weight_decay`, `l1` and `l2` are multiplied by.
      learning_rate: what the learning rate is multiplied by.
      frozen: whether a parameter is not trained.
      decay_given: whether `decay` came from rules; if not, an `optax:` optimizer decays as Optax does.
    """

    paths: tuple[str, ...]
    decay: tuple[float, ...]
    learning_rate: tuple[float, ...]
    frozen: tuple[bool, ...]
    decay_given: bool

    @classmethod
    def create(
        cls,
        params: Any,
        decay_rules: Sequence[str] = (),
        learning_rate_rules: Sequence[str] = (),
        freeze: Sequence[str] = (),
    ) -> "Rules":
        """Returns the rules of a tree of parameters.

        A regular expression may match anywhere in a path (`re.search`): `head` matches `head/kernel`; `^` and `$` anchor it.

        Args:
          params: a tree of arrays or of their shapes.
          decay_rules: `REGEX=MULTIPLIER`, the first that matches a path holds; empty: 1 for parameters of 2 or more
            dimensions, 0 for the rest (biases, normalisation).
          learning_rate_rules: likewise; empty: 1 for all.
          freeze: regular expressions of the paths that are not trained.

        Raises:
          ConfigError: a rule is malformed or holds for no parameter, a parameter matches no rule, or all are frozen.
        """
        leaves = jax.tree_util.tree_leaves_with_path(params)
        paths = tuple(jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves)
        matrices = tuple(float(len(leaf.shape) > 1) for _, leaf in leaves)
        held = tuple(any(found) for found in zip(*(_found(text, paths) for text in freeze), strict=True))
        if freeze and all(held):
            raise ConfigError(f"freeze is '{','.join(freeze)}', which matches every parameter; expected one that is trained")
        return cls(
            paths=paths,
            decay=multipliers("decay_rules", decay_rules, paths) if decay_rules else matrices,
            learning_rate=multipliers("learning_rate_rules", learning_rate_rules, paths)
            if learning_rate_rules
            else (1.0,) * len(paths),
            frozen=held or (False,) * len(paths),
            decay_given=bool(decay_rules),
        )


def frozen(rules: Rules, params: Any) -> Any:
    """Returns a tree like `params` of bools: whether each parameter is frozen."""
    return jax.tree.unflatten(jax.tree.structure(params), rules.frozen)


def parsed(name: str, texts: Sequence[str]) -> list[tuple[re.Pattern[str], float]]:
    """Returns rules `REGEX=MULTIPLIER` as patterns and multipliers; raises ConfigError for one that is none."""
    rules = []
    for text in texts:
        pattern, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not equals or not pattern or not 0 <= value < math.inf:
            raise ConfigError(f"{name} has '{text}'; expected REGEX=MULTIPLIER, a finite number >= 0")
        rules.append((compiled(name, pattern), value))
    return rules


def compiled(name: str, pattern: str) -> re.Pattern[str]:
    """Returns a regular expression; raises ConfigError for a text that is none. `name`: the setting it came from."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{name} has '{pattern}', which is no regular expression: {error}") from None


def multipliers(name: str, texts: Sequence[str], paths: Sequence[str]) -> tuple[float, ...]:
    """Returns the multiplier of each path by the first rule that matches it.

    Raises:
      ConfigError: a rule is malformed, matches no path or only such as earlier rules have (a last rule for all the rest may
        find none left), or a path matches no rule.
    """
    rules = parsed(name, texts)
    matches = [[bool(pattern.search(path)) for path in paths] for pattern, _ in rules]
    first = [next((i for i, match in enumerate(matches) if match[at]), None) for at in range(len(paths))]
    for i, (text, match) in enumerate(zip(texts, matches, strict=True)):
        if not any(match):
            raise _matches_nothing(name, text, text.rpartition("=")[0], paths)
        if i not in first and not all(match):
            raise ConfigError(f"{name} has '{text}', but earlier rules hold for all that it matches: put it before them")
    for path, rule in zip(paths, first, strict=True):
        if rule is None:
            raise ConfigError(f"{name} has no rule for parameter '{path}'; end it with '.*=1' to leave the rest as it is")
    return tuple(rules[rule][1] for rule in first if rule is not None)


def _found(pattern: str, paths: Sequence[str]) -> list[bool]:
    search: Callable[[str], Any] = compiled("freeze", pattern).search
    found = [bool(search(path)) for path in paths]
    if not any(found):
        raise _matches_nothing("freeze", pattern, pattern, paths)
    return found


def _matches_nothing(name: str, text: str, pattern: str, paths: Sequence[str]) -> ConfigError:
    def likeness(path: str) -> float:
        return max(difflib.SequenceMatcher(None, pattern, part).ratio() for part in (path, *path.split("/")))

    return ConfigError(f"{name} has '{text}', which matches no parameter; the nearest is '{max(paths, key=likeness)}'")
