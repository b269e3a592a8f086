"""Logistic regression, the vision transformer, the transformer and the LSTM: against torch in float64, gradients, masks."""

from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from hpjax.errors import ConfigError
from hpjax.models import MODELS, StochasticDepth, Training
from hpjax.ops import attention, causal_attention, embedding, layer_norm
from small_models import TIME, small

BATCH, OUTPUTS = 4, 7
SMALL_MODELS = {
    # name: (settings, what an input is)
    **{name: (small(name).settings, small(name).example) for name in ("logistic", "vit")},
    **{name: (small(name).settings, "tokens") for name in ("transformer", "lstm")},
    "lstm of numbers": ({"depth": 1, "width": 8}, (TIME, 3)),
}
SEEDED = ("vit", "transformer", "lstm")
models = pytest.mark.parametrize("case", SMALL_MODELS)


def build(case: str):
    return MODELS.get(case.partition(" ")[0])(OUTPUTS, **SMALL_MODELS[case][0])


def inputs(case: str, rng: np.random.Generator, batch: int = BATCH):
    shape = SMALL_MODELS[case][1]
    if shape == "tokens":
        return rng.integers(OUTPUTS, size=(batch, TIME)).astype(np.int32)
    return rng.normal(size=(batch, *shape)).astype(np.float32)


def problem(case: str, rng: np.random.Generator):
    """Returns the model, float32 parameters away from their zeros, a batch, labels and positions."""
    model, x = build(case), inputs(case, rng)
    params = jax.jit(model.init)(jax.random.key(int(rng.integers(2**32))), x)["params"]
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params)
    labels = rng.integers(OUTPUTS, size=x.shape if SMALL_MODELS[case][1] == "tokens" else BATCH)
    return model, params, x, labels.astype(np.int32), rng.integers(2**32, size=BATCH, dtype=np.uint32)


def objective(model, params, x, labels, rates, position, seed):
    training = Training(position, *rates)
    outputs = model.apply({"params": params}, x, training, rngs={"dropout": jax.random.key(seed)})
    one_hot = jax.nn.one_hot(labels, OUTPUTS, dtype=outputs.dtype)
    return -(one_hot * jax.nn.log_softmax(outputs)).sum(-1).mean()


def in_float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) if leaf.dtype == np.float32 else leaf, tree)


def norm(tree) -> float:
    return float(np.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in jax.tree.leaves(tree))))


@models
def test_the_float32_gradient_is_the_float64_gradient(rng, case):
    """With dropout and stochastic depth too: the masks do not depend on the dtype. At most 4e-7 was seen."""
    model, params, x, labels, position = problem(case, rng)
    gradient = jax.jit(jax.grad(partial(objective, model)))
    for rate in (0.0, 0.4):
        rest = labels, (np.float32(rate), np.float32(rate)), position, np.uint32(7)
        single = gradient(params, x, *rest)
        with jax.enable_x64(True):
            double = gradient(*in_float64((params, x)), *rest)
        assert {leaf.dtype for leaf in jax.tree.leaves(double)} == {np.dtype(np.float64)}
        difference = jax.tree.map(np.subtract, in_float64(single), in_float64(double))
        assert norm(difference) < 2e-6 * norm(double)


@models
def test_the_float64_gradient_is_the_central_difference(rng, case):
    model, params, x, labels, position = problem(case, rng)
    step, wrong = 1e-5, []
    with jax.enable_x64(True):
        params, x = in_float64((params, x))
        flat, restore = jax.flatten_util.ravel_pytree(params)
        rates = np.float64(0.3), np.float64(0.3)
        value = jax.jit(lambda p: objective(model, restore(p), x, labels, rates, position, np.uint32(7)))
        gradient = np.asarray(jax.jit(jax.grad(value))(flat))
        size = np.linalg.norm(gradient)
        for _ in range(5):
            # Half along the gradient, so that the derivative is not small beside its rounding.
            random = rng.normal(size=flat.size)
            direction = gradient / size + random / np.linalg.norm(random)
            difference = float(value(flat + step * direction) - value(flat - step * direction)) / (2 * step)
            wrong.append(abs(difference / (direction @ gradient) - 1))
    assert max(wrong) < 1e-7


@models
def test_the_first_loss_is_that_of_the_uniform_distribution(rng, case):
    """Near ln(outputs) at the sizes a person would train, and outputs of the promised shape in float32."""
    name, x = case.partition(" ")[0], inputs(case, rng, 64)
    model = MODELS.get(name)(OUTPUTS)
    variables = jax.jit(model.init)(jax.random.key(int(rng.integers(2**32))), x)
    outputs = jax.jit(model.apply)(variables, x)
    assert outputs.shape == ((64, TIME, OUTPUTS) if SMALL_MODELS[case][1] == "tokens" else (64, OUTPUTS))
    assert outputs.dtype == np.float32
    loss = -np.asarray(jax.nn.log_softmax(outputs))[..., 0].mean()
    if name == "logistic":
        assert loss == pytest.approx(np.log(OUTPUTS), abs=1e-6)
    else:
        labels = rng.integers(OUTPUTS, size=outputs.shape[:-1])
        loss = -np.take_along_axis(np.asarray(jax.nn.log_softmax(outputs)), labels[..., None], -1).mean()
        assert loss == pytest.approx(np.log(OUTPUTS), abs=0.25)


@pytest.mark.parametrize("case", ["transformer", "lstm"])
def test_future_tokens_change_no_earlier_logit(rng, case):
    model, params, x, _, _ = problem(case, rng)
    outputs = jax.jit(lambda x: model.apply({"params": params}, x))
    before = np.asarray(outputs(x))
    for place in range(TIME):
        changed = x.copy()
        changed[:, place:] = (changed[:, place:] + rng.integers(1, OUTPUTS, size=TIME - place)) % OUTPUTS
        after = np.asarray(outputs(changed))
        np.testing.assert_array_equal(after[:, :place], before[:, :place])
        assert (np.abs(after[:, place] - before[:, place]).max(-1) > 1e-4).all()


@pytest.mark.parametrize("case", SEEDED)
def test_masks_belong_to_the_example_not_to_its_batch(rng, case):
    """In another order and in batches of one each example meets the same masks: outputs differ by rounding alone."""
    model, params, x, _, position = problem(case, rng)

    @jax.jit
    def outputs(x, position):
        training = Training(position, np.float32(0.5), np.float32(0.5))
        return model.apply({"params": params}, x, training, rngs={"dropout": jax.random.key(3)})

    whole, order = outputs(x, position), rng.permutation(BATCH)
    np.testing.assert_allclose(outputs(x[order], position[order]), whole[order], rtol=1e-5, atol=1e-5)
    single = np.concatenate([outputs(x[i : i + 1], position[i : i + 1]) for i in range(BATCH)])
    np.testing.assert_allclose(single, whole, rtol=1e-5, atol=1e-5)
    # And it does depend on the position.
    assert np.abs(outputs(x, position + np.uint32(1)) - whole).max() > 1e-3


@pytest.mark.parametrize("case", SEEDED)
def test_rate_zero_is_evaluation_and_the_rates_are_traced(rng, case):
    """Up to rounding: beside the unused masks XLA fuses the sums of a layer norm otherwise. At most 3e-7 was seen."""
    model, params, x, _, position = problem(case, rng)

    @jax.jit
    def trained(rates):
        return model.apply({"params": params}, x, Training(position, *rates), rngs={"dropout": jax.random.key(1)})

    evaluated = jax.jit(lambda: model.apply({"params": params}, x))()
    zero, some = np.float32(0), np.float32(0.5)
    np.testing.assert_allclose(trained((zero, zero)), evaluated, rtol=1e-6, atol=1e-6)
    assert np.abs(trained((some, zero)) - evaluated).max() > 1e-3
    depth = "stochastic_depth_rate" in MODELS.settings(case)
    assert (np.abs(trained((zero, some)) - evaluated).max() > 1e-3) == depth
    assert trained._cache_size() == 1


def test_stochastic_depth_keeps_whole_examples_and_the_mean(rng):
    share, rate, number = 0.5, 0.6, 4000
    position = rng.integers(2**31, dtype=np.uint32) + np.arange(number, dtype=np.uint32)
    training = Training(position, stochastic_depth_rate=np.float32(rate))
    layer, key = StochasticDepth(share), jax.random.key(int(rng.integers(2**32)))
    kept = np.asarray(layer.apply({}, np.ones((number, 3, 2), np.float32), training, rngs={"dropout": key}))
    assert (kept == kept[:, :1, :1]).all()
    values, dropped = np.unique(kept), (kept[:, 0, 0] == 0).mean()
    np.testing.assert_allclose(values, [0, 1 / (1 - share * rate)], rtol=1e-6)
    # Six standard deviations of a mean of 4000 independent 0/1 values.
    assert abs(dropped - share * rate) < 6 * np.sqrt(0.3 * 0.7 / number)


def normal(rng, *shape):
    return rng.normal(size=shape)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs(torch, rng, causal):
    q, k, v, cotangent = (normal(rng, 2, 3, 5, 4) for _ in range(4))
    function = causal_attention if causal else attention
    tensors = [torch.tensor(a, requires_grad=True) for a in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=causal)
    expected.backward(torch.tensor(cotangent))
    with jax.enable_x64(True):
        output, pullback = jax.vjp(function, q, k, v)
        gradients = pullback(jnp.asarray(cotangent))
    np.testing.assert_allclose(output, expected.detach(), rtol=1e-12, atol=1e-13)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-12, atol=1e-13)


def test_attention_is_sound_at_large_scores(rng):
    """Scores of 1e4 and more: a softmax that does not subtract its maximum would overflow."""
    q, k, v = (jnp.asarray(normal(rng, 1, 2, 6, 4), jnp.float32) for _ in range(3))
    gradient = jax.grad(lambda q, k, v: causal_attention(1e3 * q, 1e3 * k, v).sum(), (0, 1, 2))(q, k, v)
    assert all(np.isfinite(leaf).all() for leaf in gradient)
    output = causal_attention(1e3 * q, 1e3 * k, v)
    np.testing.assert_array_equal(output[:, :, 0], v[:, :, 0])


def test_attention_refuses_shapes_that_do_not_fit():
    x = jnp.zeros((1, 2, 3, 4))
    with pytest.raises(ValueError, match="attention: q"):
        attention(x, x[:, :1], x[:, :1])
    with pytest.raises(ValueError, match="mask"):
        attention(x, x, x, jnp.ones((3, 4), bool))
    with pytest.raises(ValueError, match="causal_attention: q"):
        causal_attention(x[:, :, :2], x, x)


def test_layer_norm_is_torchs(torch, rng):
    x, scale, bias, cotangent = 5 + 3 * normal(rng, 4, 3, 8), normal(rng, 8), normal(rng, 8), normal(rng, 4, 3, 8)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, scale, bias)]
    expected = torch.nn.functional.layer_norm(tensors[0], (8,), *tensors[1:])
    expected.backward(torch.tensor(cotangent))
    with jax.enable_x64(True):
        output, pullback = jax.vjp(layer_norm, x, scale, bias)
        gradients = pullback(jnp.asarray(cotangent))
    np.testing.assert_allclose(output, expected.detach(), rtol=1e-12, atol=1e-13)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-11, atol=1e-12)


def test_layer_norm_keeps_its_digits_beside_a_large_mean(rng):
    """Mean 1000, deviation 1: the difference of mean square and squared mean would have 1 digit. At most 6e-5 was seen."""
    x = (1000 + normal(rng, 16, 64)).astype(np.float32)
    double = x.astype(np.float64)
    expected = (double - double.mean(1, keepdims=True)) / np.sqrt(double.var(1, keepdims=True) + 1e-5)
    output = layer_norm(jnp.asarray(x), jnp.ones(64), jnp.zeros(64))
    np.testing.assert_allclose(output, expected, atol=3e-4)


def test_embedding_and_its_gradient_are_those_of_indexing(rng):
    table, index, cotangent = normal(rng, 5, 3), rng.integers(5, size=(4, 6)), normal(rng, 4, 6, 3)
    expected = np.zeros_like(table)
    np.add.at(expected, index, cotangent)
    with jax.enable_x64(True):
        output, pullback = jax.vjp(lambda t: embedding(jnp.asarray(index), t), jnp.asarray(table))
        (gradient,) = pullback(jnp.asarray(cotangent))
    np.testing.assert_array_equal(output, table[index])
    np.testing.assert_allclose(gradient, expected, rtol=1e-13, atol=1e-14)


def torch_transformer(torch, params, x, depth, heads, tied):
    """The peer's GPT, with our parameters as tensors: GELU in the tanh form."""
    functional = torch.nn.functional

    def linear(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    def normed(layer, x):
        return functional.layer_norm(x, x.shape[-1:], layer["scale"], layer["bias"])

    batch, time = x.shape
    h = params["embedding"]["table"][x] + params["positions"][:time]
    for index in range(depth):
        block = params[f"blocks_{index}"]
        qkv = linear(block["attention"]["qkv"], normed(block["attention_norm"], h))
        q, k, v = qkv.view(batch, time, 3, heads, -1).permute(2, 0, 3, 1, 4)
        a = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, time, -1)
        h = h + linear(block["attention"]["out"], a)
        u = functional.gelu(linear(block["hidden"], normed(block["mlp_norm"], h)), approximate="tanh")
        h = h + linear(block["out"], u)
    return normed(params["norm"], h) @ params["embedding" if tied else "head"]["table"].T


def as_tensors(torch, tree):
    return jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf, np.float64), requires_grad=True), tree)


def check_against_torch(torch, model, params, x, expected_of, rng):
    """Logits and the gradients of every parameter, in float64."""
    tensors = as_tensors(torch, params)
    expected = expected_of(tensors)
    cotangent = normal(rng, *expected.shape)
    expected.backward(torch.tensor(cotangent))
    with jax.enable_x64(True):
        output, pullback = jax.vjp(jax.jit(lambda p: model.apply({"params": p}, x)), in_float64(params))
        (gradients,) = pullback(jnp.asarray(cotangent))
    np.testing.assert_allclose(output, expected.detach(), rtol=1e-10, atol=1e-10)
    for gradient, tensor in zip(jax.tree.leaves(gradients), jax.tree.leaves(tensors), strict=True):
        np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("tied", [False, True])
def test_the_transformer_is_the_peers(torch, rng, tied):
    settings = dict(SMALL_MODELS["transformer"][0], tie_embeddings=tied)
    model, x = MODELS.get("transformer")(OUTPUTS, **settings), inputs("transformer", rng)[:, :-1]
    params = jax.jit(model.init)(jax.random.key(0), x)["params"]
    assert ("head" in params) != tied
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.3 * normal(rng, *leaf.shape), params)
    token = torch.tensor(x, dtype=torch.int64)
    check_against_torch(
        torch, model, params, x, lambda p: torch_transformer(torch, p, token, model.depth, model.heads, tied), rng
    )


@pytest.mark.parametrize("case", ["lstm", "lstm of numbers"])
def test_the_lstm_is_torchs(torch, rng, case):
    model, params, x, _, _ = problem(case, rng)

    def expected(p):
        h = p["embedding"]["table"][torch.tensor(x, dtype=torch.int64)] if "embedding" in p else torch.tensor(x).double()
        for index in range(model.depth):
            layer = p[f"layers_{index}"]
            state = torch.zeros(1, BATCH, model.width, dtype=torch.float64)
            bias, none = layer["bias"], torch.zeros(4 * model.width, dtype=torch.float64)
            weights = [layer["kernel"].T.contiguous(), layer["recurrent_kernel"].T.contiguous(), bias, none]
            h = torch._VF.lstm(h, (state, state), weights, True, 1, 0.0, True, False, True)[0]
        h = h if "embedding" in p else h[:, -1]
        return h @ p["head"]["kernel"] + p["head"]["bias"]

    check_against_torch(torch, model, params, x.astype(np.float64) if x.dtype == np.float32 else x, expected, rng)


def test_the_lstm_begins_by_remembering():
    model = MODELS.get("lstm")(OUTPUTS, width=3)
    bias = model.init(jax.random.key(0), np.zeros((1, 2), np.int32))["params"]["layers_0"]["bias"]
    np.testing.assert_array_equal(bias, [0] * 3 + [1] * 3 + [0] * 6)


def test_the_lstm_takes_pictures_row_by_row_and_tables_column_by_column(rng):
    model = MODELS.get("lstm")(OUTPUTS, width=4)
    for shape, as_sequence in (((5, 3, 2), (5, 6)), ((5,), (5, 1))):
        x = normal(rng, 2, *shape).astype(np.float32)
        params = model.init(jax.random.key(0), x)
        np.testing.assert_array_equal(model.apply(params, x), model.apply(params, x.reshape(2, *as_sequence)))


def test_patches_are_squares_of_the_picture(rng):
    from hpjax.models.vit import patches

    x = normal(rng, 2, 4, 6, 3)
    cut = np.asarray(patches(jnp.asarray(x), 2))
    assert cut.shape == (2, 6, 12)
    # The fourth patch is the first of the second row.
    np.testing.assert_array_equal(cut[1, 3], np.float32(x[1, 2:4, 0:2]).reshape(-1))


def test_the_transformers_start_is_gpt2s():
    """Deviation 0.02, of the branches' last products smaller by sqrt(2 depth); within six standard deviations."""
    model = MODELS.get("transformer")(100, depth=3)
    params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 4), np.int32))["params"]
    block = params["blocks_1"]
    small, smaller = 0.02, 0.02 / np.sqrt(6)
    leaves = [(params["embedding"]["table"], small), (params["head"]["table"], small), (params["positions"], small)]
    leaves += [(block["attention"]["qkv"]["kernel"], small), (block["hidden"]["kernel"], small)]
    leaves += [(block["attention"]["out"]["kernel"], smaller), (block["out"]["kernel"], smaller)]
    for leaf, deviation in leaves:
        assert abs(np.std(leaf) / deviation - 1) < 6 / np.sqrt(2 * leaf.size)


REFUSED = [
    ("transformer", {"heads": 3}, None, r"heads is 3; expected a divisor of width, 128"),
    ("vit", {"heads": 5}, None, r"heads is 5; expected a divisor of width"),
    ("vit", {"patch_size": 3}, (1, 8, 8, 1), r"patch_size is 3; expected a divisor of the picture's 8 x 8 pixels"),
    ("vit", {}, (1, 8), r"expected pictures"),
    ("transformer", {}, (1, 8), r"got float32\[1, 8\]; expected tokens"),
    ("transformer", {"context_length": 4}, "tokens", r"context_length is 4; expected at least the input's 5 tokens"),
]


@pytest.mark.parametrize(("name", "settings", "shape", "message"), REFUSED)
def test_bad_sizes_are_refused(name, settings, shape, message):
    def run():
        x = jnp.zeros((1, 5), jnp.int32) if shape == "tokens" else jnp.zeros(shape or (1, 8, 8, 1))
        MODELS.get(name)(OUTPUTS, **settings).init(jax.random.key(0), x)

    with pytest.raises(ConfigError, match=message):
        run()
