"""Moments kept in bfloat16: how they are rounded, natively and composed, and that nothing else about a trial changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hpjax
import whole_runs as runs
from hpjax import optimizers
from hpjax.ops import native, rounding
from hpjax.optimizers import OPTIMIZERS, fused, transformation

NARROW = {"moment_dtype": "bfloat16"}
FITTING = tuple(name for name in OPTIMIZERS.names() if "moment_dtype" in OPTIMIZERS.static(name))
SHAPES = {"a": (37,), "b": (5, 7), "c": (1,), "d": (40, 103), "e": (1025,), "f": (2, 3, 5, 3)}
BFLOAT16 = (np.arange(2**16, dtype=np.uint32) << 16).view(np.float32)
"""Every number that bfloat16 holds."""

needs_native = pytest.mark.skipif(native.missing() is not None, reason=f"the native kernels are {native.missing()}")


def key_of(seed):
    return jax.random.key(seed, impl="threefry2x32")


def rounded(x, seed, draw=0):
    random = rounding.bits(rounding.keys(key_of(seed), 1)[0], x.size)
    return np.asarray(rounding.stochastic(jnp.asarray(x), random, draw), np.float32)


def normal(rng):
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def values_of(name):
    own = {s: np.float32(v) for s, v in OPTIMIZERS.settings(name).items() if s in OPTIMIZERS.traced(name)}
    return {s: value for s, value in own.items() if not OPTIMIZERS.is_common(name, s)}


def same(a, b):
    """Bit for bit, also of what is no number."""
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def buffers(state):
    return [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.bfloat16]


@pytest.mark.parametrize("draw", [0, 1])
def test_what_bfloat16_holds_is_not_changed(rng, draw):
    given = rng.permutation(BFLOAT16)
    found = rounded(given, int(rng.integers(2**31)), draw)
    nan = np.isnan(given)
    np.testing.assert_array_equal(found[~nan].view(np.uint32), given[~nan].view(np.uint32))
    assert np.isnan(found[nan]).all()


def test_what_is_no_number_stays_none(rng):
    payloads = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000], np.uint32)
    found = rounded(np.repeat(payloads, 100).view(np.float32), int(rng.integers(2**31)))
    assert np.isnan(found).all()
    np.testing.assert_array_equal(np.signbit(found), np.repeat(payloads >> 31 == 1, 100))


@pytest.mark.parametrize("draw", [0, 1])
def test_the_mean_of_many_draws_is_the_number(rng, draw):
    """To five standard errors: over keys for each number, and over the elements of one tensor."""
    x = np.concatenate([rng.normal(size=50), 10.0 ** rng.uniform(-37, 37, 50), -(10.0 ** rng.uniform(-12, 2, 28))])
    x = x.astype(np.float32)
    below = (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
    gap = (((x.view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32)).astype(np.float64) - below
    share = (x.astype(np.float64) - below) / gap
    times = 20_000
    keys = rounding.keys(key_of(int(rng.integers(2**31))), times)
    found = jax.jit(jax.vmap(lambda key: rounding.stochastic(x, rounding.bits(key, x.size), draw)))(keys)
    up = (np.asarray(found, np.float64) - below) / gap
    assert set(np.unique(up)) <= {0.0, 1.0}
    error = (up.mean(axis=0) - share) / np.sqrt(share * (1 - share) / times + 1e-12)
    assert np.abs(error).max() < 5
    assert abs(error.mean()) < 5 / np.sqrt(x.size)
    one = np.float32(1 + 2**-10)
    many = rounded(np.full(2**20, one), int(rng.integers(2**31)), draw).astype(np.float64)
    assert abs(many.mean() - one) < 5 * 2**-7 * np.sqrt(1 / 8 * 7 / 8 / 2**20)


def test_bits_are_uniform_and_not_correlated(rng):
    """Each bit, between neighbours, the two draws, steps and tensors."""
    size = 2**18
    keys = rounding.keys(key_of(int(rng.integers(2**31))), 2)
    other = rounding.keys(key_of(int(rng.integers(2**31))), 1)[0]
    first, second, third = (np.asarray(rounding.bits(key, size)) for key in (*keys, other))
    assert len(np.unique(first)) == size
    for bit in range(32):
        of = [(bits >> bit & 1).astype(np.float64) - 0.5 for bits in (first, second, third)]
        pairs = [(of[0], of[1]), (of[0], of[2]), (of[0], np.roll(of[0], 1)), (of[0], np.roll(of[0], 64))]
        pairs.append((of[0], (first >> ((bit + 16) % 32) & 1) - 0.5))
        assert abs(of[0].mean()) < 2.5 / np.sqrt(size) * 2
        for a, b in pairs:
            assert abs((a * b).mean()) < 0.25 * 5.5 / np.sqrt(size)


@needs_native
@pytest.mark.parametrize("name", FITTING)
def test_the_native_step_is_the_composed_one(rng, name):
    """The same random bits: buffers differ only where the number before the rounding does."""
    from hpjax import _kernels  # type: ignore[attr-defined]

    params, gradients, values, key = normal(rng), normal(rng), values_of(name), key_of(int(rng.integers(2**31)))
    made = transformation(name, np.float32(0.1), values, NARROW, None, key)
    state = made.init(params)
    updates, after = jax.jit(made.update)(gradients, state, params)
    for instructions in _kernels.available():
        _kernels.choose(instructions)
        with native.scope(True):
            assert fused.available(name, NARROW, [jnp.asarray(leaf) for leaf in params.values()])
            step = jax.jit(lambda *args: fused.step(name, np.float32(0.1), values, None, jnp.float32(1.0), *args, key))
            found = step(gradients, state, params)
        assert jax.tree.structure(found.state) == jax.tree.structure(after)
        ours, theirs = (np.concatenate([np.ravel(leaf) for leaf in buffers(tree)]) for tree in (found.state, after))
        assert (ours != theirs).mean() < 1e-3
        np.testing.assert_allclose(ours.astype(np.float32), theirs.astype(np.float32), rtol=2**-7, atol=1e-12)
        for leaf, update, new in zip(*map(jax.tree.leaves, (params, updates, found.params)), strict=True):
            np.testing.assert_allclose(new, leaf + update, rtol=1e-5, atol=1e-6)
    _kernels.choose(_kernels.available()[0])


@needs_native
@pytest.mark.parametrize("name", FITTING)
def test_lanes_and_threads_change_no_bit(rng, name):
    shapes = {**SHAPES, "g": (600, 500)}
    lanes = [{key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()} for _ in range(2)]
    lanes[1]["b"][1, 2] = np.nan
    values = values_of(name)
    state = transformation(name, 0.1, values, NARROW).init(lanes[0])

    def one(seed, gradients):
        key = jax.random.key(seed, impl="threefry2x32")
        return fused.step(name, np.float32(0.1), values, None, jnp.float32(1.0), gradients, state, lanes[0], key)

    with native.scope(True):
        together = jax.jit(jax.vmap(one))(np.array([3, 4]), jax.tree.map(lambda *leaves: np.stack(leaves), *lanes))
    for lane, gradients in enumerate(lanes):
        for threads in (1, 2):
            with native.scope(True, threads):
                # Another function each time, or it is not traced again.
                alone = jax.jit(functools.partial(one))(np.array(3 + lane), gradients)
            jax.tree.map(lambda a, b, lane=lane: same(a[lane], b), together, alone)
    wrong = sum(int(np.isnan(leaf.astype(np.float32)).sum()) for leaf in buffers(alone.state))
    assert wrong == len(buffers(state)) // len(shapes) * (35 if name == "lars" else 1)


@pytest.mark.parametrize("name", FITTING)
def test_buffers_take_half_the_memory(rng, name):
    params = normal(rng)
    wide, narrow = (
        transformation(name, 0.1, values_of(name), {"moment_dtype": d}).init(params) for d in ("float32", "bfloat16")
    )
    size = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if leaf.ndim)  # noqa: E731
    assert size(wide) == 2 * size(narrow) > 0
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow) if leaf.ndim} == {jnp.dtype(jnp.bfloat16)}


def test_a_step_needs_a_key(rng):
    params = normal(rng)
    made = transformation("momentum", 0.1, values_of("momentum"), NARROW)
    with pytest.raises(ValueError, match="needs a key"):
        made.update(params, made.init(params), params)


def test_of_ones_own_loop(rng):
    params = normal(rng)
    made = optimizers.create("adamw", 0.1, moment_dtype="bfloat16")
    state = made.init(params)
    _, once = made.update(params, state, params)
    _, again = made.update(params, state._replace(step=jnp.int32(1)), params)
    assert len(buffers(once)) == 2 * len(params)
    assert any((a != b).any() for a, b in zip(buffers(once), buffers(again), strict=True))


@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_run_that_was_killed_ends_alike(tmp_path, mode):
    if mode == "on" and native.missing() is not None:
        pytest.skip(f"the native kernels are {native.missing()}")
    settings = {"optimizer": "adamw", "learning_rate": 0.01, "moment_dtype": "bfloat16", "native": mode}
    whole = hpjax.run(runs.config(tmp_path / "whole", **settings))
    with runs.killed_before(20):
        hpjax.run(runs.config(tmp_path / "killed", **settings))
    resumed = hpjax.run(runs.config(tmp_path / "killed", **settings))
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    losses = lambda run: [[value for name, value in p.items() if name.endswith("loss")] for p in run.history]  # noqa: E731
    assert losses(resumed) == losses(whole)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 3e-3), ("momentum", 0.1), ("lamb", 0.02)])
def test_digits_are_learned_as_well(tmp_path, optimizer, rate):
    """Over eight seeds, to four standard errors of the difference."""

    def accuracies(dtype):
        settings = {"optimizer": optimizer, "learning_rate": rate, "train_steps": "20epochs", "moment_dtype": dtype}
        vary = {"seed": "range(8)"}
        base = hpjax.Config(**settings, schedule="cosine", hidden_sizes=(64,), progress=False, eval_every="20epochs")
        done = hpjax.run_sweep(base, vary, trials=8, sampler="grid", study=str(tmp_path / f"{optimizer}_{dtype}"))
        return np.array(done.columns()["val/accuracy"]), done.columns()["train/loss"]

    (wide, losses), (narrow, others) = accuracies("float32"), accuracies("bfloat16")
    assert losses != others
    assert abs(wide.mean() - narrow.mean()) < 4 * np.sqrt((wide.var() + narrow.var()) / 7) + 2e-3
    assert narrow.mean() > 0.93
