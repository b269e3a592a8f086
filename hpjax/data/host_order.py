"""`order.example_index` in NumPy, for a host that reads examples where they are asked for: the same values, bit for bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from hpjax.data.mixup import partner_seed
from hpjax.data.order import GENERATOR, ROUNDS, SMALL, SMALL_ROUNDS, Epoch

_WRAP = 2**32


@dataclasses.dataclass(frozen=True, eq=False)
class HostOrder:
    """The order of a stream of examples over some of its epochs; `create` makes one.

    Attributes:
      size: examples in an epoch.
      first: the first of the epochs.
      keys: uint32 [epochs, rounds], each epoch's round keys.
    """

    size: int
    first: int
    keys: np.ndarray

    @classmethod
    def create(cls, size: int, seed: int, begin: int, end: int, partners: bool = False) -> "HostOrder":
        """Returns the order of the places [begin, end) of a stream.

        Args:
          size: examples in an epoch.
          seed: the data seed.
          begin: the first place.
          end: the place after the last.
          partners: whether it is the stream of those that mixup mixes in.
        """
        first, last = begin // size, min(max(end - 1, begin), _WRAP - 1) // size
        rounds = ROUNDS if size >= SMALL else SMALL_ROUNDS
        of_stream = jnp.uint32(seed)
        base = jax.random.key(partner_seed(of_stream) if partners else of_stream, impl=GENERATOR)
        bits = jax.vmap(lambda epoch: jax.random.bits(jax.random.fold_in(base, epoch), (rounds,)))
        return cls(size, first, np.asarray(bits(jnp.arange(first, last + 1, dtype=jnp.uint32))))

    def index(self, place: np.ndarray) -> np.ndarray:
        """Returns which example stands at each of some places: int64, from int64 places in the epochs that it covers."""
        keys = self.keys[place // self.size - self.first]
        _, rows, columns = Epoch.of(self.size)
        x = _feistel((place % self.size).astype(np.uint32), keys, np.uint32(rows), np.uint32(columns))
        while (outside := x >= self.size).any():
            x[outside] = _feistel(x[outside], keys[outside], np.uint32(rows), np.uint32(columns))
        return x.astype(np.int64)


def _feistel(x: np.ndarray, keys: np.ndarray, rows: np.uint32, columns: np.uint32) -> np.ndarray:
    left, right = np.divmod(x, columns)
    for i in range(0, keys.shape[1], 2):
        left = np.remainder(left + np.remainder(_hash(right ^ keys[:, i]), rows), rows, dtype=np.uint32)
        right = np.remainder(right + np.remainder(_hash(left ^ keys[:, i + 1]), columns), columns, dtype=np.uint32)
    return left * columns + right


def _hash(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
