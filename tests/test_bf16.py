"""Products of bfloat16: every instruction set and XLA's form against float64, and trials that train with them."""

import contextlib
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpjax
from hpjax import build, resolve
from hpjax.batch import Examples
from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.lanes import LaneProgram
from hpjax.ops import conv, dense, native, native_dense, precision
from hpjax.placement import Layout
from hpjax.settings.fields import choices

if native.missing() is not None and not os.environ.get("HPJAX_REQUIRE_NATIVE"):
    pytest.skip(f"the native kernels are {native.missing()}", allow_module_level=True)

from hpjax import _kernels  # type: ignore[attr-defined]
from test_native import ACTIVATIONS, DRAWN, bound, convolved, derivative, normal, pooled, relative, whole

LOOSE = 1e-2
"""What rounding operands to 8 bits may cost, relative."""


KERNELS, XLA = tuple(_kernels.available()), ("slices", "lax")


@contextlib.contextmanager
def running(name):
    """A scope of bfloat16 with the kernels of an instruction set, or with XLA alone; gives the convolution's form."""
    if name in KERNELS:
        assert _kernels.choose(name)
    with native.scope(name in KERNELS), precision.scope("bfloat16"):
        yield "native" if name in KERNELS else name
    _kernels.choose(KERNELS[0])


@pytest.fixture(params=[*KERNELS, *XLA])
def form(request):
    with running(request.param) as form:
        yield form


@pytest.fixture(params=KERNELS)
def instructions(request):
    with running(request.param):
        yield request.param


@pytest.fixture(params=XLA)
def xla(request):
    with running(request.param):
        yield request.param


def rounded(x):
    """Returns float64 of the nearest bfloat16."""
    return np.asarray(np.asarray(x, np.float32).astype(jnp.bfloat16), np.float64)


@DRAWN
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 70),
    depth=st.sampled_from([1, 2, 7, 15, 16, 31, 32, 33, 64, 100, 600]),
    across=st.tuples(st.booleans(), st.booleans()),
    activation=st.sampled_from(list(ACTIVATIONS)),
    at=st.integers(0, 3),
)
def test_products(instructions, rng, rows, columns, depth, across, activation, at):
    # Not aligned: arrays that begin some floats behind a cache line.
    a = normal(rng, at + rows * depth)[at:].reshape((depth, rows) if across[0] else (rows, depth))
    b = normal(rng, *((columns, depth) if across[1] else (depth, columns))) / np.float32(depth**0.5)
    bias = normal(rng, columns)
    found, before = native_dense.matmul(
        a, b, bias, transpose_a=across[0], transpose_b=across[1], bf16=True, activation=activation, before=not across[0]
    )
    left, right = (m.T if turned else m for m, turned in zip((a, b), across, strict=True))
    exact, inside = left.astype(float) @ right + bias, rounded(left) @ rounded(right) + bias
    squares = left.astype(float) ** 2 @ right.astype(float) ** 2 + bias**2
    # No activation is steeper than 1.13.
    assert relative(found, ACTIVATIONS[activation](inside), squares) < bound(depth)
    assert relative(found, ACTIVATIONS[activation](exact), squares) < LOOSE
    assert before.size == 0 or relative(before, inside, squares) < bound(depth)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(6, 5, 8), (128, 64, 128), (33, 300, 10), (1, 1, 1), (128, 10, 17)])
def test_dense_and_its_gradients(form, rng, activation, shape):
    rows, inputs, outputs = shape
    x, kernel, bias, cotangent = (normal(rng, *s) for s in ((rows, inputs), (inputs, outputs), (outputs,), (rows, outputs)))
    kernel /= np.float32(inputs**0.5)
    y, pullback = jax.vjp(lambda *a: dense(*a, activation), x, kernel, bias)
    before = rounded(x) @ rounded(kernel) + bias
    assert relative(y, ACTIVATIONS[activation](before), rounded(x) ** 2 @ rounded(kernel) ** 2 + bias**2) < bound(inputs)
    inside = derivative(activation, before) * cotangent
    size = cotangent.astype(float) ** 2
    to_x, to_kernel, to_bias = pullback(cotangent)
    assert all(gradient.dtype == jnp.float32 for gradient in (y, to_x, to_kernel, to_bias))
    assert relative(to_bias, inside.sum(0), size.sum(0)) < 2 * bound(rows)
    # What the derivative of an activation comes to in float32 may round to another bfloat16 than in float64.
    close = activation in ("none", "relu")
    for found, exact, near, square, depth in (
        (to_x, inside @ kernel.T, rounded(inside) @ rounded(kernel).T, size @ kernel.T.astype(float) ** 2, outputs),
        (to_kernel, x.T @ inside, rounded(x).T @ rounded(inside), x.T.astype(float) ** 2 @ size, rows),
    ):
        assert relative(found, exact, square) < LOOSE
        assert relative(found, near, square) < (2 * bound(depth) if close else 1e-3)


CONVOLUTIONS = {
    "batch": st.integers(1, 3),
    "size": st.tuples(st.integers(1, 21), st.integers(1, 35)),
    "channels": st.sampled_from([1, 2, 3, 5, 16, 17, 32, 33, 40]),
    "features": st.integers(1, 37),
    "taps": st.tuples(st.integers(1, 5), st.integers(1, 5)),
    "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "pads": st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
    "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
    "activation": st.sampled_from(["none", "relu"]),
    "pool": st.booleans(),
}


@DRAWN
@given(**CONVOLUTIONS)
def test_convolutions_and_their_gradients(instructions, rng, **drawn):
    compare_convolution("native", rng, **drawn)


# Each is compiled anew.
@settings(DRAWN, max_examples=6)
@given(**CONVOLUTIONS)
def test_convolutions_of_xla_and_their_gradients(xla, rng, **drawn):
    compare_convolution(xla, rng, **drawn)


def compare_convolution(form, rng, batch, size, channels, features, taps, stride, pads, dilation, activation, pool):
    """Compares a convolution and its gradients with float64: of the rounded operands closely, of the others loosely."""
    reach = [(n - 1) * apart + 1 for n, apart in zip(taps, dilation, strict=True)]
    out = [(size[d] + sum(pads[d]) - reach[d]) // stride[d] + 1 for d in range(2)]
    if min(out) < (2 if pool else 1) or (form == "slices" and dilation != (1, 1)):
        return
    # Where a comparison decides, rounding may decide otherwise than float64: whole numbers and a half are exact in both.
    decided = activation == "relu" or pool
    draw = whole if decided else normal
    x, kernel, bias = draw(rng, batch, *size, channels), draw(rng, *taps, channels, features), draw(rng, features)
    bias += np.float32(0.5)
    how = {"stride": stride, "padding": pads, "dilation": dilation}
    y, pullback = jax.vjp(lambda *a: conv(*a, **how, activation=activation, pool=pool, form=form), x, kernel, bias)
    cotangent = draw(rng, *y.shape)
    inside, back = convolved(rounded(x), rounded(kernel), stride, pads, dilation)
    exact, exact_back = convolved(x, kernel, stride, pads, dilation)
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
        assert relative(y, exact + bias, squares + bias**2) < LOOSE
    to_x, to_kernel, to_bias = pullback(cotangent)
    long = 4 * bound(max(depth, batch * out[0] * out[1]))
    for found, near, right, square in zip(
        (to_x, to_kernel), back(rounded(inner)), exact_back(inner), squared_back(inner**2), strict=True
    ):
        least = np.asarray(max(float(square.sum()), 1e-30))
        assert relative(found, near, least) < long
        assert relative(found, right, least) < LOOSE
    assert relative(to_bias, inner.sum((0, 1, 2)), np.asarray(max(float((inner**2).sum()), 1e-30))) < long


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(14, 16, 32), (9, 3, 5), (8, 64, 16), (28, 1, 16)])
def test_nan_and_infinity_reach_what_they_should(form, rng, shape, stride):
    """One NaN in the input, or one infinity in the cotangent, spoils the results that it is a term of, and no other."""
    edge, channels, features = shape
    x, kernel = normal(rng, 2, edge, edge, channels), normal(rng, 3, 3, channels, features)
    pads = ((1, 1), (1, 1))
    run = lambda x: jax.vjp(lambda *a: conv(*a, stride=(stride, stride), padding=pads, form=form), x, kernel)  # noqa: E731
    where = 1, *rng.integers(0, edge, 2), rng.integers(channels)
    spoilt = x.copy()
    spoilt[where] = np.nan
    touched, back = convolved(spoilt, kernel, (stride, stride), pads, (1, 1))
    y, pullback = run(spoilt)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(touched))
    cotangent = normal(rng, *y.shape)
    np.testing.assert_array_equal(np.isnan(pullback(cotangent)[1]), np.isnan(back(cotangent)[1]))
    _, pullback = run(x)
    cotangent[1, -1, rng.integers(y.shape[2]), rng.integers(features)] = np.inf
    _, back = convolved(x, kernel, (stride, stride), pads, (1, 1))
    with np.errstate(invalid="ignore"):
        for found, expected in zip(pullback(cotangent), back(cotangent), strict=True):
            np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))


def test_nan_stays_nan_while_it_is_rounded(form):
    # Of these bits the upper half alone would be an infinity.
    hidden = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF], np.uint32).view(np.float32)
    x = np.concatenate([hidden, np.array([np.inf, -np.inf, 3.4e38, 1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8], np.float32)])
    found = np.asarray(dense(jnp.asarray(x[:, None]), jnp.ones((1, 1), jnp.float32)))[:, 0]
    # The largest floats round to infinity; halves go to the even neighbour.
    np.testing.assert_array_equal(found, [np.nan] * 3 + [np.inf, -np.inf, np.inf, 1.0, 1.0 + 4 * 2.0**-8])


def test_lanes_run_one_after_the_other_with_the_same_bits(instructions, rng):
    x, kernels = normal(rng, 5, 3, 9, 9, 4), normal(rng, 5, 3, 3, 4, 8)
    one = lambda x, kernel: conv(x, kernel, activation="relu")  # noqa: E731
    alone = [one(*pair) for pair in zip(x, kernels, strict=True)]
    np.testing.assert_array_equal(jax.vmap(one)(x, kernels), np.stack(alone))
    np.testing.assert_array_equal(jax.lax.map(lambda pair: one(*pair), (x, kernels)), np.stack(alone))


def test_programs_round_only_inside_a_scope(rng):
    x, kernel = normal(rng, 4, 8), normal(rng, 8, 3)
    text = lambda: str(jax.make_jaxpr(lambda: dense(x, kernel))())  # noqa: E731
    assert "bf16" not in text()
    with precision.scope("bfloat16"):
        assert "bf16" in text()
        with precision.scope("float32"):
            assert "bf16" not in text()
    assert choices(hpjax.config.FIELDS["compute_dtype"].metadata["domain"]) == precision.DTYPES


def test_a_misspelt_dtype_is_named():
    with pytest.raises(
        ConfigError, match=r"^compute_dtype is 'bfloat'; expected one of float32, bfloat16; did you mean 'bfloat16'\?$"
    ):
        Config(compute_dtype="bfloat")


SETTINGS = {
    "mlp": {"hidden_sizes": (32, 32)},
    "cnn": {"channels": (8,), "hidden_sizes": (16,)},
}


def lanes_of(rates, lane, **settings):
    """Returns one lane's state after 12 ticks of a program with a lane for each learning rate."""
    base = {"optimizer": "adamw", "schedule": "cosine", "train_steps": 12, "batch_size": 32, "compute_dtype": "bfloat16"}
    configs = [resolve.resolve(Config(**base, **settings, learning_rate=rate)) for rate in rates]
    dataset = build.load(configs[0])
    program = LaneProgram(build.trial(configs[0], dataset), Layout(lanes=len(rates)))
    examples = program.put_examples(Examples(dataset.x, dataset.y))
    length = resolve.lengths(configs[0], dataset.splits["train"][1])[0]
    values = program.put_values([resolve.traced(config, length) for config in configs])
    states, _ = program.chunk(program.init(values, examples), values, examples, 12)
    return jax.device_get(program.take(states, lane))


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_trial_has_the_same_bits_in_one_lane_and_in_three(model):
    settings = {"model": model, **SETTINGS[model]}
    alone, third = lanes_of([0.01], 0, **settings), lanes_of([0.1, 0.001, 0.01], 2, **settings)
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(third), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kernels", ["on", "off"])
def test_digits_are_learnt_as_well_as_in_float32(tmp_path, kernels):
    def accuracy(dtype):
        config = Config(
            **{"optimizer": "adamw", "schedule": "cosine", "train_steps": 300, "learning_rate": 3e-3, "progress": False},
            **{"native": kernels, "tensorboard": False, "compute_dtype": dtype, "run_dir": str(tmp_path / dtype)},
        )
        return hpjax.run(config).best["value"]

    best = {dtype: accuracy(dtype) for dtype in precision.DTYPES}
    assert "--compute_dtype=bfloat16\n" in (tmp_path / "bfloat16" / "flags.txt").read_text()
    # Four digits of 359: about one standard deviation of either.
    assert best["bfloat16"] > 0.95 and abs(best["bfloat16"] - best["float32"]) < 0.012


def test_a_study_varies_it_and_its_winner_is_repeated(tmp_path):
    from test_sweep import repeated, swept, table

    folder = swept(tmp_path / "study", ("compute_dtype=choice(bfloat16,float32)", "learning_rate=choice(0.05)"), trials=2)
    rows = table(folder)
    assert {row["compute_dtype"] for row in rows} == set(precision.DTYPES)
    fixed = swept(tmp_path / "fixed", ("learning_rate=choice(0.02,0.05)",), trials=2, compute_dtype="bfloat16")
    assert "--compute_dtype=bfloat16\n" in (fixed / "best.flags").read_text()
    repeated(fixed, tmp_path / "again")


def test_the_line_at_the_start_says_it(monkeypatch):
    kind = native.instruction_set()
    assert native.described("on", "bfloat16") == f"kernels: native ({kind}), products of bfloat16"
    assert native.described("off", "bfloat16") == "kernels: XLA alone (native is off), products of bfloat16"
