"""A step of an optimizer over all its tensors by the native kernels, in one pass, in place."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hpjax.ops import native
from hpjax.registry import Scalar

BUFFERS = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "lars": 1, "lamb": 2}
"""The rules in the order of their numbers in the kernels, and how many buffers of a parameter each keeps."""

LARGE = 2**18
"""Elements of all tensors from which on several threads pay."""


class Rates(NamedTuple):
    """What changes from step to step, float32 scalars; the defaults are off. In the kernels' order.

    Attributes:
      share: what the sum of gradients is multiplied by.
      learning_rate: of the step.
      clip_value: largest absolute value of a gradient's element.
      clip_layer_norm: largest L2 norm of a tensor's gradient.
      clip_norm: largest L2 norm of all gradients.
      l1: what the weights' signs are multiplied by to join the gradients.
      l2: likewise of the weights.
      weight_decay: decoupled.
      inner_decay: the rule's own.
      beta1: or momentum.
      beta2: of the squares.
      epsilon: as the rule has it.
      trust_coefficient: of LARS.
      correction1: `1 - beta1^step`.
      correction2: `1 - beta2^step`.
    """

    share: Scalar
    learning_rate: Scalar
    clip_value: Scalar = np.inf
    clip_layer_norm: Scalar = np.inf
    clip_norm: Scalar = np.inf
    l1: Scalar = 0.0
    l2: Scalar = 0.0
    weight_decay: Scalar = 0.0
    inner_decay: Scalar = 0.0
    beta1: Scalar = 0.0
    beta2: Scalar = 0.0
    epsilon: Scalar = 0.0
    trust_coefficient: Scalar = 0.0
    correction1: Scalar = 1.0
    correction2: Scalar = 1.0


class Tensor(NamedTuple):
    """A parameter: float32 arrays of one shape (the buffers may be bfloat16), and what the rules by path say of it.

    Attributes:
      gradient: sum of its gradients.
      weight: its value.
      buffers: what the rule keeps of it.
      rate: what its learning rate is multiplied by.
      decay: what its decays are multiplied by.
    """

    gradient: jax.Array
    weight: jax.Array
    buffers: tuple[jax.Array, ...]
    rate: float = 1.0
    decay: float = 1.0


def update(
    rule: str, rates: Rates, tensors: Sequence[Tensor], keys: jax.Array | None = None
) -> tuple[list[jax.Array], list[tuple[jax.Array, ...]], jax.Array]:
    """Returns new weights, new buffers, and norms.

    Gradients are multiplied by `share`, then clipped by value, layer and all, then L1 and L2 join them, then the rule.

    Args:
      rule: a key of `BUFFERS`.
      rates: of this step.
      tensors: all that are trained. LARS and LAMB scale those of two or more dimensions.
      keys: uint32 [tensors, 2], where buffers are bfloat16: by which they are rounded, see `rounding`.

    Returns:
      Arrays in the order of the tensors, and float32 [3]: L2 norms over all of them of the gradients (times share,
      before clipping), of the new weights, and of the steps.
    """
    kept = BUFFERS[rule]
    operands = [jnp.stack([jnp.asarray(value, jnp.float32) for value in rates])]
    if keys is not None:
        operands.append(keys)
    results, aliases = [native.floats(3)], {}
    for tensor in tensors:
        operands.append(tensor.gradient)
        for array in (tensor.weight, *tensor.buffers):
            aliases[len(operands)] = len(results)
            operands.append(array)
            results.append(jax.ShapeDtypeStruct(array.shape, array.dtype))
    norms, *new = native.call(
        "hpjax_update",
        results,
        *operands,
        aliases=aliases,
        rule=list(BUFFERS).index(rule),
        rate=np.array([tensor.rate for tensor in tensors], np.float32),
        decay=np.array([tensor.decay for tensor in tensors], np.float32),
        narrow=keys is not None,
        clips=any(not isinstance(limit, float) or limit < np.inf for limit in (rates.clip_layer_norm, rates.clip_norm)),
        layerwise=[int(tensor.weight.ndim > 1) for tensor in tensors],
        threads=native.threads() if sum(tensor.weight.size for tensor in tensors) >= LARGE else 1,
    )
    each = [new[i : i + 1 + kept] for i in range(0, len(new), 1 + kept)]
    return [weight for weight, *_ in each], [tuple(buffers) for _, *buffers in each], norms
