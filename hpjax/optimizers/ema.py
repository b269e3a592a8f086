"""Exponential moving average of parameters."""

from typing import Any

import jax

from hpjax.registry import Scalar


def update(average: Any, params: Any, decay: Scalar) -> Any:
    """Returns `decay average + (1 - decay) params`.

    Args:
      average: a tree like `params`; a run starts from its initial parameters.
      params: the parameters after an update.
      decay: scalar in [0, 1).

    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging (1992), with constant decay.
    """
    return jax.tree.map(lambda a, w: decay * a + (1 - decay) * w, average, params)
