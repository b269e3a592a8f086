"""Flax's plain layers on our operators: a person's own module trains as ours do, with the variables it has anyway."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from flax import nnx
from flax.linen.linear import canonicalize_padding
from jax import lax

from hpjax.models.dropout import mask
from hpjax.models.training import Training
from hpjax.ops import conv, conv1d, dense

NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
NWC = lax.ConvDimensionNumbers((0, 2, 1), (2, 1, 0), (0, 2, 1))


def linen(training: Training | None) -> AbstractContextManager[None]:
    """Within it, plain Linen layers are ours.

    - `nn.Dense`, `nn.Conv` (one or two dimensions, no dilation, no groups): our operators.
    - `nn.Dropout`: our masks, at its own rate; it drops while the trial trains where nobody said when.
    - `nn.BatchNorm`: statistics over the other shards too.

    Subclasses, and layers with options that our operators do not have, are left as they are.
    """
    return nn.intercept_methods(partial(_route, training))


def _route(
    training: Training | None,
    call: Callable[..., Any],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    route = _ROUTES.get(type(context.module))
    if route is None or context.method_name != "__call__":
        return call(*arguments, **keywords)
    return route(training, call, context.module, *arguments, **keywords)


def _variables(layer: Any, x: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    kernel = layer.param("kernel", layer.kernel_init, shape, layer.param_dtype)
    bias = layer.param("bias", layer.bias_init, (layer.features,), layer.param_dtype) if layer.use_bias else None
    return layer.promote_dtype(x, kernel, bias, dtype=layer.dtype)


def _dense(training: Training | None, call: Callable[..., Any], layer: nn.Dense, inputs: jax.Array) -> jax.Array:
    if not (layer.precision is layer.dot_general is layer.dot_general_cls is None):
        return call(inputs)
    return dense(*_variables(layer, inputs, (inputs.shape[-1], layer.features)))


def _each(value: Any, dimensions: int) -> tuple[int, ...]:
    return (value or 1,) * dimensions if value is None or isinstance(value, int) else tuple(value)


def _conv(training: Training | None, call: Callable[..., Any], layer: nn.Conv, inputs: jax.Array) -> jax.Array:
    size = (layer.kernel_size,) if isinstance(layer.kernel_size, int) else tuple(layer.kernel_size)
    plain = layer.precision is layer.mask is layer.conv_general_dilated is layer.conv_general_dilated_cls is None
    if not plain or len(size) not in (1, 2) or inputs.ndim != len(size) + 2 or layer.feature_group_count != 1:
        return call(inputs)
    padding = canonicalize_padding(layer.padding, len(size))
    dilated = max(*_each(layer.input_dilation, len(size)), *_each(layer.kernel_dilation, len(size))) > 1
    if dilated or (padding not in ("SAME", "VALID") and isinstance(padding, str)):
        return call(inputs)
    variables = _variables(layer, inputs, (*size, inputs.shape[-1], layer.features))
    return _convolved(*variables, strides=_each(layer.strides, len(size)), padding=padding)


def _convolved(x: jax.Array, kernel: jax.Array, bias: jax.Array | None, strides: Any, padding: Any) -> jax.Array:
    if x.ndim == 3:
        ends: Any = padding if isinstance(padding, str) else tuple(padding[0])
        return conv1d(x, kernel, bias, stride=strides[0], padding=ends)
    pads: Any = padding if isinstance(padding, str) else tuple(tuple(pad) for pad in padding)
    return conv(x, kernel, bias, stride=tuple(strides), padding=pads)


def _dropout(
    training: Training | None,
    call: Callable[..., Any],
    layer: nn.Dropout,
    inputs: jax.Array,
    deterministic: bool | None = None,
    rng: jax.Array | None = None,
) -> jax.Array:
    if deterministic is None and layer.deterministic is None:
        deterministic = training is None
    if rng is not None or not _ours(training, inputs, layer.rate, layer.broadcast_dims):
        return call(inputs, deterministic, rng)
    if nn.merge_param("deterministic", layer.deterministic, deterministic):
        return inputs
    return _drop(training, layer.make_rng(layer.rng_collection), inputs, layer.rate, layer.broadcast_dims)


def _ours(training: Training | None, x: jax.Array, rate: float, shared: Any) -> bool:
    """Whether a mask is one an example: not where the examples are no longer the first axis."""
    return training is not None and 0 < rate < 1 and 0 not in shared and x.shape[0] == training.position.shape[0]


def _drop(training: Training | None, key: jax.Array, x: jax.Array, rate: float, shared: Any) -> jax.Array:
    assert training is not None
    axes = {axis % x.ndim for axis in shared}
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape) if axis > 0)
    return x * mask(key, training.position, rate, x, shape)


def _batch_norm(
    training: Training | None, call: Callable[..., Any], layer: nn.BatchNorm, x: jax.Array, *arguments: Any, **keywords: Any
) -> jax.Array:
    if training is not None and layer.axis_name is None:
        # A bound layer is this call's own; Linen refuses only the ordinary way of setting a field.
        object.__setattr__(layer, "axis_name", training.data_axis)
    if not arguments and keywords.get("use_running_average") is None and layer.use_running_average is None:
        keywords = {**keywords, "use_running_average": training is None}
    return call(x, *arguments, **keywords)


_ROUTES: dict[type, Callable[..., Any]] = {
    nn.Dense: _dense,
    nn.Conv: _conv,
    nn.Dropout: _dropout,
    nn.BatchNorm: _batch_norm,
}


def nnx_module(module: nnx.Module, training: Training | None) -> nnx.Module:
    """Returns an NNX module set to train or to evaluate, its plain layers routed as `linen` does (no `nnx.Linear`)."""
    if training is None:
        module.eval()
    else:
        module.train()
    for _, layer in list(nnx.iter_modules(module)):
        if type(layer) is nnx.Conv and layer.conv_general_dilated is lax.conv_general_dilated:
            layer.conv_general_dilated = _convolve
        if type(layer) is nnx.BatchNorm and training is not None and layer.axis_name is None:
            layer.axis_name = training.data_axis
        if type(layer) is nnx.Dropout and training is not None:
            # The class alone changes: its state, and where the state lies, are those of the layer that was made.
            layer.__class__ = _dropout_class(training)
    return module


def _dropout_class(training: Training) -> type[nnx.Dropout]:
    class Dropout(nnx.Dropout):
        def __call__(self, inputs: jax.Array, *, deterministic: bool | None = None, rngs: Any = None) -> jax.Array:
            off = self.deterministic if deterministic is None else deterministic
            if off or rngs is not None or not _ours(training, inputs, self.rate, self.broadcast_dims):
                return super().__call__(inputs, deterministic=deterministic, rngs=rngs)
            return _drop(training, self.rngs(), inputs, self.rate, self.broadcast_dims)

    return Dropout


def _convolve(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """`lax.conv_general_dilated`, by our operator where it can."""
    dilated = any(max(options.get(name) or (1,)) > 1 for name in ("lhs_dilation", "rhs_dilation"))
    usual = options.get("dimension_numbers") in (NHWC, NWC) and options.get("feature_group_count", 1) == 1
    named = not isinstance(padding, str) or padding in ("SAME", "VALID")
    extra = options.get("precision") is None and options.get("preferred_element_type") in (None, x.dtype)
    if dilated or not (usual and named and extra):
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    return _convolved(x, kernel, None, strides, padding)
