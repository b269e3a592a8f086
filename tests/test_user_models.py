"""A person's own modules as models: Linen classes and functions, NNX classes, and what is refused."""

import sys

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from hpjax.errors import ConfigError
from hpjax.models import MODELS, Training, routing
from hpjax.ops import conv

BATCH = 6
OUTPUTS = 5


class Net(nn.Module):
    """Every plain layer that is routed, and one that is not."""

    num_classes: int
    width: int = 8
    rate: float = 0.5

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(self.width, (3, 3), 2, padding=1, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.Conv(4, (3, 3), kernel_dilation=2)(x).reshape(x.shape[0], -1)
        x = nn.Dropout(self.rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


class Bare(nn.Module):
    """Nobody says when it trains."""

    features: int

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm()(nn.Conv(4, (3, 3))(x))
        return nn.Dense(self.features)(nn.Dropout(0.5)(x.reshape(x.shape[0], -1)))


def linen_function(number, *, width: int = 8) -> nn.Module:
    return Net(number, width)


class NnxNet(nnx.Module):
    def __init__(self, in_channels: int, num_classes: int, width: int = 4, *, rngs: nnx.Rngs):
        self.conv = nnx.Conv(in_channels, width, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.dense(self.dropout(x.mean(axis=(1, 2))))


class OurTraining(nn.Module):
    """Takes our `Training` itself."""

    outputs: int

    @nn.compact
    def __call__(self, x, training: Training | None = None):
        return nn.Dense(self.outputs)(x.reshape(x.shape[0], -1)) * (1.0 if training is None else training.dropout_rate)


class NoOutputs(nn.Module):
    width: int = 3

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width)(x)


class Needs(nn.Module):
    outputs: int
    depths_of_all: tuple

    @nn.compact
    def __call__(self, x):
        return x


@pytest.fixture(autouse=True)
def module(monkeypatch):
    """These definitions as a module of their own, forgotten by the registry afterwards."""
    monkeypatch.setitem(sys.modules, "nets_of_a_person", sys.modules[__name__])
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))
    monkeypatch.setattr(MODELS, "_imported", {})


def get(name: str):
    return MODELS.get(f"nets_of_a_person:{name}")


def start(model, rng, **options):
    x = rng.normal(size=(BATCH, 8, 8, 3)).astype(np.float32)
    key = jax.random.key(int(rng.integers(2**32)))
    return x, rng.integers(2**32, size=BATCH, dtype=np.uint32), jax.jit(model.init)(key, x[:1])


def train(model, variables, x, position, axis=None):
    training = Training(position, 0.25, data_axis=axis)
    return model.apply(variables, x, training, rngs={"dropout": jax.random.key(3)}, mutable=["batch_stats"])


def test_a_linen_class_keeps_its_variables_and_its_outputs(rng):
    model, plain = get("Net")(OUTPUTS, rate=0.0), Net(OUTPUTS, rate=0.0)
    x, position, variables = start(model, rng)
    key = jax.random.key(4)
    ours, theirs = model.init(key, x), plain.init(key, x, train=False)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    np.testing.assert_allclose(
        jax.jit(model.apply)(variables, x), plain.apply(variables, x, train=False), rtol=1e-4, atol=1e-5
    )
    outputs, changed = jax.jit(lambda v: train(model, v, x, position))(variables)
    expected, expected_changed = plain.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), changed, expected_changed)


def test_plain_layers_are_routed_and_others_are_not(rng):
    model = get("Net")(OUTPUTS)
    x, _, variables = start(model, rng)
    program = str(jax.make_jaxpr(model.apply)(variables, x))
    plain = str(jax.make_jaxpr(lambda v, x: Net(OUTPUTS).apply(v, x, train=False))(variables, x))
    ours = str(jax.make_jaxpr(conv)(x, variables["params"]["Conv_0"]["kernel"]))
    counts = [text.count("conv_general_dilated[") for text in (program, plain, ours)]
    # The dilated convolution stays Flax's; elsewhere than on a CPU ours is the same operator.
    assert counts == [1 + counts[2], 2, int(jax.default_backend() != "cpu")]


@pytest.mark.parametrize("padding", ["SAME", "VALID", 2, [(1, 0)]])
def test_convolutions_in_one_dimension_are_routed(rng, padding):
    x, layer = rng.normal(size=(2, 9, 3)).astype(np.float32), nn.Conv(4, (3,), 2, padding)
    variables = layer.init(jax.random.key(0), x)
    expected = layer.apply(variables, x)
    with routing.linen(None):
        program = str(jax.make_jaxpr(layer.apply)(variables, x))
        assert "conv_general_dilated[" not in program or jax.default_backend() != "cpu"
        np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-5, atol=1e-5)
    module = nnx.Conv(3, 4, (3,), 2, padding=padding, rngs=nnx.Rngs(0))
    expected = module(x)
    ours = routing.nnx_module(module, None)
    assert ours.conv_general_dilated is not jax.lax.conv_general_dilated
    np.testing.assert_allclose(ours(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["Net", "Bare", "NnxNet"])
def test_masks_belong_to_the_example_and_statistics_to_the_batch(rng, name):
    """Two shards give what one device gives; nothing is written at evaluation."""
    model = get(name)(OUTPUTS)
    x, position, variables = start(model, rng)
    assert set(variables) == {"params", "batch_stats"}
    whole, changed = jax.jit(lambda v: train(model, v, x, position))(variables)
    halves = [a.reshape(2, BATCH // 2, *a.shape[1:]) for a in (x, position)]
    split = jax.jit(jax.vmap(lambda x, p: train(model, variables, x, p, "data"), axis_name="data"))(*halves)
    np.testing.assert_allclose(split[0].reshape(whole.shape), whole, rtol=1e-3, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-3, atol=1e-5), split[1], changed)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), changed["batch_stats"], variables["batch_stats"])
    assert min(jax.tree.leaves(moved)) > 0
    # The masks do go by the position; without training there are none.
    assert np.abs(train(model, variables, x, position + np.uint32(1))[0] - whole).max() > 1e-3
    one, two = (jax.jit(model.apply)(variables, x, rngs={"dropout": jax.random.key(k)}) for k in (1, 2))
    np.testing.assert_array_equal(one, two)
    _, written = model.apply(variables, x, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, written["batch_stats"], variables["batch_stats"])


def test_an_nnx_class_is_the_module_itself(rng):
    """Same parameters by path, same outputs as the NNX module with those parameters."""
    model = get("NnxNet")(OUTPUTS, width=7)
    x, _, variables = start(model, rng)
    assert set(variables["params"]) == {"conv", "norm", "dense"}
    plain = NnxNet(3, OUTPUTS, 7, rngs=nnx.Rngs(0))
    nnx.update(plain, {**variables["params"], "norm": {**variables["params"]["norm"], **variables["batch_stats"]["norm"]}})
    plain.eval()
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), plain(x), rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda p: train(model, {**variables, "params": p}, x, np.arange(BATCH, dtype=np.uint32))[0].sum())
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient(variables["params"])["dense"]))
    assert "conv_general_dilated[" not in str(jax.make_jaxpr(model.apply)(variables, x)) or jax.default_backend() != "cpu"


class Still(nnx.Module):
    """Draws nothing, and takes no streams."""

    def __init__(self, num_classes: int):
        self.kernel = nnx.Param(jax.numpy.ones((3, num_classes)))

    def __call__(self, x):
        return x.mean(axis=(1, 2)) @ self.kernel[...]


def test_an_nnx_class_that_draws_nothing_needs_no_streams(rng):
    model = get("Still")(OUTPUTS)
    x, position, variables = start(model, rng)
    assert variables["params"]["kernel"].shape == (3, OUTPUTS)
    np.testing.assert_allclose(
        train(model, variables, x, position)[0], np.repeat(x.mean((1, 2)).sum(1), OUTPUTS).reshape(-1, OUTPUTS), rtol=1e-5
    )


def test_settings_come_from_the_signature(rng):
    for name in ("Net", "linen_function", "NnxNet"):
        get(name)
        settings = MODELS.settings(f"nets_of_a_person:{name}")
        assert settings["width"] == (4 if name == "NnxNet" else 8)
        assert not {"num_classes", "in_channels", "rngs", "parent", "name"} & set(settings)
    model = get("linen_function")(OUTPUTS, width=3)
    assert start(model, rng)[2]["params"]["Conv_0"]["kernel"].shape == (3, 3, 3, 3)


def test_our_training_is_passed_on(rng):
    model = get("OurTraining")(OUTPUTS)
    x, position, variables = start(model, rng)
    np.testing.assert_allclose(train(model, variables, x, position)[0], 0.25 * model.apply(variables, x), rtol=1e-6)
    # A rate that a model is not asked to know is a number of the same kind.
    assert Training(position).dropout_rate.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoOutputs", "takes width; expected one of outputs, num_classes, num_outputs, features, out_features, dout"),
        ("Needs", "takes 'depths_of_all', which is no flag of the model; expected a default"),
        ("Nett", "has no 'Nett'; did you mean 'Net'?"),
    ],
)
def test_refused_modules(name, message):
    with pytest.raises(ConfigError) as error:
        get(name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
