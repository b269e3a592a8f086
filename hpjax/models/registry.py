"""Where models are registered: functions of the number of outputs and the model's own sizes that return a Linen module."""

from collections.abc import Callable

from flax import linen as nn

from hpjax.registry import Registry

MODELS: Registry[Callable[..., nn.Module]] = Registry("model")
