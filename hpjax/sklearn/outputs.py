"""What a trained model says of a table: its outputs, compiled once for tables of any length."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from hpjax import devices, resolve
from hpjax.config import Config
from hpjax.models import MODELS
from hpjax.ops import native, precision

FEW, MANY = 256, 4096
"""Rows at a time, of a short table and of a long one: a row's outputs do not depend on how many others there are."""


def outputs(config: Config, number: int, variables: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Returns a model's outputs.

    Args:
      config: the trial's config, resolved.
      number: outputs of the model.
      variables: its parameters and other variables.
      x: float32 [examples, ...], as the model was trained on.

    Returns:
      float64 [examples, outputs].
    """
    devices.configure()
    model = MODELS.get(config.model)(number, **resolve.static_settings(config, "model"))
    forward = _forward(model, config.native == "on", config.compute_dtype)
    rows = FEW if len(x) <= MANY else MANY
    parts = []
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        filled = np.concatenate([part, np.zeros((rows - len(part), *x.shape[1:]), x.dtype)])
        parts.append(np.asarray(forward(variables, filled))[: len(part)])
    return np.concatenate(parts).astype(np.float64)


@functools.lru_cache(maxsize=32)
def _forward(model: nn.Module, is_native: bool, compute_dtype: str) -> Callable[..., Any]:
    @jax.jit
    def forward(variables: Any, x: jax.Array) -> Any:
        with native.scope(is_native, devices.cores()), precision.scope(compute_dtype):
            return model.apply(variables, x)

    return forward


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities, float64 [examples, classes], of logits."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
