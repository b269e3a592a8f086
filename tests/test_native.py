"""The native kernels against float64 NumPy, for every instruction set that this processor runs."""

import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hpjax
from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.ops import conv, conv1d, dense, native, native_conv, native_dense
from hpjax.resolve import resolve

if native.missing() is not None and not os.environ.get("HPJAX_REQUIRE_NATIVE"):
    pytest.skip(f"the native kernels are {native.missing()}", allow_module_level=True)

from hpjax import _kernels  # type: ignore[attr-defined]

pytestmark = pytest.mark.usefixtures("poisoned")
DRAWN = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ACTIVATIONS = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@pytest.fixture(params=_kernels.available())
def instructions(request) -> Iterator[str]:
    """Every instruction set in turn, inside a scope in which operators run natively."""
    assert _kernels.choose(request.param)
    with native.scope(True):
        yield request.param
    _kernels.choose(_kernels.available()[0])


def relative(found: object, expected: np.ndarray, squares: np.ndarray) -> float:
    """Returns the error as a share of what the results would measure, had every sum added independent terms.

    A result of few sums may cancel by chance, and its own norm then says nothing of the error to expect.

    Args:
      found: float32 results.
      expected: what they should be, float64.
      squares: the sums of the squared terms, of the same shape.
    """
    return float(np.linalg.norm(np.asarray(found, np.float64) - expected) / np.sqrt(squares.sum()))


def bound(depth: int) -> float:
    return max(1e-6, 3e-8 * depth**0.5)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Returns small whole numbers, whose sums of products float32 holds exactly: nothing depends on rounding."""
    return rng.integers(-3, 4, shape).astype(np.float32)


def derivative(name: str, x: np.ndarray) -> np.ndarray:
    """Returns the derivative of an activation: by central differences where it is smooth."""
    if name in ("none", "relu"):
        return np.ones_like(x) if name == "none" else (x > 0).astype(float)
    step = 1e-5
    return (ACTIVATIONS[name](x + step) - ACTIVATIONS[name](x - step)) / (2 * step)


@DRAWN
@given(
    rows=st.one_of(st.integers(1, 40), st.sampled_from([128, 255, 300])),
    columns=st.integers(1, 140),
    depth=st.sampled_from([1, 2, 7, 31, 64, 127, 129, 256, 257, 600]),
    across=st.tuples(st.booleans(), st.booleans()),
    activation=st.sampled_from(list(ACTIVATIONS)),
)
def test_products(instructions, rng, rows, columns, depth, across, activation):
    a = normal(rng, *((depth, rows) if across[0] else (rows, depth)))
    b = normal(rng, *((columns, depth) if across[1] else (depth, columns)))
    b /= np.float32(depth**0.5)
    bias = normal(rng, columns)
    found, _ = native_dense.matmul(a, b, bias, transpose_a=across[0], transpose_b=across[1], activation=activation)
    left, right = (m.astype(float).T if turned else m.astype(float) for m, turned in zip((a, b), across, strict=True))
    # No activation is steeper than 1.13.
    assert relative(found, ACTIVATIONS[activation](left @ right + bias), left**2 @ right**2 + bias**2) < bound(depth)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(6, 5, 8), (128, 64, 128), (33, 300, 10), (1, 1, 1)])
def test_dense_and_its_gradients(instructions, rng, activation, shape):
    rows, inputs, outputs = shape
    x, kernel, bias, cotangent = (normal(rng, *s) for s in ((rows, inputs), (inputs, outputs), (outputs,), (rows, outputs)))
    kernel /= np.float32(inputs**0.5)
    y, pullback = jax.vjp(lambda *a: dense(*a, activation), x, kernel, bias)
    wide_x, wide_kernel, wide_cotangent = (v.astype(float) for v in (x, kernel, cotangent))
    before = wide_x @ wide_kernel + bias
    inside = derivative(activation, before) * wide_cotangent
    expected = inside @ wide_kernel.T, wide_x.T @ inside, inside.sum(0)
    assert relative(y, ACTIVATIONS[activation](before), wide_x**2 @ wide_kernel**2 + bias**2) < bound(inputs)
    # A derivative near 0 is the difference of numbers near 1: its error is that of a derivative of 1.
    size = wide_cotangent**2
    squares = size @ wide_kernel.T**2, wide_x.T**2 @ size, size.sum(0)
    for found, right, square, depth in zip(pullback(cotangent), expected, squares, (outputs, rows, rows), strict=True):
        assert relative(found, right, square) < 2 * bound(depth)


@pytest.mark.parametrize("name", ["tanh", "gelu", "silu"])
def test_activations_over_all_floats(instructions, rng, name):
    """Relative to the largest of |x| that the activation saw, and exact at the ends."""
    x = np.concatenate([rng.uniform(-12, 12, 5000), 10 ** rng.uniform(-30, 3, 2000), -(10 ** rng.uniform(-30, 3, 2000))])
    x = x.astype(np.float32)
    found, _ = native_dense.matmul(x[:, None], np.ones((1, 1), np.float32), activation=name)
    with np.errstate(over="ignore"):
        expected = ACTIVATIONS[name](x.astype(float))
    assert np.abs(np.asarray(found)[:, 0] - expected).max() <= 3e-7 * 12 + 1e-6 * 1e3 * (name != "tanh")
    small = np.abs(x) < 12
    np.testing.assert_allclose(np.asarray(found)[small, 0], expected[small], rtol=2e-6, atol=3e-7)


def test_nan_and_infinity_travel(instructions):
    x = np.array([[np.nan], [np.inf], [-np.inf], [-0.0], [-1.0]], np.float32)
    found = {
        name: np.asarray(native_dense.matmul(x, np.ones((1, 1), np.float32), activation=name)[0])[:, 0]
        for name in ACTIVATIONS
    }
    for name, values in found.items():
        assert np.isnan(values[0]), name
        assert values[1] == (1.0 if name == "tanh" else np.inf), name
    np.testing.assert_array_equal(found["none"][2:], [-np.inf, 0.0, -1.0])
    np.testing.assert_array_equal(found["relu"][2:], [0.0, 0.0, 0.0])
    assert found["tanh"][2] == -1.0


def convolved(x, kernel, stride, pads, dilation):
    """Returns a convolution in float64 and the function from its cotangent to those of x and the kernel."""
    x, kernel = x.astype(float), kernel.astype(float)
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    size = [(padded.shape[1 + d] - (kernel.shape[d] - 1) * dilation[d] - 1) // stride[d] + 1 for d in range(2)]
    places = {
        (i, j): tuple(
            slice(tap * apart, tap * apart + (n - 1) * step + 1, step)
            for tap, apart, n, step in zip((i, j), dilation, size, stride, strict=True)
        )
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    }
    y = sum(padded[:, down, across] @ kernel[tap] for tap, (down, across) in places.items())

    def pullback(cotangent):
        to_x, to_kernel = np.zeros_like(padded), np.zeros_like(kernel)
        for tap, (down, across) in places.items():
            to_x[:, down, across] += cotangent @ kernel[tap].T
            to_kernel[tap] = np.tensordot(padded[:, down, across], cotangent, axes=([0, 1, 2], [0, 1, 2]))
        (above, _), (left, _) = pads
        return to_x[:, above : above + x.shape[1], left : left + x.shape[2]], to_kernel

    return y, pullback


def pooled(y):
    """Returns the maxima of 2 x 2 squares, and the function from their cotangent: ties share it."""
    rows, columns = y.shape[1] // 2 * 2, y.shape[2] // 2 * 2
    squares = y[:, :rows, :columns].reshape(y.shape[0], rows // 2, 2, columns // 2, 2, y.shape[3])
    most = squares.max(axis=(2, 4), keepdims=True)

    def pullback(cotangent):
        ties = squares == most
        share = ties / ties.sum(axis=(2, 4), keepdims=True) * cotangent[:, :, None, :, None]
        result = np.zeros_like(y)
        result[:, :rows, :columns] = share.reshape(y.shape[0], rows, columns, y.shape[3])
        return result

    return most[:, :, 0, :, 0], pullback


@DRAWN
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    channels=st.integers(1, 19),
    features=st.integers(1, 37),
    taps=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    activation=st.sampled_from(["none", "relu"]),
    pool=st.booleans(),
)
def test_convolutions_and_their_gradients(
    instructions, rng, batch, size, channels, features, taps, stride, pads, dilation, activation, pool
):
    reach = [(n - 1) * apart + 1 for n, apart in zip(taps, dilation, strict=True)]
    out = [(size[d] + sum(pads[d]) - reach[d]) // stride[d] + 1 for d in range(2)]
    if min(out) < (2 if pool else 1):
        return
    # Where a comparison decides, rounding may decide otherwise than float64: whole numbers and a half are exact in both.
    decided = activation == "relu" or pool
    draw = whole if decided else normal
    x, kernel, bias = draw(rng, batch, *size, channels), draw(rng, *taps, channels, features), draw(rng, features)
    bias += np.float32(0.5)

    def run(x, kernel, bias):
        how = {"stride": stride, "padding": pads, "dilation": dilation}
        return conv(x, kernel, bias, **how, activation=activation, pool=pool, form="native")

    y, pullback = jax.vjp(run, x, kernel, bias)
    cotangent = draw(rng, *y.shape)
    inside, back = convolved(x, kernel, stride, pads, dilation)
    before = inside + bias
    expected = np.maximum(before, 0) if activation == "relu" else before
    inner = cotangent.astype(float)
    if pool:
        expected, unpool = pooled(expected)
        inner = unpool(inner)
    if activation == "relu":
        inner = inner * (before > 0)
    depth = taps[0] * taps[1] * channels
    squares, squared_back = convolved(x**2, kernel**2, stride, pads, dilation)
    if decided:
        np.testing.assert_array_equal(y, expected)
    else:
        assert relative(y, expected, squares + bias**2) < bound(depth)
    # Ties among three halve nothing evenly, so gradients are compared up to rounding in either case.
    to = [*back(inner), inner.sum((0, 1, 2))]
    sizes = [*squared_back(inner**2), (inner**2).sum((0, 1, 2))]
    for found, right, square in zip(pullback(cotangent), to, sizes, strict=True):
        least = max(float(square.sum()), 1e-30)
        assert relative(found, right, np.asarray(least)) < 4 * bound(max(depth, batch * out[0] * out[1]))


@DRAWN
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 40),
    channels=st.integers(1, 19),
    features=st.integers(1, 37),
    taps=st.integers(1, 9),
    stride=st.integers(1, 4),
    pads=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    dilation=st.integers(1, 3),
    activation=st.sampled_from(["none", "relu", "gelu"]),
    biased=st.booleans(),
)
def test_convolutions_in_one_dimension(
    instructions, rng, batch, length, channels, features, taps, stride, pads, dilation, activation, biased
):
    if length + sum(pads) < (taps - 1) * dilation + 1:
        return
    # As above: where relu decides, sums that are exact.
    draw = whole if activation == "relu" else normal
    x, kernel = draw(rng, batch, length, channels), draw(rng, taps, channels, features)
    bias = draw(rng, features) + np.float32(0.5) if biased else None

    def run(x, kernel):
        how = {"stride": stride, "padding": pads, "dilation": dilation, "activation": activation}
        return conv1d(x, kernel, bias, **how, form="native")

    assert "hpjax_conv" in str(jax.make_jaxpr(run)(x, kernel))
    y, pullback = jax.vjp(run, x, kernel)
    cotangent = draw(rng, *y.shape)
    how = (1, stride), ((0, 0), pads), (1, dilation)
    inside, back = convolved(x[:, None], kernel[None], *how)
    squares, squared_back = convolved(x[:, None] ** 2, kernel[None] ** 2, *how)
    offset = bias if biased else np.zeros(features)
    before = inside[:, 0] + offset
    # No activation is steeper than 1.13, nor changes its steepness by more than that.
    # A kernel may see nothing but padding.
    least = np.asarray(max(float((squares + offset**2).sum()), 1e-30))
    assert relative(y, ACTIVATIONS[activation](before), least) < 1.2 * bound(taps * channels)
    inner = derivative(activation, before) * cotangent
    size = cotangent.astype(float) ** 2 * (1 + (squares[:, 0] + offset**2 if activation == "gelu" else 0))
    for found, right, square in zip(pullback(cotangent), back(inner[:, None]), squared_back(size[:, None]), strict=True):
        least = np.asarray(max(float(square.sum()), 1e-30))
        assert relative(found, right.reshape(found.shape), least) < 4 * bound(max(taps * channels, y.size // features))


def test_one_dimension_is_a_picture_of_one_row_bit_for_bit(instructions, rng):
    x, kernel, bias = normal(rng, 3, 17, 4), normal(rng, 5, 4, 6), normal(rng, 6)
    found = conv1d(x, kernel, bias, stride=2, dilation=2, activation="relu")
    expected = conv(x[:, None], kernel[None], bias, stride=(1, 2), dilation=(1, 2), activation="relu")
    np.testing.assert_array_equal(found, expected[:, 0])


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(7, 13, 18), (40, 150, 70)])
def test_nan_and_infinity_travel_through_products(instructions, rng, special, rows, inputs, outputs):
    """To the sums that they are a term of, and to no other; 0 times infinity is NaN."""
    for place in range(3):
        arrays = [normal(rng, rows, inputs), normal(rng, inputs, outputs), normal(rng, outputs)]
        arrays[0][3] = 0
        arrays[place][(2, 5)[-arrays[place].ndim :]] = special
        x, kernel, bias = (a.astype(float) for a in arrays)
        with np.errstate(invalid="ignore"):
            expected = x @ kernel + bias
        y, pullback = jax.vjp(dense, *arrays)
        assert_alike(y, expected)
        cotangent = normal(rng, rows, outputs)
        cotangent[6, 17] = special
        with np.errstate(invalid="ignore"):
            gradients = cotangent.astype(float) @ kernel.T, x.T @ cotangent.astype(float), cotangent.astype(float).sum(0)
        jax.tree.map(assert_alike, pullback(cotangent), gradients)


@pytest.mark.parametrize("size", [1e-28, 1e28, 3e38])
def test_products_of_very_small_and_very_large_numbers(instructions, rng, size):
    """Of the largest, too, which are infinite as a bfloat16."""
    x, kernel = normal(rng, 40, 70), normal(rng, 70, 33)
    x = np.clip(x, -1, 1) * np.float32(size)
    x[3, 5] = np.sign(x[3, 5]) * np.float32(min(size, 1) * np.finfo(np.float32).max)
    kernel /= np.float32(70)
    left, right = x.astype(float), kernel.astype(float)
    assert relative(dense(x, kernel), left @ right, left**2 @ right**2) < bound(70)
    with np.errstate(over="ignore"):
        expected = (left @ (100 * right)).astype(np.float32)
    assert not np.isfinite(np.asarray(dense(x, kernel * 100))[~np.isfinite(expected)]).any()


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("stride", "dilation"), [((1, 1), (1, 1)), ((2, 1), (1, 1)), ((1, 2), (2, 1))])
def test_nan_and_infinity_travel_through_convolutions(instructions, rng, special, stride, dilation):
    """As above; the zeros of the padding are terms too."""
    how = stride, ((1, 1), (2, 0)), dilation
    run = lambda x, kernel: conv(x, kernel, stride=stride, padding=how[1], dilation=dilation, form="native")  # noqa: E731
    for place in range(2):
        arrays = [normal(rng, 2, 7, 9, 3), normal(rng, 3, 3, 3, 5)]
        arrays[place][1, 2, 2, 1] = special
        with np.errstate(invalid="ignore"):
            expected, _ = convolved(*arrays, *how)
        assert_alike(run(*arrays), expected)
    arrays = [normal(rng, 2, 7, 9, 3), normal(rng, 3, 3, 3, 5)]
    y, pullback = jax.vjp(run, *arrays)
    cotangent = normal(rng, *y.shape)
    cotangent[0, 1, 2, 4] = special
    with np.errstate(invalid="ignore"):
        jax.tree.map(assert_alike, pullback(cotangent), convolved(*arrays, *how)[1](cotangent.astype(float)))


def assert_alike(found, expected):
    """The same NaN and infinities, and the rest up to rounding."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(np.asarray(found)[infinite], expected[infinite])
    finite = np.isfinite(expected)
    np.testing.assert_allclose(np.asarray(found)[finite], expected[finite], rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_pooled_nan_is_nan(instructions, rng):
    """No value of a square equals its maximum then: what XLA makes of it is 0 times infinity, in all four places."""
    x = normal(rng, 1, 4, 4, 3)
    x[0, 1, 2, 1] = np.nan
    one = np.eye(3, dtype=np.float32)[None, None]
    for form in ("native", "lax"):
        gradient = jax.grad(lambda x, form=form: (conv(x, one, pool=True, form=form)[..., 1]).sum())(x)
        assert np.isnan(gradient[0, :2, 2:, 1]).all(), form
        assert np.isfinite(gradient[0, 2:, :, 1]).all() and np.isfinite(gradient[0, :, :2, 1]).all(), form


def test_ties_share_the_gradient(instructions):
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 0, :2] = 3.0
    one = np.ones((1, 1, 1, 1), np.float32)
    gradient = jax.grad(lambda x: conv(x, one, pool=True, form="native").sum())(x)[0, :, :, 0]
    np.testing.assert_array_equal(gradient, [[0.5, 0.5, 0.25, 0.25], [0, 0, 0.25, 0.25], [0.25] * 4, [0.25] * 4])


@pytest.mark.slow
def test_the_kernel_gradient_of_a_large_picture(rng):
    """Of few channels the taps are laid side by side, but not of a picture whose taps would take ten gigabytes."""
    x, kernel = normal(rng, 1, 1600, 1600, 1), normal(rng, 32, 32, 1, 1)
    y, pullback = jax.vjp(lambda kernel: conv(x, kernel, padding="VALID", dilation=(1, 2), form="native"), kernel)
    assert y.size * kernel.size > 2**31
    cotangent = normal(rng, *y.shape)
    (found,) = pullback(cotangent)
    for i, j in ((0, 0), (31, 31), (17, 5)):
        seen = x[0, i : i + y.shape[1], 2 * j : 2 * j + y.shape[2], 0].astype(float) * cotangent[0, :, :, 0]
        assert abs(float(found[i, j, 0, 0]) - seen.sum()) < 5 * bound(y.size) * np.sqrt((seen**2).sum())


@pytest.mark.parametrize("places", [8, 1000, 100_000])
def test_results_are_poisoned_before_the_call(poisoned, places):
    """Ties that no pooling writes."""
    if not poisoned:
        pytest.skip("only glibc fills memory")
    x, one, none = np.zeros((1, 1, places, 1), np.float32), np.ones((1, 1, 1, 1), np.float32), np.zeros(0, np.float32)
    where = {"size": (1, places), "stride": (1, 1), "dilation": (1, 1), "before": (0, 0)}
    results = native.floats(*x.shape), jax.ShapeDtypeStruct(x.shape, jnp.uint8)
    assert (native.call("hpjax_conv", results, x, one, none, **where, bf16=False, activation=0, pool=False)[1] == 0xFF).all()


def test_vmap_runs_lane_after_lane_with_the_same_bits(rng):
    x, kernels = normal(rng, 5, 3, 9, 9, 4), normal(rng, 5, 3, 3, 4, 8)
    with native.scope(True):
        one = lambda x, kernel: conv(x, kernel, activation="relu")  # noqa: E731
        program = str(jax.make_jaxpr(jax.vmap(one))(x, kernels))
        together, alone = jax.vmap(one)(x, kernels), [one(*pair) for pair in zip(x, kernels, strict=True)]
    assert "hpjax_conv" in program
    np.testing.assert_array_equal(together, np.stack(alone))


def test_programs_are_native_only_inside_a_scope(rng):
    x, kernel = normal(rng, 2, 8, 8, 3), normal(rng, 3, 3, 3, 4)
    text = lambda: str(jax.make_jaxpr(lambda: conv(x, kernel) @ normal(rng, 4, 2))())  # noqa: E731
    assert "hpjax" not in text()
    with native.scope(True):
        assert "hpjax_conv" in text()
        with native.scope(False):
            assert "hpjax" not in text()
        assert not native_conv.takes(jnp.asarray(x), jnp.asarray(normal(rng, 33, 1, 3, 4)), None, (1, 1), ((40, 40), (0, 0)))
        with jax.enable_x64(True):
            assert not native.used(jnp.zeros(3, jnp.float64))


@pytest.mark.parametrize(
    ("target", "operands", "results", "attributes"),
    [
        (
            "hpjax_matmul",
            [(3, 4), (5, 6), (0,)],
            [(3, 6), (0,)],
            {"transpose_a": False, "transpose_b": False, "bf16": False, "activation": 0},
        ),
        (
            "hpjax_matmul",
            [(3, 4), (4, 6), (5,)],
            [(3, 6), (0,)],
            {"transpose_a": False, "transpose_b": False, "bf16": False, "activation": 0},
        ),
        (
            "hpjax_matmul",
            [(3, 4), (4, 6), (0,)],
            [(3, 7), (0,)],
            {"transpose_a": False, "transpose_b": False, "bf16": False, "activation": 0},
        ),
        (
            "hpjax_matmul",
            [(3, 4), (4, 6), (0,)],
            [(3, 6), (0,)],
            {"transpose_a": False, "transpose_b": False, "bf16": False, "activation": 9},
        ),
        (
            "hpjax_matmul",
            [(12,), (4, 6), (0,)],
            [(3, 6), (0,)],
            {"transpose_a": False, "transpose_b": False, "bf16": False, "activation": 0},
        ),
        ("hpjax_pullback", [(0,), (3, 4)], [(3, 4), (4,)], {"activation": 1}),
    ],
)
def test_handlers_refuse_shapes_that_do_not_fit(target, operands, results, attributes):
    arrays = [np.zeros(shape, np.float32) for shape in operands]
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT.*hpjax: .* do not fit|INVALID_ARGUMENT.*hpjax: matmul: a"):
        jax.block_until_ready(native.call(target, [native.floats(*shape) for shape in results], *arrays, **attributes))


@pytest.mark.parametrize(
    ("x", "kernel", "size", "more"),
    [
        ((1, 4, 4, 2), (3, 3, 3, 5), (4, 4), {}),
        ((1, 4, 4, 2), (3, 3, 2, 5), (4, 5), {}),
        ((1, 4, 4, 2), (3, 3, 2, 5), (4, 4), {"before": (-1, 0)}),
        ((1, 4, 4, 2), (3, 3, 2, 5), (4, 4), {"stride": (0, 1)}),
        ((1, 4, 4, 2), (33, 3, 2, 5), (4, 4), {}),
        ((1, 4, 4, 2), (3, 3, 2, 5), (4, 4), {"activation": 2}),
        ((1, 4, 4), (3, 3, 2, 5), (4, 4), {}),
    ],
)
def test_the_convolution_refuses_what_does_not_fit(x, kernel, size, more):
    attributes = {
        "size": size,
        "stride": (1, 1),
        "dilation": (1, 1),
        "before": (1, 1),
        "activation": 0,
        "pool": False,
        "bf16": False,
        **more,
    }
    results = native.floats(1, 4, 4, 5), jax.ShapeDtypeStruct((0,), jnp.uint8)
    operands = (np.zeros(x, np.float32), np.zeros(kernel, np.float32), np.zeros(0, np.float32))
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT.*hpjax: conv: .* do not fit"):
        jax.block_until_ready(native.call("hpjax_conv", results, *operands, **attributes))


def test_native_in_vain_is_refused(monkeypatch):
    assert resolve(Config()).native == "on"
    assert resolve(Config(native="off")).native == "off"
    monkeypatch.setattr(native, "missing", lambda: "not built (no compiler)")
    assert resolve(Config()).native == "off"
    with pytest.raises(
        ConfigError, match=r"^native is on, but the kernels are not built \(no compiler\); expected auto or off$"
    ):
        resolve(Config(native="on"))
    assert native.described("off") == "kernels: XLA alone; the native ones are not built (no compiler)"


def test_kernels_that_are_not_built_say_what_building_needs(monkeypatch):
    """Not Python's words about a name; where the module is there, but does not load, those of the loader."""
    monkeypatch.setitem(sys.modules, "hpjax._kernels", None)
    monkeypatch.delattr(hpjax, "_kernels", raising=False)
    missing = native.missing.__wrapped__
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    needed = "installing hpjax builds them where it finds a C++17 compiler (g++ or clang++)"
    assert missing() == f"not in {Path(hpjax.__file__).parent} ({needed})"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert re.fullmatch(r"not loaded \(.*_kernels.*\)", missing())


def test_kernels_are_not_said_to_run_on_another_device(monkeypatch):
    assert native.described("on") == f"kernels: native ({native.instruction_set()})"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert native.described("on") == "kernels: XLA alone; the native ones are for a CPU, JAX runs on gpu"
    with native.scope(True):
        assert not native.used(jnp.zeros(3, jnp.float32))
