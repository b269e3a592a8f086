"""Hessian-vector products of every registered model: what the sharpness is made of."""

import sys

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import test_models
from hpjax.inspection.lanczos import hessian_product
from hpjax.inspection.layers import activations
from hpjax.losses import cross_entropy
from hpjax.models import MODELS
from hpjax.ops import native


@pytest.mark.parametrize("name", MODELS.names())
def test_hessian_products_are_central_differences(
    rng: np.random.Generator, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the gradient, in float64; the median, because a direction may cross a kink of max pooling."""
    # Small enough that convolutions of a few pictures are computed in parts too.
    monkeypatch.setattr(sys.modules["hpjax.ops.conv"], "PATCH_BYTES", 5_000)
    model, variables, x, labels, _ = test_models.problem(name, rng)
    errors = []
    with jax.enable_x64(True):
        params, collections, x = test_models.in_float64((*variables, x))
        flat, restore = ravel_pytree(params)

        def loss(v: jax.Array) -> jax.Array:
            outputs = model.apply({"params": restore(v), **collections}, x)
            return cross_entropy(outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1)).mean()

        gradient, product = jax.jit(jax.grad(loss)), jax.jit(lambda v: hessian_product(loss, flat, v))
        for _ in range(3):
            direction = rng.normal(size=flat.size)
            direction *= 1e-6 / np.linalg.norm(direction)
            difference = np.asarray(gradient(flat + direction)) - np.asarray(gradient(flat - direction))
            expected = np.asarray(product(2 * direction))
            errors.append(np.linalg.norm(difference - expected) / np.linalg.norm(expected))
    print(name, np.median(errors))
    # Measured: at most 5e-9.
    assert np.median(errors) < 1e-7


def test_a_pair_of_one_array_is_shown_once(rng: np.random.Generator) -> None:
    """A residual network's blocks hand their result on twice; natively at evaluation it is one array as well."""
    for on in (False, True):
        model, variables, x, *_ = test_models.problem("resnet", rng)
        with native.scope(on):
            found = activations(model, {"params": variables[0], **variables[1]}, x)
        assert "Block_0" in found and "Block_0/Norm_1" in found
        assert not any(name.endswith(("/0", "/1")) for name in found)
