"""A person's own model, `--model=package.module:Name`: a Linen or NNX module class, or a function, as a model of ours."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax import nnx

from hpjax.config import FIELDS
from hpjax.errors import ConfigError
from hpjax.models import routing
from hpjax.models.training import Training
from hpjax.settings.model import ModelSettings

OUTPUTS = ("outputs", "num_classes", "num_outputs", "features", "out_features", "dout")
"""Names of the parameter that takes the number of outputs; the first that a module has."""

INPUTS = ("inputs", "in_features", "in_channels", "din")
"""Names of a parameter without default that takes the size of the input's last axis (NNX alone)."""

RESERVED = ("self", "parent", "name", "rngs")
MODEL_FLAGS = frozenset(field.name for field in dataclasses.fields(ModelSettings))
Parameters = Mapping[str, inspect.Parameter]


class LinenModel(nn.Module):
    """A Linen module called as it wants to be, its plain layers routed to our operators; its variables are its own."""

    module: nn.Module

    def setup(self) -> None:
        """Leaves the module's variables where they would be without this one around it."""
        nn.share_scope(self, self.module)

    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns what the module returns."""
        with routing.linen(training):
            return self.module(x, **_mode(type(self.module).__call__, training))


class NNXModel(nn.Module):
    """An NNX module through Flax's bridge; its parameters are `params`, its batch statistics `batch_stats`."""

    make: Callable[..., nnx.Module]
    arguments: Mapping[str, Any]
    inputs: str | None = None
    draws: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None = None) -> jax.Array:
        """Returns what the module returns."""
        mode: dict[str, Any] = {}
        # What a module draws when it is made again, with a stream that nobody gave, is replaced by its variables.
        assert self.scope is not None
        keys: dict[str, Any] = {"default": 0, **{name: self.make_rng(name) for name in self.scope.rngs}}

        def make(**arguments: Any) -> nnx.Module:
            # A module that draws nothing need not take the streams.
            streams = {"rngs": nnx.Rngs(**keys)} if self.draws else {}
            module = routing.nnx_module(self.make(**arguments, **streams), training)
            mode.update(_mode(type(module).__call__, training))
            return module

        arguments = {**self.arguments, **({} if self.inputs is None else {self.inputs: x.shape[-1]})}
        bridge = nnx.bridge.ToLinen(make, kwargs=arguments, skip_rng=True, metadata_fn=None)
        nn.share_scope(self, bridge)
        # The bridge makes the module, then calls it with x: by then its way of being called is known.
        return bridge(x, nnx_method=lambda module, x: module(x, **mode))


def factory(name: str, loaded: Any) -> Any:
    """Returns the registry entry of a person's model: `(outputs, *, settings) -> linen Module`.

    Args:
      name: what messages call it, `package.module:Name`.
      loaded: a Linen or NNX module class, or a function that returns a Linen module (an NNX module, if it takes `rngs`). The
        number of outputs goes to the parameter called as in `OUTPUTS`; a function's only parameter without default may
        have any name. Parameters with a number, true, false or a text as default, and those called like a flag of the
        model, become settings.

    Raises:
      ConfigError: no parameter for the number of outputs, or another one without a default.
    """
    linen, is_nnx = (inspect.isclass(loaded) and issubclass(loaded, kind) for kind in (nn.Module, nnx.Module))
    if not (linen or is_nnx or inspect.isroutine(loaded)):
        return loaded
    parameters = _parameters(loaded.__init__ if is_nnx else loaded)
    is_nnx = is_nnx or "rngs" in parameters
    draws = "rngs" in parameters
    plain = not linen and not is_nnx
    takes_outputs = next((parameter for parameter in OUTPUTS if parameter in parameters), None)
    if takes_outputs is None and plain:
        takes_outputs = next((p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY), None)
    if takes_outputs is None:
        raise ConfigError(
            f"model '{name}' takes {', '.join(parameters) or 'nothing'}; expected one of {', '.join(OUTPUTS)} "
            "for the number of outputs"
        )
    required = [p for p in parameters.values() if p.default is p.empty and p.name not in (takes_outputs, *RESERVED)]
    takes_inputs = next((p.name for p in required if p.name in INPUTS), None) if is_nnx else None
    settings = {}
    for parameter in parameters.values():
        if parameter.name in (takes_outputs, takes_inputs, *RESERVED):
            continue
        if (plain and parameter.kind is parameter.KEYWORD_ONLY) or _is_setting(parameter):
            settings[parameter.name] = parameter.replace(kind=parameter.KEYWORD_ONLY)
        elif parameter in required:
            raise ConfigError(f"model '{name}' takes '{parameter.name}', which is no flag of the model; expected a default")

    def build(outputs: int, **given: Any) -> Any:
        if is_nnx:
            return NNXModel(loaded, {takes_outputs: outputs, **given}, takes_inputs, draws)
        if parameters[takes_outputs].kind is inspect.Parameter.POSITIONAL_ONLY:
            made = loaded(outputs, **given)
        else:
            made = loaded(**{takes_outputs: outputs, **given})
        return LinenModel(made) if isinstance(made, nn.Module) else made

    outputs = inspect.Parameter("outputs", inspect.Parameter.POSITIONAL_ONLY)
    build.__signature__ = inspect.Signature([outputs, *settings.values()])  # type: ignore[attr-defined]
    build.__doc__ = loaded.__doc__
    return build


def _parameters(loaded: Any) -> Parameters:
    try:
        parameters = inspect.signature(loaded, eval_str=True).parameters
    except NameError:
        parameters = inspect.signature(loaded).parameters
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: p for name, p in parameters.items() if p.kind not in several and name not in ("self", "parent", "name")}


def _is_setting(parameter: inspect.Parameter) -> bool:
    """Whether a parameter is one of the model's settings; one called like another part's flag keeps its default."""
    if parameter.name in FIELDS:
        return parameter.name in MODEL_FLAGS
    return isinstance(parameter.default, (bool, int, float, str))


def _mode(call: Callable[..., Any], training: Training | None) -> dict[str, Any]:
    """Returns the arguments, beside the input, that say to a module's `__call__` whether it trains."""
    parameters = inspect.signature(call).parameters
    trains = training is not None
    words = {"train": trains, "is_training": trains, "deterministic": not trains, "use_running_average": not trains}
    mode: dict[str, Any] = {word: value for word, value in words.items() if word in parameters}
    if "training" in parameters:
        own = parameters["training"]
        mode["training"] = trains if own.annotation in (bool, "bool") or isinstance(own.default, bool) else training
    return mode
