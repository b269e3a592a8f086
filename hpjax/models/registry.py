"""Where models are registered: functions of the number of outputs and the model's settings that return a Linen module.

Traced settings (`dropout_rate: Scalar`) are declared there and reach the layers through `Training`; they are not passed in.
"""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from hpjax.models import user
from hpjax.registry import Registry


class Models(Registry[Callable[..., nn.Module]]):
    """Models by name; `package.module:Name` may be a module class too, Linen or NNX (see `user.factory`)."""

    def _load(self, name: str) -> Any:
        return user.factory(name, super()._load(name))


MODELS = Models("model")
