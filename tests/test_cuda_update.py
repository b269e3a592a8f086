"""The optimizers' step on a GPU of NVIDIA's, where one is at hand and the CUDA kernels are built."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpjax.ops import native
from hpjax.optimizers import OPTIMIZERS, fused, transformation

SHAPES = {"a": (37,), "b": (5, 7), "c": (1,), "d": (40, 103), "e": (1025,), "f": (300, 301)}
AROUND = {"plain": {}, "clipped": {"clip_norm": 3.0, "clip_layer_norm": 2.0, "clip_value": 2.0, "l1": 0.02, "l2": 0.3}}


@pytest.fixture
def gpu():
    """The first GPU; JAX's default device in the test."""
    if jax.default_backend() != "gpu":
        pytest.skip("JAX sees no GPU")
    if native.missing_cuda() is not None:
        pytest.skip(f"the CUDA kernels are {native.missing_cuda()}")
    with native.scope(True):
        yield jax.devices()[0]


@pytest.mark.parametrize("moment_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("name", fused.RULES)
def test_a_step_is_the_composed_one(gpu, rng, name, around, moment_dtype):
    if moment_dtype != "float32" and "moment_dtype" not in OPTIMIZERS.static(name):
        pytest.skip(f"{name} keeps nothing")
    params, gradients = ({key: rng.normal(size=shape).astype(np.float32) for key, shape in SHAPES.items()} for _ in range(2))
    known, static = OPTIMIZERS.traced(name), {"moment_dtype": moment_dtype}
    values = {s: np.float32(OPTIMIZERS.settings(name)[s]) for s in known if not OPTIMIZERS.is_common(name, s)}
    values |= {s: np.float32(value) for s, value in around.items()}
    key = jax.random.key(int(rng.integers(2**31)), impl="threefry2x32")
    made = transformation(name, np.float32(0.1), values, static, None, key)
    state = made.init(params)
    assert fused.available(name, static, [jnp.asarray(leaf) for leaf in params.values()])
    step = jax.jit(lambda *args: fused.step(name, np.float32(0.1), values, None, jnp.float32(1.0), *args, key))
    found, again = step(gradients, state, params), step(gradients, state, params)
    jax.tree.map(lambda a, b: np.testing.assert_equal(np.asarray(a).tobytes(), np.asarray(b).tobytes()), found, again)
    updates, after = jax.jit(made.update)(gradients, state, params)
    for leaf, update, new in zip(*map(jax.tree.leaves, (params, updates, found.params)), strict=True):
        np.testing.assert_allclose(new, leaf + update, rtol=1e-5, atol=1e-6)
    rounding = 2**-7 if moment_dtype == "bfloat16" else 1e-5
    for ours, theirs in zip(*map(jax.tree.leaves, (found.state, after)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(np.asarray(ours, np.float32), np.asarray(theirs, np.float32), rtol=rounding, atol=1e-7)


def test_it_says_what_is_missing():
    missing = native.missing_cuda()
    assert missing is None or missing.endswith("where it finds HPJAX_CUDA=1 and nvcc)")
    assert native.in_use("off") == "XLA"
