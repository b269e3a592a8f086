"""The kernels of a transformer's block against float64: attention, layer norm and perceptron, for every instruction set."""

import os
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpjax import build, resolve
from hpjax.batch import Examples
from hpjax.config import Config
from hpjax.data.dataset import create_language
from hpjax.lanes import LaneProgram
from hpjax.ops import (
    attention,
    causal_attention,
    dense,
    join_heads,
    layer_norm,
    native,
    perceptron,
    residual_norm,
    self_attention,
    split_heads,
)
from hpjax.placement import Layout
from test_native import ACTIVATIONS, bound, derivative, normal

if native.missing() is not None and not os.environ.get("HPJAX_REQUIRE_NATIVE"):
    pytest.skip(f"the native kernels are {native.missing()}", allow_module_level=True)

from hpjax import _kernels  # type: ignore[attr-defined]

DRAWN = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=_kernels.available())
def instructions(request) -> Iterator[str]:
    assert _kernels.choose(request.param)
    with native.scope(True):
        yield request.param
    _kernels.choose(_kernels.available()[0])


def poison(*shapes: tuple[int, ...]) -> None:
    """Leaves memory full of NaN behind, in pieces that the results of these shapes are likely to be put into."""
    jax.block_until_ready([jax.device_put(np.full(shape, np.nan, np.float32)).copy() for shape in shapes])


def run(function: Callable[..., jax.Array], cotangent: np.ndarray, *arguments: np.ndarray) -> list[np.ndarray]:
    """Returns the value and every gradient, as float64."""
    poison(cotangent.shape, *(argument.shape for argument in arguments))
    y, pullback = jax.vjp(function, *arguments)
    return [np.asarray(leaf, float) for leaf in (y, *pullback(cotangent))]


def distance(found: np.ndarray, expected: np.ndarray, size: float | None = None) -> float:
    return float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) if size is None else size))


def plain_attention(qkv: np.ndarray, cotangent: np.ndarray, heads: int, causal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns attention in float64, and its gradient."""
    batch, time, width = *qkv.shape[:2], qkv.shape[2] // 3
    q, k, v = qkv.astype(float).reshape(batch, time, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    back = cotangent.astype(float).reshape(batch, time, heads, -1).transpose(0, 2, 1, 3)
    scale = q.shape[3] ** -0.5
    scores = q @ k.swapaxes(2, 3) * scale
    if causal:
        scores = np.where(np.tril(np.ones((time, time), bool)), scores, -np.inf)
    p = np.exp(scores - scores.max(3, keepdims=True))
    p /= p.sum(3, keepdims=True)
    to_p = back @ v.swapaxes(2, 3)
    to_scores = p * (to_p - (p * to_p).sum(3, keepdims=True)) * scale
    to = np.stack([to_scores @ k, to_scores.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ back])
    return (p @ v).transpose(0, 2, 1, 3).reshape(batch, time, width), to.transpose(1, 3, 0, 2, 4).reshape(qkv.shape)


@DRAWN
@given(
    batch=st.integers(1, 3),
    time=st.one_of(st.integers(1, 9), st.integers(10, 70)),
    heads=st.integers(1, 4),
    dim=st.one_of(st.integers(1, 20), st.sampled_from([32, 48, 64, 127, 128])),
    causal=st.booleans(),
)
def test_attention_and_its_gradient(instructions, rng, batch, time, heads, dim, causal):
    qkv, cotangent = normal(rng, batch, time, 3 * heads * dim), normal(rng, batch, time, heads * dim)
    results = run(lambda qkv: self_attention(qkv, heads, causal=causal), cotangent, qkv)
    for found, expected in zip(results, plain_attention(qkv, cotangent, heads, causal), strict=True):
        assert distance(found, expected) < bound(max(time, dim))


@pytest.mark.parametrize("causal", [True, False])
def test_attention_by_xla_is_the_same(rng, causal):
    qkv = normal(rng, 2, 9, 3 * 8)
    y = self_attention(qkv, 2, causal=causal)
    np.testing.assert_array_equal(y, join_heads((causal_attention if causal else attention)(*split_heads(qkv, 2))))
    with native.scope(True):
        np.testing.assert_allclose(self_attention(qkv, 2, causal=causal), y, rtol=2e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"self_attention: qkv \(2, 9, 24\) does not fit 3 heads"):
        self_attention(qkv, 3, causal=causal)


def test_attention_at_large_scores(instructions, rng):
    qkv = normal(rng, 2, 20, 3 * 8)
    qkv[:, :, :16] *= 1e3
    y, pullback = jax.vjp(lambda qkv: self_attention(qkv, 2, causal=True), qkv)
    assert np.isfinite(y).all() and np.isfinite(pullback(jnp.ones_like(y))[0]).all()


def test_what_is_no_number_travels_through_attention(instructions, rng):
    place, time, width = 11, 20, 8
    plain = normal(rng, 1, time, 3 * width)
    for bad in (np.nan, np.inf, -np.inf):
        for part in range(3):
            qkv = plain.copy()
            qkv[0, place, part * width : (part + 1) * width] = bad
            whole = np.asarray(self_attention(qkv, 2, causal=False))[0]
            y, pullback = jax.vjp(lambda qkv: self_attention(qkv, 2, causal=True), qkv)
            y = np.asarray(y)[0]
            if part == 0:
                assert np.isnan(y[place]).all() and np.isfinite(np.delete(y, place, 0)).all()
            elif part == 1:
                # Scores of +inf have no softmax; those of -inf count nothing.
                assert np.isnan(y[place:]).any(1).all() if np.isnan(bad) else np.isnan(y[place:]).any()
                assert np.isfinite(y[:place]).all()
            else:
                assert not np.isfinite(y[place:]).any() and not np.isfinite(whole).any()
            if np.isnan(bad):
                assert np.isnan(pullback(jnp.ones((1, time, width)))[0]).any()


@DRAWN
@given(rows=st.integers(1, 40), features=st.integers(1, 140), added=st.booleans(), large=st.booleans())
def test_layer_norms_and_their_gradients(instructions, rng, rows, features, added, large):
    shapes = ((rows, features), (rows, features), (features,), (features,))
    x, branch, scale, bias = (normal(rng, *shape) for shape in shapes)
    x += np.float32(100 * large)
    through, cotangent = normal(rng, rows, features) * added, normal(rng, rows, features)

    def both(x, branch, scale, bias):
        return jnp.stack(residual_norm(x, branch if added else None, scale, bias))

    (total, y), to_x, to_branch, *to = run(both, np.stack([through, cotangent]), x, branch, scale, bias)
    np.testing.assert_array_equal(total, x + branch if added else x)
    np.testing.assert_array_equal(to_branch, to_x if added else 0)
    inverse = 1 / np.sqrt(total.var(1, keepdims=True) + 1e-5)
    normed = (total - total.mean(1, keepdims=True)) * inverse
    scaled = cotangent.astype(float) * scale
    inside = scaled - scaled.mean(1, keepdims=True) - normed * (scaled * normed).mean(1, keepdims=True)
    expected = (normed * scale + bias, inverse * inside + through, (cotangent * normed).sum(0), cotangent.sum(0))
    # Few features cancel: an error is that of the terms. Beside a mean that is large for the deviation the input's last
    # digits are all there is: what is centred has lost so many.
    lost = 1 + np.abs(total).max(1, keepdims=True) * inverse
    terms = (scale * lost, inverse * scaled * lost, cotangent * lost, cotangent)
    for found, right, term in zip((y, to_x, *to), expected, terms, strict=True):
        assert distance(found, right, np.linalg.norm(right) + np.linalg.norm(term)) < bound(max(rows, features))


def test_layer_norm_alone_is_that_of_a_sum(instructions, rng):
    x, scale, bias = normal(rng, 2, 3, 20), normal(rng, 20), normal(rng, 20)
    total, y = residual_norm(x, None, scale, bias)
    np.testing.assert_array_equal(total, x)
    np.testing.assert_array_equal(y, layer_norm(x, scale, bias))
    alone = run(layer_norm, x + 1, x, scale, bias)
    jax.tree.map(
        np.testing.assert_array_equal, run(lambda x, *a: residual_norm(x, None, *a)[1], x + 1, x, scale, bias), alone
    )
    with pytest.raises(ValueError, match="residual_norm: x"):
        residual_norm(x, x[:1], scale, bias)
    bad = x.copy()
    bad[0, 1, 3] = np.nan
    y = np.asarray(layer_norm(bad, scale, bias))
    assert np.isnan(y[0, 1]).all() and np.isnan(y).sum() == 20


@DRAWN
@given(
    rows=st.one_of(st.integers(1, 40), st.integers(120, 300)),
    inputs=st.integers(1, 70),
    hidden=st.one_of(st.integers(1, 70), st.integers(120, 270)),
    outputs=st.integers(1, 50),
    activation=st.sampled_from(["none", "tanh", "gelu", "silu"]),
)
def test_perceptrons_and_their_gradients(instructions, rng, rows, inputs, hidden, outputs, activation):
    shapes = ((rows, inputs), (inputs, hidden), (hidden,), (hidden, outputs), (outputs,))
    x, kernel, bias, out_kernel, out_bias = (normal(rng, *shape) for shape in shapes)
    kernel /= np.float32(inputs**0.5)
    out_kernel /= np.float32(hidden**0.5)

    cotangent = normal(rng, rows, outputs)
    results = run(lambda *a: perceptron(*a, activation), cotangent, x, kernel, bias, out_kernel, out_bias)
    before = x.astype(float) @ kernel + bias
    values, back = ACTIVATIONS[activation](before), cotangent.astype(float) @ out_kernel.T
    inside = back * derivative(activation, before)
    expected = (
        *(values @ out_kernel + out_bias, inside @ kernel.T, x.astype(float).T @ inside, inside.sum(0)),
        *(values.T @ cotangent, cotangent.astype(float).sum(0)),
    )
    # A result of few sums may cancel by chance: the sizes are those of independent terms.
    square = lambda a: a.astype(float) ** 2  # noqa: E731
    middle = square(cotangent) @ square(out_kernel).T
    sizes = (
        *((square(before) + 1) @ square(out_kernel) + square(out_bias), middle @ square(kernel).T, square(x).T @ middle),
        *(middle, (square(before) + 1).T @ square(cotangent), square(cotangent)),
    )
    for found, right, size in zip(results, expected, sizes, strict=True):
        assert distance(found, right, size.sum() ** 0.5) < 2 * bound(max(rows, inputs, hidden, outputs))


def test_a_perceptron_of_relu_keeps_its_zeros(instructions, rng):
    """Whole numbers and a half are exact in float32: no comparison depends on rounding."""
    shapes = ((9, 5), (5, 33), (33,), (33, 7), (7,))
    arrays = [rng.integers(-3, 4, shape).astype(np.float32) + np.float32(0.5) for shape in shapes]

    def run(function):
        y, pullback = jax.vjp(function, *arrays)
        return y, *pullback(jnp.ones_like(y))

    found = run(lambda *a: perceptron(*a, "relu"))
    with native.scope(False):
        right = run(lambda x, k, b, ok, ob: dense(dense(x, k, b, "relu"), ok, ob))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, right)
    with pytest.raises(ValueError, match="perceptron: x"):
        perceptron(*arrays[:3], arrays[3][1:], arrays[4], "relu")


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(9, 5, 7), (150, 32, 40)])
def test_numbers_that_are_none_stay_in_their_row_of_a_perceptron(instructions, rng, rows, inputs, outputs):
    shapes = ((rows, inputs), (inputs, 33), (33,), (33, outputs), (outputs,))
    arrays = [normal(rng, *shape) for shape in shapes]
    arrays[0][4, 2] = np.nan
    for activation in ACTIVATIONS:
        y, pullback = jax.vjp(lambda x, a=activation: perceptron(x, *arrays[1:], a), arrays[0])
        assert np.isnan(y[4]).all() and np.isnan(y).sum() == outputs
        # A comparison with NaN is false: relu lets no gradient through there.
        assert activation in ("relu", "none") or np.isnan(pullback(jnp.ones((rows, outputs)))[0][4]).all()


def test_lanes_give_the_bits_of_one(rng):
    lanes = 3
    qkv, x, branch = normal(rng, lanes, 2, 13, 24), normal(rng, lanes, 26, 8), normal(rng, lanes, 26, 8)
    scale, kernel, out_kernel = normal(rng, lanes, 8), normal(rng, lanes, 8, 20), normal(rng, lanes, 20, 8)

    def block(qkv, x, branch, scale, kernel, out_kernel):
        total, y = residual_norm(x, branch + self_attention(qkv, 2, causal=True).reshape(26, 8), scale, scale)
        return jnp.square(total + perceptron(y, kernel, kernel[0], out_kernel, scale, "gelu")).sum()

    arguments = (qkv, x, branch, scale, kernel, out_kernel)
    every = jax.grad(block, tuple(range(6)))
    with native.scope(True):
        program = str(jax.make_jaxpr(jax.vmap(every))(*arguments))
        one_by_one = lambda *a: jax.lax.map(lambda b: every(*b), a)  # noqa: E731
        mesh, lane = jax.sharding.Mesh(np.array(jax.devices()[:lanes]), ("lane",)), jax.sharding.PartitionSpec("lane")
        spread = jax.shard_map(one_by_one, mesh=mesh, in_specs=lane, out_specs=lane, check_vma=False)
        every_way = [jax.jit(mapped)(*arguments) for mapped in (jax.vmap(every), one_by_one, spread)]
        alone = [jax.jit(every)(*(argument[lane] for argument in arguments)) for lane in range(lanes)]
    for name in ("attention", "norm", "perceptron"):
        assert f"hpjax_{name}_gradient" in program
    for found in every_way:
        jax.tree.map(np.testing.assert_array_equal, found, jax.tree.map(lambda *leaves: np.stack(leaves), *alone))


def test_a_transformer_trains_alike_with_and_without_the_kernels(rng):
    # What comes next is one or two further on: something to learn in a few steps.
    stream = (np.cumsum(rng.integers(1, 3, 3000)) % 11).astype(np.uint8)
    dataset = create_language("random", train=stream, window=13, num_classes=11)
    model = {"model": "transformer", "depth": 2, "width": 24, "heads": 2, "context_length": 13, "batch_size": 8}

    def curve(mode: str) -> np.ndarray:
        config = resolve.resolve(
            Config(train_steps="40", schedule="constant", optimizer="adamw", learning_rate=3e-3, native=mode, **model)
        )
        scalars = resolve.traced(config, resolve.lengths(config, dataset.splits["train"][1])[0])
        program = LaneProgram(build.trial(config, dataset), Layout(lanes=1))
        examples, values = program.put_examples(Examples(dataset.x, dataset.y)), program.put_values([scalars])
        states, losses = program.init(values, examples), []
        for _ in range(8):
            states, report = program.chunk(states, values, examples, 5)
            losses.append(float(report["loss"][0]))
        return np.array(losses)

    with_them, without = curve("on"), curve("off")
    assert without[-1] < without[0]
    np.testing.assert_allclose(with_them, without, rtol=1e-4)


@pytest.mark.parametrize(
    ("target", "operands", "results", "attributes"),
    [
        ("hpjax_attention", [(2, 5, 24)], [(2, 5, 8), (2, 3, 2, 5)], {"heads": 3, "causal": True}),
        ("hpjax_attention", [(2, 5, 24)], [(2, 5, 8), (2, 2, 2, 5)], {"heads": 0, "causal": True}),
        ("hpjax_attention", [(2, 5, 24)], [(2, 5, 9), (2, 2, 2, 5)], {"heads": 2, "causal": True}),
        ("hpjax_attention", [(2, 5, 24)], [(2, 5, 8), (2, 2, 5)], {"heads": 2, "causal": True}),
        ("hpjax_attention", [(5, 24)], [(5, 8), (2, 2, 5)], {"heads": 2, "causal": True}),
        ("hpjax_attention_gradient", [(2, 5, 24), (2, 2, 2, 5), (2, 4, 8)], [(2, 5, 24)], {"heads": 2, "causal": False}),
        ("hpjax_attention_gradient", [(2, 5, 24), (2, 2, 1, 5), (2, 5, 8)], [(2, 5, 24)], {"heads": 2, "causal": False}),
        ("hpjax_attention_gradient", [(2, 5, 24), (2, 2, 2, 5), (2, 5, 8)], [(2, 5, 8)], {"heads": 2, "causal": False}),
        ("hpjax_norm", [(3, 4), (0,), (4,), (5,)], [(0,), (3, 4), (3, 2)], {}),
        ("hpjax_norm", [(3, 4), (3, 5), (4,), (4,)], [(3, 4), (3, 4), (3, 2)], {}),
        ("hpjax_norm", [(3, 4), (3, 4), (4,), (4,)], [(0,), (3, 4), (3, 2)], {}),
        ("hpjax_norm", [(3, 4), (0,), (4,), (4,)], [(0,), (3, 4), (3,)], {}),
        ("hpjax_norm", [(12,), (0,), (4,), (4,)], [(0,), (3, 4), (3, 2)], {}),
        ("hpjax_norm_gradient", [(3, 4), (4,), (3, 2), (3, 4), (2, 4)], [(3, 4), (4,), (4,)], None),
        ("hpjax_norm_gradient", [(3, 4), (4,), (2, 2), (3, 4), (0,)], [(3, 4), (4,), (4,)], None),
        ("hpjax_perceptron", [(3, 4), (4, 5), (5,), (6, 7), (7,)], [(3, 7), (0,)], {"activation": 1}),
        ("hpjax_perceptron", [(3, 4), (4, 5), (5,), (5, 7), (7,)], [(3, 7), (3, 4)], {"activation": 1}),
        ("hpjax_perceptron", [(3, 4), (4, 5), (5,), (5, 7), (7,)], [(3, 7), (0,)], {"activation": 9}),
        ("hpjax_perceptron", [(3, 4), (3, 5), (5,), (5, 7), (7,)], [(3, 7), (0,)], {"activation": 1}),
        (
            "hpjax_perceptron_gradient",
            [(3, 4), (4, 5), (5, 7), (3, 5), (3, 6)],
            [(3, 4), (4, 5), (5,), (5, 7), (7,)],
            {"activation": 1},
        ),
        (
            "hpjax_perceptron_gradient",
            [(3, 4), (4, 5), (5, 7), (3, 5), (3, 7)],
            [(3, 4), (4, 5), (5,), (5, 7), (0,)],
            {"activation": 1},
        ),
    ],
)
def test_handlers_refuse_shapes_that_do_not_fit(target, operands, results, attributes):
    if attributes == {}:
        attributes = {"epsilon": np.array([1e-5], np.float32)}
    arrays = [np.zeros(shape, np.float32) for shape in operands]
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT.*hpjax: .* do not fit"):
        jax.block_until_ready(
            native.call(target, [native.floats(*shape) for shape in results], *arrays, **(attributes or {}))
        )
