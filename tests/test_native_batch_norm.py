"""Batch norm with relu and a residual by the native kernels against float64, for every instruction set."""

import os
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpjax.ops import batch_norm, native, normalise
from test_native import bound, normal, whole

if native.missing() is not None and not os.environ.get("HPJAX_REQUIRE_NATIVE"):
    pytest.skip(f"the native kernels are {native.missing()}", allow_module_level=True)

from hpjax import _kernels  # type: ignore[attr-defined]

pytestmark = pytest.mark.usefixtures("poisoned")
DRAWN = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EPSILON = 1e-3
SHAPES = st.one_of(
    st.tuples(st.integers(1, 300)),
    st.tuples(st.integers(1, 9), st.integers(1, 30)),
    st.tuples(st.integers(1, 5), st.integers(1, 13), st.integers(1, 13)),
    st.tuples(st.just(3), st.just(2), st.just(3), st.integers(1, 5)),
)
CHANNELS = st.one_of(st.integers(1, 70), st.sampled_from([1, 3, 16, 17, 32, 48, 64, 160, 1000, 1031]))


@pytest.fixture(params=_kernels.available())
def instructions(request) -> Iterator[str]:
    assert _kernels.choose(request.param)
    with native.scope(True):
        yield request.param
    _kernels.choose(_kernels.available()[0])


def with_moments_beside(*arrays: jax.Array, **how: object) -> tuple[jax.Array, list[jax.Array]]:
    """Returns `batch_norm` as `jax.vjp` takes it: what has no gradient in a second part."""
    y, *moments = batch_norm(*arrays, **how)
    return y, moments


def rms(values: np.ndarray) -> float:
    return float(np.linalg.norm(values))


class Reference:
    """What comes of batch norm in float64, its gradients, and the sizes of the terms that each of them is a sum of.

    Relu's gradient goes by the float32 result: whether a value within a rounding of 0 is above it is not ours to say.
    """

    def __init__(self, x, scale, bias, residual, y, cotangent, relu, moments=None):
        x, scale, bias, residual, cotangent = (np.asarray(a, float) for a in (x, scale, bias, residual, cotangent))
        self.rows, self.given = x.shape[0], moments is not None
        mean, variance = (np.asarray(a, float) for a in moments) if moments is not None else (x.mean(0), x.var(0))
        self.mean, self.variance = mean, variance
        inverse = 1 / np.sqrt(variance + EPSILON)
        factor, centred = inverse * scale, x - mean
        # Float32 has the mean to its last digits, and so the difference: of the bound, which is 1e-6 at least, a tenth.
        apart = np.abs(centred) + 1e-1 * np.abs(x) + 1e-1 * np.abs(mean)
        before = centred * factor + bias + residual
        self.y = np.maximum(before, 0) if relu else before
        inner = cotangent * (y > 0) if relu else cotangent
        self.inner, total, product = inner, inner.sum(0), (inner * centred).sum(0)
        absolute = np.sqrt((inner**2 * apart**2).sum(0)) + np.abs(total) * 1e-1 * np.abs(mean)
        shift, slope = (0, 0) if self.given else (total / self.rows, inverse**2 * product / self.rows)
        self.to_x = factor * (inner - shift - centred * slope)
        self.to_scale, self.to_bias, self.to_residual = inverse * product, total, inner
        self.to_mean, self.to_variance = -factor * total, -0.5 * inverse**3 * scale * product
        steep = np.abs(factor) * (np.abs(inner) + np.abs(shift) + apart * np.abs(slope))
        uncertain = 0 if self.given else np.abs(factor) * apart * inverse**2 * absolute / self.rows
        self.sizes = {
            "y": rms(apart * np.abs(factor)) + rms(np.broadcast_to(bias, x.shape)) + rms(residual),
            "to_x": rms(steep + uncertain),
            "to_scale": rms(inverse * absolute),
            "to_bias": rms(inner),
            "to_mean": rms(factor * np.sqrt((inner**2).sum(0))),
            "to_variance": rms(0.5 * inverse**3 * scale * absolute),
        }

    def near(self, name: str, found: jax.Array) -> None:
        error = rms(np.asarray(found, float) - getattr(self, name)) / max(self.sizes[name], 1e-30)
        assert error < 2 * bound(self.rows), name


@DRAWN
@given(shape=SHAPES, channels=CHANNELS, added=st.booleans(), relu=st.booleans(), offset=st.sampled_from([0, 1, 100]))
def test_batch_norms_and_their_gradients(instructions, rng, shape, channels, added, relu, offset):
    x = normal(rng, *shape, channels) * np.float32(2) + np.float32(offset)
    scale, bias = normal(rng, channels), normal(rng, channels)
    residual = normal(rng, *shape, channels) * np.float32(added)
    cotangent = normal(rng, *shape, channels)
    how = {"activation": "relu" if relu else "none", "epsilon": EPSILON}

    def run(x, scale, bias, residual):
        return with_moments_beside(x, scale, bias, residual if added else None, **how)

    y, pullback, (mean, variance) = jax.vjp(run, x, scale, bias, residual, has_aux=True)
    to_x, to_scale, to_bias, to_residual = pullback(cotangent)
    flat = [np.asarray(a).reshape(-1, channels) for a in (x, residual, y, cotangent, to_x, to_residual)]
    right = Reference(flat[0], scale, bias, flat[1], flat[2], flat[3], relu)
    assert np.abs(mean - right.mean).max() <= 2e-7 * np.abs(right.mean).max() + 1e-6
    np.testing.assert_allclose(variance, right.variance, rtol=1e-6 + 1e-9 * offset**2, atol=1e-9 * (1 + offset))
    for name, found in (("y", flat[2]), ("to_x", flat[4]), ("to_scale", to_scale), ("to_bias", to_bias)):
        right.near(name, found)
    np.testing.assert_array_equal(flat[5], right.inner.astype(np.float32) if added else 0)


@DRAWN
@given(shape=SHAPES, channels=CHANNELS, added=st.booleans(), relu=st.booleans())
def test_given_moments_and_their_gradients(instructions, rng, shape, channels, added, relu):
    x, residual = normal(rng, *shape, channels), normal(rng, *shape, channels) * np.float32(added)
    mean, variance = normal(rng, channels), rng.uniform(0.2, 3, channels).astype(np.float32)
    scale, bias, cotangent = normal(rng, channels), normal(rng, channels), normal(rng, *shape, channels)
    how = {"activation": "relu" if relu else "none", "epsilon": EPSILON}

    def run(x, mean, variance, scale, bias, residual):
        return normalise(x, mean, variance, scale, bias, residual if added else None, **how)

    y, pullback = jax.vjp(run, x, mean, variance, scale, bias, residual)
    to_x, to_mean, to_variance, to_scale, to_bias, to_residual = pullback(cotangent)
    flat = [np.asarray(a).reshape(-1, channels) for a in (x, residual, y, cotangent, to_x, to_residual)]
    right = Reference(flat[0], scale, bias, flat[1], flat[2], flat[3], relu, (mean, variance))
    found = {"y": flat[2], "to_x": flat[4], "to_scale": to_scale, "to_bias": to_bias}
    for name, one in {**found, "to_mean": to_mean, "to_variance": to_variance}.items():
        right.near(name, one)
    np.testing.assert_array_equal(flat[5], right.inner.astype(np.float32) if added else 0)


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 64, 1000])
def test_a_large_mean_costs_no_digits(instructions, rng, channels):
    """Mean 10,000, deviation 0.1: the variance is that of the float32 numbers, which are 1e-3 apart there."""
    x = (10_000 + 0.1 * rng.normal(size=(777, channels))).astype(np.float32)
    _, mean, variance = batch_norm(x, np.ones(channels, np.float32), np.zeros(channels, np.float32))
    wide = x.astype(float)
    np.testing.assert_allclose(mean, wide.mean(0), rtol=6e-8)
    np.testing.assert_allclose(variance, wide.var(0), rtol=1e-6)


def test_one_example_is_its_bias(instructions, rng):
    """Its variance is 0, and nothing depends on x."""
    x, scale, bias = normal(rng, 1, 1, 5), normal(rng, 5), normal(rng, 5)
    y, pullback, (mean, variance) = jax.vjp(with_moments_beside, x, scale, bias, has_aux=True)
    np.testing.assert_array_equal(y[0, 0], bias)
    np.testing.assert_array_equal(mean, x[0, 0])
    np.testing.assert_array_equal(variance, 0)
    to_x, to_scale, to_bias = pullback(np.ones_like(x))
    for found, right in ((to_x, 0), (to_scale, 0), (to_bias, 1)):
        np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [3, 16, 33])
def test_what_is_no_number_stays_in_its_channel(instructions, rng, bad, channels):
    """As with XLA, place for place: NaN where it has NaN, the same infinities, finite elsewhere."""
    x, residual, cotangent = (normal(rng, 50, 30, channels) for _ in range(3))
    scale, bias = normal(rng, channels), normal(rng, channels)
    x[41, 3, 1], residual[7, 5, 2] = bad, bad

    def run():
        rectified = partial(with_moments_beside, activation="relu")
        y, pullback, moments = jax.vjp(rectified, x, scale, bias, residual, has_aux=True)
        return y, moments, pullback(cotangent)

    found = run()
    with native.scope(False):
        right = run()
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        np.testing.assert_array_equal(np.where(np.isinf(one), one, 0), np.where(np.isinf(other), other, 0))
    assert np.isnan(np.asarray(found[0])[..., 1]).all()
    # Of given moments a number that is none stays where it is.
    y = np.asarray(normalise(x, scale, np.square(bias), scale, bias))
    assert (~np.isfinite(y)).sum() == 1


def test_relu_of_whole_numbers_is_exact(instructions, rng):
    """Sums and products of whole numbers are exact, so that 0 is 0: relu's gradient there is 0, as XLA's is."""
    x, residual, mean, bias = (whole(rng, *shape) for shape in ((6, 7, 19), (6, 7, 19), (19,), (19,)))
    arrays = (x, mean, np.ones(19, np.float32), np.full(19, 2, np.float32), bias, residual)

    def run():
        y, pullback = jax.vjp(lambda *a: normalise(*a, activation="relu", epsilon=0.0), *arrays)
        return y, pullback(np.ones_like(x))

    found = run()
    with native.scope(False):
        jax.tree.map(np.testing.assert_array_equal, found, run())
    assert (np.asarray(found[0]) == 0).mean() > 0.3


@pytest.mark.parametrize("activation", ["none", "relu", "tanh", "gelu", "silu"])
def test_every_activation_is_xlas(rng, activation):
    x, residual = normal(rng, 4, 5, 6, 7), normal(rng, 4, 5, 6, 7)
    arrays = (x, normal(rng, 7), normal(rng, 7), residual)

    def run(on):
        with native.scope(on):
            (y, *_), pullback = jax.vjp(lambda *a: batch_norm(*a, activation=activation), *arrays)
            zeros = np.zeros(7, np.float32)
            return y, pullback((x, zeros, zeros))

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), run(True), run(False))


@pytest.mark.parametrize("activation", ["none", "relu", "tanh"])
@pytest.mark.parametrize("added", [True, False])
def test_two_that_use_a_result_have_the_sum_of_their_cotangents(instructions, rng, activation, added):
    """To the bit that of one with the sum, which float32 rounds once either way."""
    x, residual, one, other = (normal(rng, 40, 30, 21) for _ in range(4))
    arrays = (x, normal(rng, 21), normal(rng, 21), *((residual,) if added else ()))

    def pullback(twice):
        run = partial(with_moments_beside, activation=activation, twice=twice)
        return jax.vjp(run, *arrays, has_aux=True)[:2]

    (first, second), of_two = pullback(True)
    y, of_one = pullback(False)
    np.testing.assert_array_equal(first, y)
    np.testing.assert_array_equal(second, y)
    found, expected = of_two((one, other)), of_one(one + other)
    # Of tanh each cotangent goes through its derivative by itself.
    close = {"rtol": 1e-4, "atol": 1e-5} if activation == "tanh" else {"rtol": 0, "atol": 0}
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, **close)


def test_no_gradient_goes_through_the_moments(rng):
    x, one = normal(rng, 6, 4), np.ones(4, np.float32)
    for on in (True, False):
        with native.scope(on):
            to_x = jax.grad(lambda x: sum(moment.sum() for moment in batch_norm(x, one, one)[1:]))(x)
        np.testing.assert_array_equal(to_x, 0)


def test_only_float32_runs_natively(rng):
    def program(x):
        one = jnp.ones(3, x.dtype)
        return str(jax.make_jaxpr(lambda x: (batch_norm(x, one, one)[0], normalise(x, one, one, one, one)))(x))

    with native.scope(True):
        text = program(jnp.asarray(normal(rng, 4, 3)))
        assert "hpjax_batch_moments" in text and text.count("hpjax_batch_norm") == 2
        assert "hpjax" not in program(jnp.zeros((4, 3), jnp.bfloat16))
        assert "hpjax" not in program(jnp.zeros((0, 3), jnp.float32))
        with jax.enable_x64(True):
            assert "hpjax" not in program(jnp.zeros((4, 3), jnp.float64))


# No product meets a sum in what XLA computes here: whether it rounds between them differs at the end of a row of numbers
# from program to program (jaxlib 0.12), and these are about the kernels' bits.
@pytest.mark.parametrize(
    ("function", "handlers"),
    [(batch_norm, ("moments", "norm", "norm_sums", "norm_gradient")), (normalise, ("norm", "norm_sums", "norm_gradient"))],
)
def test_lanes_give_the_bits_of_one(function, handlers, rng):
    lanes, moments = 3, ((17,), (17,)) if function is normalise else ()
    arrays = [normal(rng, lanes, *shape) for shape in ((5, 9, 17), *moments, (17,), (17,), (5, 9, 17))]

    def block(x, *more):
        mean_and_variance = (more[0], jnp.square(more[1])) if moments else ()
        y = function(x, *mean_and_variance, *more[len(moments) :], activation="relu")
        y, rest = (y, ()) if moments else (y[0], y[1:])
        return jnp.square(y).sum(), rest

    every = jax.value_and_grad(block, tuple(range(len(arrays))), has_aux=True)
    with native.scope(True):
        program = str(jax.make_jaxpr(jax.vmap(every))(*arrays))
        mapped = jax.jit(jax.vmap(every))(*arrays)
        one_by_one = jax.jit(lambda *a: jax.lax.map(lambda b: every(*b), a))(*arrays)
        alone = [jax.jit(every)(*(array[lane] for array in arrays)) for lane in range(lanes)]
    for name in handlers:
        assert f"hpjax_batch_{name}" in program
    for found in (mapped, one_by_one):
        jax.tree.map(np.testing.assert_array_equal, found, jax.tree.map(lambda *leaves: np.stack(leaves), *alone))


def test_shapes_that_do_not_fit_are_named():
    x, one = np.ones((2, 5, 3), np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"batch_norm: x \(2, 5, 3\), scale \(4,\), bias \(3,\) do not fit"):
        batch_norm(x, np.ones(4, np.float32), one)
    with pytest.raises(ValueError, match=r"batch_norm: x \(2, 5, 3\), residual \(2, 5, 4\), .* do not fit"):
        batch_norm(x, one, one, np.ones((2, 5, 4), np.float32))
    with pytest.raises(ValueError, match=r"batch_norm: x \(3,\), mean \(3,\), variance .* do not fit"):
        normalise(one, one, one, one, one)


VECTOR, TABLE, NONE, LONG = (4,), (3, 4), (0,), (5,)


@pytest.mark.parametrize(
    ("target", "operands", "results", "relu"),
    [
        ("moments", [(3, 4, 1)], [VECTOR, VECTOR], None),
        ("moments", [(0, 4)], [VECTOR, VECTOR], None),
        ("moments", [TABLE], [LONG, VECTOR], None),
        ("moments", [TABLE], [VECTOR, LONG], None),
        ("norm", [TABLE, VECTOR, LONG, VECTOR, NONE], [TABLE], True),
        ("norm", [TABLE, VECTOR, VECTOR, VECTOR, (3, 5)], [TABLE], True),
        ("norm", [TABLE, VECTOR, VECTOR, VECTOR, NONE], [(4, 4)], True),
        ("norm_sums", [TABLE, VECTOR, VECTOR, VECTOR, NONE, (2, 4), NONE], [VECTOR, VECTOR, NONE], True),
        ("norm_sums", [TABLE, VECTOR, VECTOR, VECTOR, (2, 4), TABLE, NONE], [VECTOR, VECTOR, NONE], True),
        ("norm_sums", [TABLE, VECTOR, VECTOR, VECTOR, NONE, TABLE, (2, 4)], [VECTOR, VECTOR, NONE], False),
        ("norm_sums", [TABLE, VECTOR, VECTOR, VECTOR, NONE, TABLE, NONE], [VECTOR, LONG, NONE], False),
        ("norm_sums", [TABLE, VECTOR, VECTOR, VECTOR, NONE, TABLE, NONE], [VECTOR, VECTOR, (3, 5)], False),
        ("norm_gradient", [TABLE, VECTOR, VECTOR, VECTOR, NONE, VECTOR, TABLE], [TABLE], False),
        ("norm_gradient", [TABLE, VECTOR, VECTOR, VECTOR, VECTOR, NONE, TABLE], [TABLE], False),
        ("norm_gradient", [TABLE, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, (3, 5)], [TABLE], False),
        ("norm_gradient", [TABLE, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, TABLE], [(3, 5)], False),
    ],
)
def test_handlers_refuse_shapes_that_do_not_fit(target, operands, results, relu):
    arrays = [np.zeros(shape, np.float32) for shape in operands]
    attributes = {} if relu is None else {"relu": relu}
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT.*hpjax: batch .* do not fit"):
        jax.block_until_ready(
            native.call(f"hpjax_batch_{target}", [native.floats(*s) for s in results], *arrays, **attributes)
        )
