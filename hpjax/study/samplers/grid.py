"""Grid search: every combination of the leaves' values, once."""

import math
from collections.abc import Sequence

from hpjax.errors import ConfigError
from hpjax.study.samplers.base import SAMPLERS, LeafLike, Point, Sampler, Seen

MOST = 1_000_000
"""Points that a grid may have."""
_COUNTED = {"log": "log(a,b,n)", "uniform": "uniform(a,b,n)"}


class Grid(Sampler):
    """The product of the leaves' values at the centres of their cells, the last leaf fastest; the seed means nothing."""

    name = "grid"

    def __init__(self, leaves: Sequence[LeafLike], seed: int):
        super().__init__(leaves, seed)
        for leaf in self.leaves:
            if leaf.count is None:
                counted = _COUNTED.get(leaf.kind, "grid(x, y, ...)")
                raise ConfigError(
                    f"sampler 'grid': '{leaf.setting}' is continuous ({leaf.kind}); expected a number of values: {counted}"
                )
        self._counts = [leaf.count or 0 for leaf in self.leaves]
        self.size = math.prod(self._counts)
        if self.size > MOST:
            sizes = " x ".join(map(str, self._counts))
            raise ConfigError(f"sampler 'grid': the grid has {self.size} points ({sizes}); expected at most {MOST}")

    def points(self, first: int, count: int, history: Sequence[Seen]) -> list[Point]:
        """Returns the points number first, ..., first + count - 1, fewer at the grid's end."""
        return [self._point(number) for number in range(first, min(first + count, self.size or 0))]

    def _point(self, number: int) -> Point:
        sides = []
        for count in reversed(self._counts):
            number, cell = divmod(number, count)
            sides.append((cell + 0.5) / count)
        return tuple(reversed(sides))


@SAMPLERS.register
def grid(leaves: Sequence[LeafLike], seed: int) -> Sampler:
    """Returns the sampler of all combinations; every leaf needs a number of values."""
    return Grid(leaves, seed)
