"""The space of a study: from a point of the unit cube to the settings of a trial."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.study.space import edges, inverse, replication
from hpjax.study.space.distributions import MOST_VALUES
from hpjax.study.space.edges import Scale
from hpjax.study.space.grammar import Parsed, parse
from hpjax.study.space.program import Program
from hpjax.study.space.settings import REPLICATED, check_name, is_number
from hpjax.study.space.source import Refused
from hpjax.study.space.tree import Draw


class Space:
    """What a study varies; made by `Space.parse`.

    Attributes:
      texts: the texts of `--vary`, as they are written to flags, in the order given.
      names: the hyperparameters, in the order given, without replicated ones.
      replicated: the settings that repeat every hyperparameter setting (seed, data_seed, fold).
      replicas: all combinations of their values, the last fastest; one empty one if there is none.
      leaves: the sampled coordinates, in order.
    """

    def __init__(self, texts: Sequence[Parsed], base: Config):
        parsed = {one.source.name: one for one in texts}
        axes = {name: one for name, one in parsed.items() if name in REPLICATED}
        self._program = Program({name: one for name, one in parsed.items() if name not in axes}, tuple(axes), base)
        self.texts = tuple(one.text for one in texts)
        self.names = tuple(self._program.trees)
        self.replicated = tuple(axes)
        self.replicas = replication.product(axes)
        self._places = self._program.places
        self.leaves = tuple(self._program.leaves[name][at] for name, at in self._places)

    @classmethod
    def parse(cls, texts: Sequence[str], base: Config) -> "Space":
        """Returns the space that texts say.

        Args:
          texts: `name=expression`, one a setting.
          base: what is varied: settings that no text names have its values.

        Raises:
          ConfigError: one line that points at the character: what is not of the language, an unknown setting or one
            that cannot be varied, a setting twice, settings that need one another, a value that its setting cannot have,
            one that is varied at no point.
        """
        parsed: list[Parsed] = []
        for text in texts:
            one = parse(text)
            check_name(one.source, [before.source.name for before in parsed])
            parsed.append(one)
        return cls(parsed, base)

    def values(self, point: Sequence[float]) -> dict[str, Any]:
        """Returns the hyperparameters at a point.

        Args:
          point: a number in [0, 1) for each leaf.

        Returns:
          Values by name, as `Config` holds them; a setting whose condition is false is not there.

        Raises:
          ConfigError: an expression comes to a value that its setting cannot have.
          ValueError: the point has another number of coordinates, or one outside of [0, 1).
        """
        values = self._program.values(self._program.drawn(point))
        return {name: values[name] for name in self.names if name in values}

    def active(self, point: Sequence[float]) -> tuple[bool, ...]:
        """Returns for each leaf whether the settings at a point depend on it: false in a branch that is not taken."""
        drawn = self._program.drawn(point)
        self._program.values(drawn)
        return tuple(at in drawn[name].asked for name, at in self._places)

    def point(self, values: Mapping[str, Any]) -> tuple[float, ...] | None:
        """Returns the point of hyperparameters, 0.5 for a leaf that they do not depend on: the inverse of `values`.

        Args:
          values: hyperparameters by name, of another study for example.

        Returns:
          The point; None where a value lies outside of what is searched or is missing, or its expression has several leaves.
        """
        wanted = {name: values[name] for name in self.names if name in values}
        try:
            found = inverse.solve(self._program, wanted)
            point = tuple(found.get(place, 0.5) for place in self._places)
            return point if inverse.agrees(self.values(point), wanted) else None
        except (inverse.NoPoint, ConfigError):
            return None

    @property
    def grid_size(self) -> int | None:
        """Number of points of the grid: the product of the leaves' numbers of values; None if one is continuous."""
        counts = [leaf.count for leaf in self.leaves if leaf.count is not None]
        return math.prod(counts) if len(counts) == len(self.leaves) else None

    def check_grid(self) -> int:
        """Returns `grid_size`; raises ConfigError where there is no grid, or one of more than a million points."""
        for (name, at), leaf in zip(self._places, self.leaves, strict=True):
            if leaf.count is None:
                parsed = self._program.parsed[name]
                function = parsed.drawn[at].name
                expected = f"expected {function}(low,high,number), a grid's values are counted; or another sampler"
                raise parsed.source.error(Refused(at, f"{function} is continuous", expected))
        size = math.prod(leaf.count or 1 for leaf in self.leaves)
        if size > MOST_VALUES:
            numbers = " x ".join(str(leaf.count) for leaf in self.leaves)
            raise ConfigError(f"vary: the grid has {size} points ({numbers}); expected at most {MOST_VALUES}")
        return size

    def grid_point(self, index: int) -> tuple[float, ...]:
        """Returns a point of the grid, the centre of its cell; the last leaf is the fastest.

        Raises:
          ConfigError: a leaf is continuous, or the grid has more than a million points.
          IndexError: `index` is not in [0, grid_size).
        """
        size = self.check_grid()
        if not 0 <= index < size:
            raise IndexError(f"point {index} of a grid of {size}")
        places: list[float] = []
        for leaf in reversed(self.leaves):
            index, cell = divmod(index, leaf.count or 1)
            places.append((cell + 0.5) / (leaf.count or 1))
        return tuple(reversed(places))

    def grid_index(self, point: Sequence[float]) -> int:
        """Returns the index of the grid's cell in which a point of the unit cube lies."""
        index = 0
        for leaf, u in zip(self.leaves, point, strict=True):
            count = leaf.count or 1
            index = index * count + min(int(u * count), count - 1)
        return index

    def grid_values(self, index: int) -> dict[str, Any]:
        """Returns the hyperparameters at a point of the grid; raises as `grid_point` and `values`."""
        return self.values(self.grid_point(index))

    def distinct(self) -> Iterator[int]:
        """Yields the indices of the grid's points whose settings differ, of equal ones the first.

        Raises:
          ConfigError: as `grid_point` and `values`.
        """
        size = self.check_grid()
        if self._all_differ:
            yield from range(size)
            return
        counts = [leaf.count or 1 for leaf in self.leaves]
        blocks = [math.prod(counts[place + 1 :]) for place in range(len(counts))]
        seen: set[tuple[tuple[str, Any], ...]] = set()
        index = 0
        while index < size:
            drawn = self._program.drawn(self.grid_point(index))
            values = tuple(self._program.values(drawn).items())
            if values not in seen:
                seen.add(values)
                yield index
            used = [place for place, (name, at) in enumerate(self._places) if at in drawn[name].asked]
            # What the leaves behind the last one that is used are changes nothing.
            index = (index // blocks[used[-1]] + 1) * blocks[used[-1]] if used else size

    @property
    def _all_differ(self) -> bool:
        return all(isinstance(tree, Draw) for tree in self._program.trees.values())

    def edges(self, values: Mapping[str, Any], tried: Iterable[Mapping[str, Any]] = ()) -> list[str]:
        """Returns which numbers lie at the edge of what was searched, and at which: `learning_rate (highest)`.

        At the edge: within 5 % of a continuous leaf's range (of its logarithm, for `log`), or the least or the most of a
        discrete one; or the least or the most of what was tried. A setting whose expression has no leaf, several, or another
        setting's value has no edge but that.

        Args:
          values: hyperparameters by name; those that are not there are left out.
          tried: all that were tried.
        """
        scope, found, all_tried = self._program.scope(values), [], list(tried)
        for name, tree in self._program.trees.items():
            if name in values:
                end = edges.edge(tree, self._program.leaves[name], scope, values[name])
                end = end or edges.end_of([one[name] for one in all_tried if name in one], values[name])
                found += [f"{name} ({end})"] if end else []
        return found

    def scale(self, name: str) -> Scale:
        """Returns how a picture draws a hyperparameter's axis: log, linear or category."""
        return edges.scale(name, self._program.trees, self._program.leaves) if is_number(name) else "category"
