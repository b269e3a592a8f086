"""What a model needs to know while it trains."""

from typing import NamedTuple

import jax
import numpy as np

NEVER = np.float32(0.0)
"""A rate that is known to be 0 when a program is traced: nothing is dropped, and no part of the program is for it."""


class Training(NamedTuple):
    """What a model needs to know while it trains; at evaluation it gets None instead.

    Attributes:
      position: uint32 [batch], each example's place in the trial's stream: what a random number is drawn from.
      dropout_rate: float32 scalar in [0, 1), or `NEVER`, a plain number, where nothing is dropped.
      stochastic_depth_rate: likewise, of the last block; the first blocks have less.
      data_axis: name of the mapped axis over which the batch is sharded, for statistics of the whole batch; None if it
        is not.
    """

    position: jax.Array
    dropout_rate: jax.Array | np.float32 | float = NEVER
    stochastic_depth_rate: jax.Array | np.float32 | float = NEVER
    data_axis: str | None = None
