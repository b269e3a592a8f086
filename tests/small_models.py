"""Small settings and inputs for every registered model: what the tests that run over `MODELS` use.

A new model adds a row to `SMALL`: sizes that compile in a second or two, activations that are smooth (central differences
meet no kink of relu), and what one example looks like.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpjax.models import MODELS

OUTPUTS = 5


@dataclasses.dataclass(frozen=True)
class Small:
    """A model at a size for tests.

    Attributes:
      settings: its static settings, those that are not its defaults.
      example: shape of one example.
      tokens: whether the inputs are token numbers below `OUTPUTS`, and there is a target for each of them.
    """

    settings: Mapping[str, Any]
    example: tuple[int, ...]
    tokens: bool = False

    def inputs(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        """Returns float32 or int32 [batch, *example]."""
        if self.tokens:
            return rng.integers(OUTPUTS, size=(batch, *self.example)).astype(np.int32)
        return rng.normal(size=(batch, *self.example)).astype(np.float32)

    def labels(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        """Returns int32 [batch], or [batch, *example] for tokens."""
        return rng.integers(OUTPUTS, size=(batch, *self.example) if self.tokens else batch).astype(np.int32)


IMAGE = (8, 8, 1)
TIME = 6
BLOCKS = {"depth": 2, "width": 8, "heads": 2, "mlp_ratio": 2}

SMALL: dict[str, Small] = {
    "cnn": Small({"activation": "tanh"}, IMAGE),
    "logistic": Small({}, IMAGE),
    "lstm": Small({"width": 8}, (TIME,), tokens=True),
    "mlp": Small({"activation": "tanh"}, IMAGE),
    "resnet": Small({"activation": "tanh", "depth": 8, "channels": (4, 8, 8)}, (8, 8, 3)),
    "wide_resnet": Small({"activation": "tanh", "depth": 10, "channels": (2, 4, 4), "widen_factor": 2}, (8, 8, 3)),
    "transformer": Small({**BLOCKS, "context_length": TIME}, (TIME,), tokens=True),
    "vit": Small(BLOCKS, IMAGE),
}


def small(name: str) -> Small:
    """Returns the row of a registered model; fails for a model that has none."""
    assert name in SMALL, f"model '{name}' has no row in tests/small_models.py"
    return SMALL[name]


def build(name: str, **settings: Any) -> Any:
    """Returns the registered model at its small size, with `OUTPUTS` outputs."""
    return MODELS.get(name)(OUTPUTS, **{**small(name).settings, **settings})
