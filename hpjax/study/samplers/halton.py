"""Halton's sequence, scrambled: points that leave no large hole, however many are tried."""

from collections.abc import Sequence

import numpy as np

from hpjax.study.samplers.base import SAMPLERS, LeafLike, Point, Sampler, Seen, words

STREAM = 2
MOST = 2**53
"""Numerators stay below it, so that a quotient is less than 1 in float64, too."""


def primes(count: int) -> list[int]:
    """Returns the smallest primes."""
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found if prime * prime <= candidate):
            found.append(candidate)
        candidate += 1
    return found


def digits(base: int) -> int:
    """Returns the number of digits that a coordinate has: the largest m with base^m <= 2^53."""
    m = 0
    while base ** (m + 1) <= MOST:
        m += 1
    return m


def radical_inverse(numbers: np.ndarray, base: int, permutations: np.ndarray | None = None) -> np.ndarray:
    """Returns numbers with their digits mirrored at the point: 6 = 110 in base 2 gives 0.011 = 3/8.

    Args:
      numbers: int64 [count], 0 to base^digits(base) - 1.
      base: at least 2.
      permutations: int64 [digits(base), base]: what stands for each value of each digit, the lowest digit first; None:
        the digits as they are.

    Returns:
      float64 [count] in [0, 1), multiples of base^-digits(base).
    """
    mirrored, rest = np.zeros_like(numbers), numbers
    for place in range(digits(base)):
        rest, digit = np.divmod(rest, base)
        mirrored = mirrored * base + (digit if permutations is None else permutations[place][digit])
    return mirrored / base ** digits(base)


class Halton(Sampler):
    """Halton's sequence in the smallest primes, one a leaf, with a random permutation of each digit.

    Every digit of every coordinate has its own uniform permutation, drawn from the seed; leading zeros are permuted, too, so
    that each point by itself is uniform. The first base^k points, and every aligned base^k after them, still lie one in each
    of the base^k cells of their coordinate. A point follows from the seed and its number alone.

    Source: Halton, On the efficiency of certain quasi-random sequences of points (1960); Owen, A randomized Halton algorithm
    in R (2017).
    """

    name = "halton"

    def __init__(self, leaves: Sequence[LeafLike], seed: int):
        super().__init__(leaves, seed)
        self._bases = primes(self.dimensions)
        self._permutations = [self._drawn(place, base) for place, base in enumerate(self._bases)]

    def points(self, first: int, count: int, history: Sequence[Seen]) -> list[Point]:
        """Returns the points number first, ..., first + count - 1."""
        numbers = np.arange(first, first + count, dtype=np.int64)
        sides = [
            radical_inverse(numbers, base, table).tolist()
            for base, table in zip(self._bases, self._permutations, strict=True)
        ]
        return list(zip(*sides, strict=True)) if sides else [()] * count

    def _drawn(self, leaf: int, base: int) -> np.ndarray:
        raw = words(STREAM, self.seed, leaf, digits(base) * base).reshape(digits(base), base)
        return np.argsort(raw, axis=1, kind="stable").astype(np.int64)


@SAMPLERS.register
def halton(leaves: Sequence[LeafLike], seed: int) -> Sampler:
    """Returns the scrambled Halton sequence."""
    return Halton(leaves, seed)
