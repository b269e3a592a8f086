"""Models: gradients against float64 and central differences, sizes against the literature, dropout's masks."""

from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hpjax import errors
from hpjax.losses import cross_entropy
from hpjax.models import INITIALIZERS, MODELS, Dropout, StochasticDepth, Training
from hpjax.ops import Conv, Dense
from small_models import build, small

BATCH = 6
models = pytest.mark.parametrize("name", MODELS.names())
with_dropout = pytest.mark.parametrize("name", [name for name in MODELS.names() if "dropout_rate" in MODELS.traced(name)])


def problem(name: str, rng: np.random.Generator, **settings):
    """Returns the model, its float32 variables, a batch, labels and positions."""
    model, x = build(name, **settings), small(name).inputs(rng, BATCH)
    variables = jax.jit(model.init)(jax.random.key(int(rng.integers(2**32))), x)
    params, collections = variables.pop("params"), variables
    # Away from the zeros that biases and last scales start from.
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params)
    position = rng.integers(2**32, size=BATCH, dtype=np.uint32)
    return model, (params, collections), x, small(name).labels(rng, BATCH), position


def of_examples(name: str) -> dict[str, str]:
    """Settings under which an example's outputs are its own: no statistics of the batch."""
    return {"norm": "group"} if "norm" in MODELS.settings(name) else {}


def objective(model, params, collections, x, labels, rate, position, seed):
    training = Training(position, rate, 0.5 * rate)
    rngs = {"dropout": jax.random.key(seed)}
    outputs, _ = model.apply({"params": params, **collections}, x, training, rngs=rngs, mutable=list(collections))
    return cross_entropy(outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1)).mean()


def in_float64(tree):
    """Numbers in float64; tokens stay."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, leaf.dtype if leaf.dtype.kind in "iu" else np.float64), tree)


def norm(tree) -> float:
    return float(np.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in jax.tree.leaves(tree))))


@models
def test_the_float32_gradient_is_the_float64_gradient(rng, name):
    """With dropout and stochastic depth too: the masks do not depend on the dtype."""
    model, variables, x, labels, position = problem(name, rng)
    gradient = jax.jit(jax.grad(partial(objective, model)))
    for rate in (0.0, 0.4):
        rest = labels, np.float32(rate), position, np.uint32(7)
        single = gradient(*variables, x, *rest)
        with jax.enable_x64(True):
            double = gradient(*in_float64((*variables, x)), *rest)
        assert {leaf.dtype for leaf in jax.tree.leaves(double)} == {np.dtype(np.float64)}
        difference = jax.tree.map(np.subtract, in_float64(single), in_float64(double))
        print(name, rate, norm(difference) / norm(double))
        assert norm(difference) < 2e-6 * norm(double)


@models
def test_the_float64_gradient_is_the_central_difference(rng, name):
    """Along random directions; the median, because a direction may cross a kink of max pooling."""
    model, variables, x, labels, position = problem(name, rng)
    step, errors = 1e-5, []
    with jax.enable_x64(True):
        params, collections, x = in_float64((*variables, x))
        flat, restore = jax.flatten_util.ravel_pytree(params)
        rest = x, labels, np.float64(0.3), position, np.uint32(7)
        value = jax.jit(lambda p: objective(model, restore(p), collections, *rest))
        gradient = np.asarray(jax.jit(jax.grad(value))(flat))
        size = np.linalg.norm(gradient)
        for _ in range(9):
            # Half along the gradient, so that the derivative is not small beside its rounding.
            random = rng.normal(size=flat.size)
            direction = gradient / size + random / np.linalg.norm(random)
            difference = float(value(flat + step * direction) - value(flat - step * direction)) / (2 * step)
            errors.append(abs(difference / (direction @ gradient) - 1))
    print(name, np.median(errors))
    assert np.median(errors) < 1e-7


@models
def test_rate_zero_is_evaluation_bit_for_bit(rng, name):
    model, (params, rest), x, _, position = problem(name, rng, **of_examples(name))
    training = Training(position, np.float32(0), np.float32(0))
    rngs = {"dropout": jax.random.key(1)}
    trained = jax.jit(lambda p: model.apply({"params": p, **rest}, x, training, rngs=rngs))(params)
    evaluated = jax.jit(lambda p: model.apply({"params": p, **rest}, x))(params)
    np.testing.assert_array_equal(trained, evaluated)


@models
def test_an_examples_output_does_not_depend_on_its_batch(rng, name):
    """In another order and in smaller batches each example meets the same masks: outputs differ by rounding alone."""
    model, (params, rest), x, _, position = problem(name, rng, **of_examples(name))

    @jax.jit
    def outputs(x, position):
        training = Training(position, np.float32(0.5), np.float32(0.5))
        return model.apply({"params": params, **rest}, x, training, rngs={"dropout": jax.random.key(3)})

    whole = outputs(x, position)
    order = rng.permutation(BATCH)
    np.testing.assert_allclose(outputs(x[order], position[order]), whole[order], rtol=1e-5, atol=1e-5)
    single = np.concatenate([outputs(x[i : i + 1], position[i : i + 1]) for i in range(BATCH)])
    np.testing.assert_allclose(single, whole, rtol=1e-5, atol=1e-5)
    # And it does depend on the position: the masks are not all alike.
    if "dropout_rate" in MODELS.traced(name):
        moved = np.abs(outputs(x, position + np.uint32(1)) - whole).reshape(BATCH, -1)
        assert (moved.max(axis=1) > 1e-3).all()


@with_dropout
def test_the_dropout_rate_is_traced(rng, name):
    model, variables, x, labels, position = problem(name, rng)
    loss = jax.jit(partial(objective, model))
    losses = [
        float(loss(*variables, x, labels, np.float32(rate), position, np.uint32(seed)))
        for seed in range(2)
        for rate in (0.0, 0.1, 0.5, 0.9)
    ]
    assert loss._cache_size() == 1
    # Rate 0 draws nothing, so that its loss alone comes twice.
    assert len(set(losses)) == 7


@pytest.mark.parametrize("name", [name for name in MODELS.names() if "init" in MODELS.settings(name)])
def test_kernels_start_as_init_says(rng, name):
    """`orthogonal` reaches every kernel that does not start at zero, and changes nothing else."""
    x, key = small(name).inputs(rng, 1), jax.random.key(int(rng.integers(2**32)))
    default = jax.jit(build(name).init)(key, x)["params"]
    other = jax.jit(build(name, init="orthogonal").init)(key, x)["params"]
    for (path, one), (_, two) in zip(*map(jax.tree_util.tree_leaves_with_path, (default, other)), strict=True):
        assert np.array_equal(one, two) == (path[-1].key != "kernel" or not np.any(one)), path


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initialisers_have_the_deviation_of_their_name(rng, name):
    inputs, outputs = 300, 100
    kernel = np.asarray(INITIALIZERS[name](jax.random.key(int(rng.integers(2**32))), (inputs, outputs)))
    variances = {"lecun": 1 / inputs, "he": 2 / inputs, "glorot": 2 / (inputs + outputs), "orthogonal": 1 / inputs}
    # A truncated normal without rescaling: 0.8796 of the deviation it is named after.
    expected = variances.get(name.partition("_")[0], (0.02 * (0.8796 if "truncated" in name else 1)) ** 2)
    # The deviation of a variance's estimate from 30,000 values is at most sqrt(2 / 30000) of it.
    assert abs(kernel.var() / expected - 1) < 6 * np.sqrt(2 / kernel.size)
    if name == "orthogonal":
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(outputs), atol=1e-5)


def test_an_unknown_initialiser_names_the_nearest():
    with pytest.raises(errors.ConfigError, match="init 'he_norml' is unknown; did you mean 'he_normal'"):
        MODELS.get("mlp")(10, init="he_norml")


@pytest.mark.parametrize(
    ("name", "settings", "size", "parameters", "tensors"),
    [
        ("resnet", {"depth": 20}, 32, 272_474, 65),
        ("resnet", {"depth": 18}, 224, 11_689_512, 62),
        ("resnet", {"depth": 34}, 224, 21_797_672, 110),
        ("resnet", {"depth": 50}, 224, 25_557_032, 161),
        ("resnet", {"depth": 18, "stem": "cifar", "norm": "none"}, 32, None, None),
        ("wide_resnet", {"depth": 28, "widen_factor": 10}, 32, 36_479_194, None),
        ("wide_resnet", {"depth": 16, "widen_factor": 4}, 32, 2_748_890, None),
    ],
)
def test_residual_networks_have_the_published_sizes(name, settings, size, parameters, tensors):
    """torchvision's counts for ImageNet; 0.27 M with projections, 36.5 M and 2.7 M in the papers."""
    model = MODELS.get(name)(1000 if size == 224 else 10, **settings)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), np.float32))["params"]
    leaves = jax.tree.leaves(shapes)
    if settings.get("norm") == "none":
        assert all(path[-1].key in ("kernel", "bias") for path, _ in jax.tree_util.tree_leaves_with_path(shapes))
    else:
        assert sum(leaf.size for leaf in leaves) == parameters
        assert len(leaves) == (tensors or len(leaves))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet", {"depth": 21}, "depth is 21; resnet has 18, 34, 50, 101, 152 or 6n \\+ 2 layers"),
        ("resnet", {"depth": 2}, "depth is 2; resnet has"),
        ("resnet", {"channels": (4, 8)}, "channels has 2 sizes; depth 20 has 3 stages"),
        ("resnet", {"depth": 18, "channels": (4,) * 3}, "channels has 3 sizes; depth 18 has 4 stages"),
        ("wide_resnet", {"depth": 20}, "depth is 20; wide_resnet has 6n \\+ 4 layers"),
        ("resnet", {"norm": "bach"}, "norm 'bach' is unknown; did you mean 'batch'"),
    ],
)
def test_refused_residual_networks(name, settings, message):
    with pytest.raises(errors.ConfigError, match=message):
        MODELS.get(name)(10, **settings)


def torch_resnet(torch, x, params, stats):
    """Returns the logits of a CIFAR ResNet in torch, written beside the peer's, from our variables."""
    F = torch.nn.functional

    def conv(x, layer, stride):
        kernel = layer["kernel"].permute(3, 2, 0, 1).contiguous()
        return F.conv2d(x.contiguous(), kernel, None, stride, kernel.shape[2] // 2)

    def normal(x, layer):
        return F.batch_norm(x, None, None, layer["scale"], layer["bias"], training=True, eps=1e-5)

    x = F.relu(normal(conv(x.permute(0, 3, 1, 2), params["Conv_0"], 1), params["Norm_0"]))
    for number in range(3):
        block, stride = params[f"Block_{number}"], 1 if number == 0 else 2
        y = F.relu(normal(conv(x, block["Conv_0"], stride), block["Norm_0"]))
        y = normal(conv(y, block["Conv_1"], 1), block["Norm_1"])
        if "Conv_2" in block:
            x = normal(conv(x, block["Conv_2"], stride), block["Norm_2"])
        x = F.relu(x + y)
    return x.mean((2, 3)) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]


def test_resnet_is_torchs(torch, rng):
    """Outputs and the gradients of every parameter, in float64, from the same parameters; strides and paddings with them."""
    model, (params, collections), x, _, position = problem("resnet", rng, activation="relu")
    cotangent = rng.normal(size=(BATCH, 5))
    with jax.enable_x64(True):
        params, collections, x = in_float64((params, collections, x))

        @jax.jit
        def run(params, cotangent):
            def outputs(p):
                rngs = {"dropout": jax.random.key(0)}
                variables = {"params": p, **collections}
                return model.apply(variables, x, Training(position), rngs=rngs, mutable=list(collections))[0]

            ours, pullback = jax.vjp(outputs, params)
            return ours, *pullback(cotangent)

        ours, gradient = run(params, cotangent)
    tensors = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), params)
    theirs = torch_resnet(torch, torch.tensor(x), tensors, collections)
    theirs.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9, atol=1e-10)
    jax.tree.map(lambda g, t: np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-7, atol=1e-9), gradient, tensors)


@pytest.mark.parametrize(("name", "norm"), [("resnet", "batch"), ("resnet", "none"), ("wide_resnet", "batch")])
def test_blocks_begin_as_the_identity_yet_learn(rng, name, norm):
    """With `zero_init_last` stochastic depth changes nothing at first, and the zeros have a gradient."""
    x = small(name).inputs(rng, BATCH)
    position = rng.integers(2**32, size=BATCH, dtype=np.uint32)
    model = build(name, norm=norm, zero_init_last=True, activation="relu")
    variables = jax.jit(model.init)(jax.random.key(int(rng.integers(2**32))), x)
    rest = {key: value for key, value in variables.items() if key != "params"}

    @jax.jit
    def run(params, rate):
        training = Training(position, 0.0, rate)
        rngs = {"dropout": jax.random.key(1)}
        return model.apply({"params": params, **rest}, x, training, rngs=rngs, mutable=list(rest))[0]

    outputs = run(variables["params"], 0.0)
    np.testing.assert_array_equal(outputs, run(variables["params"], 0.9))
    gradient = jax.jit(jax.grad(lambda p: (run(p, 0.0) ** 2).sum()))(variables["params"])
    last = {("resnet", "batch"): ("Norm_1", "scale"), ("resnet", "none"): ("Conv_1", "kernel")}
    layer, leaf = last.get((name, norm), ("Conv_2", "kernel"))
    block = next(key for key in sorted(gradient, reverse=True) if "Block" in key)
    if leaf not in gradient[block].get(layer, {}):
        layer = "Conv_1"
    assert not np.any(variables["params"][block][layer][leaf])
    assert np.abs(gradient[block][layer][leaf]).max() > 0


def test_the_default_initial_values_are_linens(rng):
    """Those of version 0.1 of mlp and cnn: LeCun-normal from the layer's path."""
    x, key = rng.normal(size=(1, 8, 8, 1)).astype(np.float32), jax.random.key(int(rng.integers(2**32)))

    class Before(nn.Module):
        @nn.compact
        def __call__(self, x):
            for channels in (16, 32):
                x = nn.max_pool(Conv(channels)(x), (2, 2), (2, 2))
            x = Dense(64)(x.reshape(1, -1))
            return Dense(10)(x)

    jax.tree.map(np.testing.assert_array_equal, MODELS.get("cnn")(10).init(key, x), Before().init(key, x))


class TwoLayers(nn.Module):
    """The masks of two dropout layers, side by side."""

    @nn.compact
    def __call__(self, x, training):
        return jnp.stack([Dropout()(x, training), Dropout()(x, training)])


UNITS = 200


@jax.jit
def masks(seed, rate, position):
    """Returns float32 [2 layers, batch, UNITS]: what dropout multiplies by."""
    ones = jnp.ones((position.shape[0], UNITS))
    return TwoLayers().apply({}, ones, Training(position, rate), rngs={"dropout": jax.random.key(seed)})


def assert_fraction(hits: np.ndarray, expected: float) -> None:
    """The mean of independent 0/1 values, within six standard deviations: one false alarm in 5e8."""
    assert abs(hits.mean() - expected) < 6 * np.sqrt(expected * (1 - expected) / hits.size)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_the_kept_fraction_and_the_mean_are_right(rng, rate):
    start = rng.integers(2**31, dtype=np.uint32)
    mask = np.asarray(
        masks(rng.integers(2**32, dtype=np.uint32), np.float32(rate), start + np.arange(1000, dtype=np.uint32))
    )
    np.testing.assert_allclose(mask[mask != 0], 1 / (1 - rate), rtol=1e-6)
    assert_fraction(mask != 0, 1 - rate)
    # The expectation is the input's: a mean of ones, of which each unit's deviation is sqrt(rate / (1 - rate)).
    assert abs(mask.mean() - 1) < 6 * np.sqrt(rate / (1 - rate) / mask.size)
    # Of each unit and each example too, not over all of them alone.
    for axis in (1, 2):
        assert np.abs(mask.mean(axis) - 1).max() < 7 * np.sqrt(rate / (1 - rate) / mask.shape[axis]) + 0.1


def test_masks_of_layers_positions_and_seeds_are_independent(rng):
    """Two independent masks of rate r agree at r^2 + (1 - r)^2 of the units."""
    rate = 0.3
    agree = rate**2 + (1 - rate) ** 2
    position = rng.integers(2**31, dtype=np.uint32) + np.arange(500, dtype=np.uint32)
    seed = rng.integers(2**31, dtype=np.uint32)
    kept = np.asarray(masks(seed, np.float32(rate), position)) > 0
    other_seed = np.asarray(masks(seed + np.uint32(1), np.float32(rate), position)) > 0
    assert_fraction(kept[0] == kept[1], agree)
    assert_fraction(kept[:, :-1:2] == kept[:, 1::2], agree)
    assert_fraction(kept == other_seed, agree)
    # Layer, position and seed together name one mask: no two of all these are the same.
    every = np.concatenate([kept, other_seed]).reshape(-1, UNITS)
    assert len(np.unique(every, axis=0)) == len(every)


def test_the_mask_belongs_to_seed_layer_and_position(rng):
    position = rng.choice(2**32, 32, replace=False).astype(np.uint32)
    seed, rate = rng.integers(2**32, dtype=np.uint32), np.float32(0.5)
    whole = np.asarray(masks(seed, rate, position))
    order = rng.permutation(32)
    np.testing.assert_array_equal(masks(seed, rate, position[order]), whole[:, order])
    np.testing.assert_array_equal(masks(seed, rate, position[5:6]), whole[:, 5:6])
    # A higher rate drops what a lower one drops, and more: the draw is the same.
    higher = np.asarray(masks(seed, np.float32(0.8), position))
    assert not ((whole == 0) & (higher != 0)).any()


def test_lanes_draw_their_own_masks(rng):
    """Under vmap, with rates of which one is zero, each lane's masks are those it has alone."""
    position = np.arange(8, dtype=np.uint32)
    seeds, rates = rng.integers(2**32, size=3, dtype=np.uint32), np.float32([0.0, 0.3, 0.7])
    together = jax.vmap(masks, (0, 0, None))(seeds, rates, position)
    for lane in range(3):
        np.testing.assert_array_equal(together[lane], masks(seeds[lane], rates[lane], position))


class Survivors(nn.Module):
    @nn.compact
    def __call__(self, x, training):
        return jnp.stack([StochasticDepth(share)(x, training) for share in (0.25, 0.5, 1.0)])


def test_stochastic_depth_leaves_out_whole_examples_at_its_share_of_the_rate(rng):
    count, rate = 2000, 0.6
    position = (rng.integers(2**31) + np.arange(count)).astype(np.uint32)
    key = jax.random.key(int(rng.integers(2**32)))

    @jax.jit
    def survivors(position, rate):
        ones = jnp.ones((position.shape[0], 2, 3))
        return Survivors().apply({}, ones, Training(position, 0.0, rate), rngs={"dropout": key})

    result = np.asarray(survivors(position, np.float32(rate)))
    assert (result == result[:, :, :1, :1]).all()
    for layer, share in zip(result[:, :, 0, 0], (0.25, 0.5, 1.0), strict=True):
        dropped = share * rate
        np.testing.assert_allclose(layer[layer != 0], 1 / (1 - dropped), rtol=1e-6)
        assert_fraction(layer == 0, dropped)
    # The example's own, whatever its batch; layers draw on their own; rate 0 changes nothing.
    np.testing.assert_array_equal(survivors(position[7:9], np.float32(rate)), result[:, 7:9])
    first, last = (result[i, :, 0, 0] == 0 for i in (1, 2))
    assert_fraction(first & last, 0.3 * 0.6)
    np.testing.assert_array_equal(survivors(position, np.float32(0)), 1.0)


def test_cnn_refuses_more_pooling_than_picture():
    model = MODELS.get("cnn")(10, channels=(1,) * 4)
    with pytest.raises(errors.ConfigError, match="channels has 4 sizes; pooling leaves no picture"):
        model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
