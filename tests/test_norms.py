"""Normalisation layers: against torch in float64, over shards, running averages, what freezing leaves alone."""

import jax
import numpy as np
import pytest

from hpjax.errors import ConfigError
from hpjax.models import MODELS, Norm, Training
from hpjax.models.norm import KINDS
from hpjax.ops import native
from small_models import build, small

BATCH, CHANNELS = 8, 6
POSITION = np.arange(BATCH, dtype=np.uint32)
implementations = pytest.mark.parametrize(
    "on",
    [
        False,
        pytest.param(True, marks=pytest.mark.skipif(native.missing() is not None, reason="there are no native kernels")),
    ],
    ids=["XLA", "native"],
)
learned = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])


def problem(rng: np.random.Generator, offset: float = 1.0):
    """Returns x far from mean 0 and deviation 1, and variables of a layer that are nowhere 0 or 1."""
    x = offset + 3 * rng.normal(size=(BATCH, 3, 5, CHANNELS))
    draw = lambda: rng.uniform(0.5, 2, CHANNELS)  # noqa: E731
    params, stats = {"scale": draw(), "bias": draw()}, {"mean": draw(), "var": draw()}
    return x, params, stats


def expected(torch, kind: str, groups: int, momentum: float, x, params, stats):
    """Returns torch's outputs, x and parameters as tensors with gradients, and its running averages."""
    F = torch.nn.functional
    x = torch.tensor(x, requires_grad=True)
    scale, bias = (torch.tensor(params[name], requires_grad=True) for name in ("scale", "bias"))
    mean, var = (torch.tensor(stats[name]) for name in ("mean", "var"))
    image = x.permute(0, 3, 1, 2)
    if kind in ("batch", "frozen_batch"):
        y = F.batch_norm(image, mean, var, scale, bias, kind == "batch", 1 - momentum, 1e-3).permute(0, 2, 3, 1)
    elif kind == "group":
        y = F.group_norm(image, groups, scale, bias, 1e-3).permute(0, 2, 3, 1)
    else:
        y = F.layer_norm(x, (CHANNELS,), scale, bias, 1e-3)
    return y, (x, scale, bias), {"mean": mean.numpy(), "var": var.numpy()}


@learned
@implementations
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_are_torchs(torch, rng, kind, dtype, on):
    """Values, all gradients and running averages; in float32 too, within what its digits allow."""
    x, params, stats = problem(rng)
    groups, momentum = int(rng.choice([1, 2, 3, 6])), float(rng.uniform(0.1, 0.95))
    y, tensors, averages = expected(torch, kind, groups, momentum, x, params, stats)
    cotangent = rng.normal(size=x.shape)
    y.backward(torch.tensor(cotangent))
    layer = Norm(kind, momentum, 1e-3, groups)
    with jax.enable_x64(dtype is np.float64), native.scope(on):
        x, params, cotangent, stats = jax.tree.map(lambda leaf: leaf.astype(dtype), (x, params, cotangent, stats))

        def apply(x, params):
            return layer.apply({"params": params, "batch_stats": stats}, x, Training(POSITION), mutable=["batch_stats"])

        with jax.numpy_dtype_promotion("strict"):
            ours, pullback, changed = jax.vjp(apply, x, params, has_aux=True)
            to_x, to_params = pullback(cotangent)
        assert ours.dtype == dtype
        # Measured in four runs: 7e-7 and 9e-16 at most.
        tolerance = 5e-6 if dtype is np.float32 else 1e-13
        got = (ours, to_x, to_params["scale"], to_params["bias"])
        want = (y.detach().numpy(), *(tensor.grad.numpy() for tensor in tensors))
        for one, other in zip(got, want, strict=True):
            assert np.abs(one - other).max() < tolerance * np.abs(other).max()
        if kind in ("batch", "frozen_batch"):
            after = changed["batch_stats"]
            assert np.abs(after["mean"] - averages["mean"]).max() < tolerance
            if kind == "batch":
                # torch keeps the variance divided by n - 1, we the one divided by n.
                count = x.size / CHANNELS
                kept = momentum * stats["var"]
                averages["var"] = kept + (averages["var"] - kept) * (count - 1) / count
            assert np.abs(after["var"] - averages["var"]).max() < 10 * tolerance


@implementations
@pytest.mark.parametrize("shards", [2, 4])
def test_batch_statistics_are_those_of_all_shards(rng, shards, on):
    """Outputs, averages and the gradient that a trial takes (mean over shards) equal those of one device."""
    x, params, stats = problem(rng)
    x, params, stats = jax.tree.map(np.float32, (x, params, stats))
    weight = rng.normal(size=x.shape).astype(np.float32)
    layer = Norm("batch")

    def run(params, x, weight, position, axis):
        def loss(params, x):
            variables = {"params": params, "batch_stats": stats}
            y, changed = layer.apply(variables, x, Training(position, data_axis=axis), mutable=["batch_stats"])
            return (weight * y**2).mean(), (y, changed)

        with native.scope(on):
            (to_params, to_x), aux = jax.grad(loss, (0, 1), has_aux=True)(params, x)
        return (to_params if axis is None else jax.lax.pmean(to_params, axis)), to_x, *aux

    whole = jax.jit(lambda *a: run(*a, None))(params, x, weight, POSITION)
    mesh = jax.make_mesh((shards,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:shards])
    spec, same = jax.sharding.PartitionSpec("data"), jax.sharding.PartitionSpec()
    split = jax.jit(
        jax.shard_map(
            lambda *a: run(*a, "data"),
            mesh=mesh,
            in_specs=(same, spec, spec, spec),
            out_specs=(same, spec, spec, same),
            check_vma=False,
        )
    )(params, x, weight, POSITION)
    # Each shard's mean loss has 1 / shards of the weight in the whole's.
    split = (split[0], split[1] / shards, *split[2:])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), split, whole)


def test_a_large_mean_costs_the_variance_no_digits(rng):
    """Mean 3,000 deviations away: E[x^2] - E[x]^2 in float32 would be wrong by tens of percent."""
    x, params, stats = jax.tree.map(np.float32, problem(rng, offset=1e4))
    _, changed = Norm("batch", momentum=0.0).apply(
        {"params": params, "batch_stats": stats}, x, Training(POSITION), mutable=["batch_stats"]
    )
    np.testing.assert_allclose(changed["batch_stats"]["var"], x.astype(np.float64).var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("kind", ["batch", "frozen_batch"])
def test_evaluation_uses_the_averages_and_writes_nothing(rng, kind):
    x, params, stats = jax.tree.map(np.float32, problem(rng))
    variables = {"params": params, "batch_stats": stats}
    y, changed = Norm(kind).apply(variables, x, mutable=["batch_stats"])
    wanted = (x - stats["mean"].reshape(1, 1, 1, -1)) / np.sqrt(stats["var"].reshape(1, 1, 1, -1) + 1e-5)
    wanted = wanted * params["scale"].reshape(1, 1, 1, -1) + params["bias"].reshape(1, 1, 1, -1)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], stats)
    # While training but not mutable, as where someone looks inside: nothing is written, nothing fails.
    Norm(kind).apply(variables, x, Training(POSITION))


def test_tables_and_groups_that_do_not_divide(rng):
    x = rng.normal(size=(BATCH, 10)).astype(np.float32)
    layer = Norm("group", groups=4)
    y, variables = layer.init_with_output(jax.random.key(0), x)
    # Two groups of five: the most that divide ten channels, at most four.
    halves = x.reshape(BATCH, 2, 5)
    wanted = (halves - halves.mean(2, keepdims=True)) / np.sqrt(halves.var(2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, wanted.reshape(x.shape), rtol=1e-4, atol=1e-5)
    assert set(variables) == {"params"}


def test_more_groups_than_channels_are_one_for_each():
    x = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    few, many = (Norm("group", groups=groups) for groups in (4, 2**31 - 1))
    np.testing.assert_array_equal(*(norm.init_with_output(jax.random.key(0), x)[0] for norm in (few, many)))


def test_none_is_the_input():
    x = np.ones((2, 3), np.float32)
    y, variables = Norm("none").init_with_output(jax.random.key(0), x)
    assert y is x
    assert not variables


@pytest.mark.parametrize("name", [name for name in MODELS.names() if "norm" in MODELS.settings(name)])
def test_a_checkpoint_of_batch_norm_fits_frozen_batch_norm(rng, name):
    """Same variables in the same places; training moves the averages of the one and not of the other."""
    x, key = small(name).inputs(rng, BATCH), jax.random.key(int(rng.integers(2**32)))
    batch, frozen = build(name, norm="batch"), build(name, norm="frozen_batch")
    variables = jax.jit(batch.init)(key, x)
    jax.tree.map(np.testing.assert_array_equal, variables, jax.jit(frozen.init)(key, x))

    def averages(model):
        rngs = {"dropout": key}
        apply = jax.jit(lambda v: model.apply(v, x, Training(POSITION), rngs=rngs, mutable=["batch_stats"])[1])
        return jax.tree.leaves(apply(variables)["batch_stats"])

    before = jax.tree.leaves(variables["batch_stats"])
    assert all(np.array_equal(one, other) for one, other in zip(averages(frozen), before, strict=True))
    assert not any(np.array_equal(one, other) for one, other in zip(averages(batch), before, strict=True))


def test_an_unknown_norm_names_the_nearest():
    with pytest.raises(ConfigError, match="norm 'grup' is unknown; did you mean 'group'"):
        Norm("grup").init(jax.random.key(0), np.ones((1, 2), np.float32))
