"""The expressions of a space, linked, in order and checked: from what is drawn to the settings' values."""

from collections.abc import Mapping, Sequence
from typing import Any

from hpjax.config import Config, to_text
from hpjax.errors import ConfigError
from hpjax.study.space import activity, domains
from hpjax.study.space.expressions import ABSENT, Scope, evaluate
from hpjax.study.space.grammar import Parsed
from hpjax.study.space.leaves import Leaf
from hpjax.study.space.linking import Linker
from hpjax.study.space.order import Cycle, needs, order
from hpjax.study.space.settings import typed
from hpjax.study.space.source import Refused
from hpjax.study.space.tree import Comparison, Conditional, Draw, Node, Reference, nodes, tails

Drawn = Mapping[str, Mapping[int, Any]]
"""What is drawn, by setting and by place in its text."""


class Asked(dict[int, Any]):
    """What is drawn, by place, and what of it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[int] = set()

    def __getitem__(self, at: int) -> Any:
        self.asked.add(at)
        return super().__getitem__(at)


class Program:
    """What the texts of the hyperparameters come to.

    Args:
      parsed: the texts by name, in the order given.
      replicated: settings that repeat every point.
      base: the config that is varied.

    Attributes:
      trees: the expressions of the settings that vary, by name.
      leaves: their leaves, by name and place, in order.
      places: names and places of all leaves, in order.

    Raises:
      ConfigError: names that lead nowhere or in a circle, values that settings cannot have, or a setting that is varied at
        no point.
    """

    def __init__(self, parsed: Mapping[str, Parsed], replicated: tuple[str, ...], base: Config):
        self.parsed, self.base = parsed, base
        self.trees = self._linked(replicated)
        self._order = self._ordered()
        self.leaves = {name: self._leaves(name) for name in self.trees}
        self.places = tuple((name, at) for name, leaves in self.leaves.items() for at in leaves)
        for name in self.trees:
            self._check(name)
            if activity.never(self, name):
                raise self._never(name)

    def drawn(self, point: Sequence[float]) -> dict[str, Asked]:
        """Returns the leaves' values at a point of the unit cube; raises ValueError for another number of coordinates."""
        if len(point) != len(self.places):
            raise ValueError(f"a point has {len(point)} numbers; expected {len(self.places)}, one for each leaf")
        drawn = {name: Asked() for name in self.trees}
        for (name, at), u in zip(self.places, point, strict=True):
            drawn[name][at] = self.leaves[name][at].value(float(u))
        return drawn

    def values(self, drawn: Drawn, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Returns the values of settings from what is drawn; one whose condition is false is not there.

        Args:
          drawn: the leaves' values.
          names: settings in an order in which they can be evaluated; None for all.

        Raises:
          ConfigError: an expression comes to no number, or to one that its setting cannot have.
        """
        seen: dict[str, Any] = {}
        found: dict[str, Any] = {}
        for name in self._order if names is None else names:
            source = self.parsed[name].source
            try:
                value = evaluate(self.trees[name], Scope(drawn.get(name, {}), seen))
                if value is ABSENT:
                    seen[name] = getattr(self.base, name)
                else:
                    found[name] = seen[name] = typed(name, value)
            except Refused as refused:
                raise source.error(refused) from None
            except ConfigError as error:
                raise source.error(domains.refused(str(error), source.start)) from None
        return found

    def scope(self, values: Mapping[str, Any]) -> Scope:
        """Returns what conditions see of values; the base's where there are none."""
        return Scope({}, {name: values.get(name, getattr(self.base, name)) for name in self.trees})

    def _linked(self, replicated: tuple[str, ...]) -> dict[str, Node]:
        for parsed in self.parsed.values():
            if not any(isinstance(node, (Draw, Reference, Comparison)) for node in nodes(parsed.tree)):
                name = parsed.source.name
                came = f"'{parsed.source.expression}' does not vary"
                expected = f"expected for example {name}=choice(...); a fixed value is the flag --{name}"
                raise parsed.source.error(Refused(parsed.source.start, came, expected))
        linker, trees = Linker(self.parsed, replicated, self.base), {}
        for name, parsed in self.parsed.items():
            try:
                linker.check_names(parsed.tree)
                tree = linker.link(parsed.tree)
            except Refused as refused:
                raise parsed.source.error(refused) from None
            if tree is None:
                raise self._never(name)
            trees[name] = tree
        return trees

    def _never(self, name: str) -> ConfigError:
        """Returns the error for a setting that no trial would vary."""
        parsed = self.parsed[name]
        condition = next(node.condition for node in nodes(parsed.tree) if isinstance(node, Conditional))
        fixed = [one for one in needs(condition) if one not in self.parsed]
        values = ", ".join(f"{one} is {to_text(one, getattr(self.base, one))}" for one in fixed)
        came = f"'{name}' is varied in no trial{f' ({values})' if values else ''}: its condition never holds"
        return parsed.source.error(Refused(condition.at, came, "expected one that can hold, or no text for it"))

    def _ordered(self) -> tuple[str, ...]:
        try:
            return order(self.trees)
        except Cycle as cycle:
            name = cycle.path[0]
            following = cycle.path[1] if len(cycle.path) > 1 else name
            at = needs(self.trees[name])[following]
            what = " -> ".join((*cycle.path, name))
            came = f"'{following}' closes a circle ({what})"
            raise self.parsed[name].source.error(
                Refused(at, came, "expected settings that do not need one another")
            ) from None

    def _leaves(self, name: str) -> dict[int, Leaf]:
        parsed, tree = self.parsed[name], self.trees[name]
        whole = [tail.at for tail in tails(tree) if isinstance(tail, Draw)]
        return {
            node.at: domains.settle(parsed, parsed.drawn[node.at]) if node.at in whole else parsed.drawn[node.at].leaf
            for node in nodes(tree)
            if isinstance(node, Draw)
        }

    def _check(self, name: str) -> None:
        """Raises ConfigError if a setting comes to a value that it cannot have at one of the points looked at."""
        names = order(self.trees, (name,))
        leaves = {(one, at): leaf for one in names for at, leaf in self.leaves[one].items()}
        for point in domains.points(leaves):
            drawn: dict[str, dict[int, Any]] = {one: {} for one in names}
            for (one, at), value in point.items():
                drawn[one][at] = value
            self.values(drawn, names)
