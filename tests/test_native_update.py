"""The kernel of the optimizers' step against their Optax form in float64, for every instruction set of this processor."""

import os
import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpjax.ops import native, native_update
from hpjax.optimizers import OPTIMIZERS, Rules, fused, transformation

if native.missing() is not None and not os.environ.get("HPJAX_REQUIRE_NATIVE"):
    pytest.skip(f"the native kernels are {native.missing()}", allow_module_level=True)

from hpjax import _kernels  # type: ignore[attr-defined]

pytestmark = pytest.mark.usefixtures("poisoned")
SHAPES = {"a": (37,), "b": (5, 7), "c": (16, 16), "d": (1,), "e": (2, 3, 5, 3), "f": (40, 103), "g": (1025,)}
RULES = {"decay_rules": ("[abc]=2", "d=0", ".*=1"), "learning_rate_rules": ("c=0.5", ".*=1")}
AROUND = {
    "plain": {},
    "by value": {"clip_value": 0.5, "weight_decay": 0.1},
    "by layer": {"clip_layer_norm": 1.5, "clip_value": np.inf},
    "by norm": {"clip_norm": 3.0, "clip_layer_norm": 20.0, "weight_decay": 0.01},
    "not at all": {"clip_norm": np.inf, "clip_layer_norm": np.inf, "clip_value": np.inf, "l1": 0.0, "l2": 0.0},
    "regularised": {"l1": 0.02, "l2": 0.3, "weight_decay": 0.1},
}
BOUND = 3e-7
"""Relative, L2 over all tensors."""


@pytest.fixture(params=_kernels.available())
def instructions(request) -> Iterator[str]:
    assert _kernels.choose(request.param)
    with native.scope(True):
        yield request.param
    _kernels.choose(_kernels.available()[0])


def normal(rng, scale=1.0):
    return {name: scale * rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def settings_of(name, around):
    """Returns an optimizer's values away from their defaults; what is decoupled elsewhere is its own where it has it."""
    own = {s: np.float32(OPTIMIZERS.settings(name)[s]) for s in OPTIMIZERS.traced(name) if not OPTIMIZERS.is_common(name, s)}
    own |= {s: np.float32(value) for s, value in {"weight_decay": 0.2, "epsilon": 1e-3, "beta1": 0.8}.items() if s in own}
    return own | {s: np.float32(value) for s, value in around.items() if s in OPTIMIZERS.traced(name)}


def begun(rng, state):
    """Returns a state that is well under way: where squares are near 0 a step has no digits in float32."""
    return jax.tree.map(
        lambda leaf: jnp.int32(3) if leaf.dtype == jnp.int32 else rng.uniform(0.01, 1.0, leaf.shape).astype(np.float32),
        state,
    )


def expected(name, rate, values, rules, share, gradients, state, params):
    """Returns parameters, state and norms by Optax in float64."""
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(  # noqa: E731
            lambda leaf: leaf if np.asarray(leaf).dtype == np.int32 else np.asarray(leaf, np.float64), tree
        )
        means = jax.tree.map(lambda g: wide(g) * float(share), gradients)
        made = transformation(name, np.float64(rate), wide(values), {}, rules)
        updates, after = made.update(means, wide(state), wide(params))
        new = jax.tree.map(np.add, wide(params), updates)
        norms = [np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in tree.values())) for tree in (means, new, updates)]
        return jax.device_get((new, after, norms))


def distance(found, right):
    found, right = (
        np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)]) for tree in (found, right)
    )
    return np.linalg.norm(found - right) / np.linalg.norm(right)


def check(rng, name, around, rules_given):
    params, gradients = normal(rng), normal(rng, 3.0)
    rules = Rules.create(params, **rules_given)
    values = settings_of(name, around)
    rate, share = np.float32(0.1), np.float32(1 / 3)
    state = begun(rng, transformation(name, rate, values, {}, rules).init(params))
    step = jax.jit(lambda *args: fused.step(name, rate, values, rules, share, *args))
    assert fused.available(name, {}, [jnp.asarray(leaf) for leaf in params.values()])
    found = step(gradients, state, params)
    new, after, norms = expected(name, rate, values, rules, share, gradients, state, params)
    assert jax.tree.structure(found.state) == jax.tree.structure(after)
    assert distance(found.params, new) < BOUND
    if jax.tree.leaves(after):
        assert distance(found.state, after) < BOUND
    steps = jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, found.params, params)
    # The difference of the weights has their rounding in it.
    right = jax.tree.map(lambda a, b: a - np.asarray(b, np.float64), new, params)
    assert distance(steps, right) < BOUND * (1 + norms[1] / norms[2])
    np.testing.assert_allclose(found.norms, norms, rtol=5e-7)
    return found


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("name", fused.RULES)
def test_a_step_is_optaxs_in_float64(instructions, rng, name, around):
    check(rng, name, around, {})
    check(rng, name, around, RULES)


@pytest.mark.parametrize("name", fused.RULES)
def test_frozen_parameters_stay_and_count(instructions, rng, name):
    check(rng, name, {"clip_norm": 1.0}, {})
    params, gradients = normal(rng), normal(rng)
    gradients["b"] = np.zeros_like(params["b"])
    rules = Rules.create(params, freeze=("b",))
    values = settings_of(name, {"weight_decay": 0.1})
    state = begun(rng, transformation(name, 0.1, values, {}, rules).init(params))
    found = fused.step(name, np.float32(0.1), values, rules, jnp.float32(1.0), gradients, state, params)
    new, after, norms = expected(name, np.float32(0.1), values, rules, 1.0, gradients, state, params)
    np.testing.assert_array_equal(found.params["b"], params["b"])
    assert distance(found.params, new) < BOUND
    assert jax.tree.structure(found.state) == jax.tree.structure(after)
    np.testing.assert_allclose(found.norms, norms, rtol=5e-7)


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_a_layer_of_zeros_takes_the_plain_step(instructions, rng, name):
    params, gradients = normal(rng), normal(rng)
    params["c"][:] = 0
    gradients["f"][:] = 0
    values = settings_of(name, {})
    rules = Rules.create(params)
    state = begun(rng, transformation(name, 0.1, values, {}, rules).init(params))
    found = fused.step(name, np.float32(0.1), values, rules, jnp.float32(1.0), gradients, state, params)
    new, after, _ = expected(name, np.float32(0.1), values, rules, 1.0, gradients, state, params)
    assert distance(found.params, new) < BOUND
    assert distance(found.state, after) < BOUND


@pytest.mark.parametrize("name", fused.RULES)
def test_lanes_are_steps_one_by_one(rng, name):
    """Under vmap, with rates of their own, bit for bit; and what is not a number stays in its tensor's elements."""
    lanes = [(normal(rng), normal(rng)) for _ in range(3)]
    lanes[1][0]["b"][1, 2] = np.nan
    values = settings_of(name, {"clip_norm": np.inf, "weight_decay": 0.1, "l2": 0.1})
    rates = np.array([0.1, 0.01, 1.0], np.float32)
    state = begun(rng, transformation(name, 0.1, values).init(lanes[0][1]))

    def one(rate, gradients, params):
        return fused.step(name, rate, values, None, jnp.float32(1.0), gradients, state, params)

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)
    with native.scope(True):
        together = jax.jit(jax.vmap(one))(rates, *stacked)
        alone = [jax.jit(one)(rate, *lane) for rate, lane in zip(rates, lanes, strict=True)]
    jax.tree.map(lambda a, *b: np.testing.assert_array_equal(a, np.stack(b)), together, *alone)
    wrong = {key: int(np.isnan(leaf).sum()) for key, leaf in alone[1].params.items()}
    whole = name in ("lars", "lamb")
    assert wrong == {**dict.fromkeys(SHAPES, 0), "b": 35 if whole else 1}
    assert np.isnan(alone[1].norms).all() and np.isfinite(alone[0].norms).all()


@pytest.mark.parametrize("name", fused.RULES)
def test_the_number_of_threads_changes_no_bit(rng, name):
    # So large that a thread takes several parts at once.
    shapes = {**SHAPES, "h": (300, 301), "i": (1_300_000,), "j": (16384, 3)}
    params, gradients = ({key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()} for _ in range(2))
    values = settings_of(name, {"clip_norm": 3.0, "clip_layer_norm": 2.0, "l1": 0.02})
    state = begun(rng, transformation(name, 0.1, values).init(params))
    assert sum(leaf.size for leaf in params.values()) >= native_update.LARGE
    found = []
    for threads in (1, 2, 3, 16):
        with native.scope(True, threads):
            step = jax.jit(lambda *args: fused.step(name, np.float32(0.1), values, None, jnp.float32(0.5), *args))
            found += [step(gradients, state, params) for _ in range(20 if threads > 1 else 1)]
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, found[0])


def test_a_small_step_is_one_threads(monkeypatch, rng):
    asked = []
    monkeypatch.setattr(native, "call", lambda *a, **k: asked.append(k["threads"]) or (jnp.ones(3), jnp.ones(3)))
    tensor = native_update.Tensor(jnp.ones(native_update.LARGE - 1), jnp.ones(native_update.LARGE - 1), ())
    with native.scope(True, 4):
        native_update.update("sgd", native_update.Rates(1.0, 0.1), [tensor])
        native_update.update("sgd", native_update.Rates(1.0, 0.1), [tensor, tensor._replace(weight=jnp.ones(1))])
    native_update.update("sgd", native_update.Rates(1.0, 0.1), [tensor, tensor])
    assert asked == [1, 4, 1]


def test_weights_and_buffers_are_written_where_they_lie(rng):
    params, gradients = normal(rng), normal(rng)
    values = settings_of("adamw", {})
    state = transformation("adamw", 0.1, values).init(params)

    def step(gradients, state, params):
        return fused.step("adamw", jnp.float32(0.1), values, None, jnp.float32(1.0), gradients, state, params)[:2]

    with native.scope(True):
        program = jax.jit(step, donate_argnums=(1, 2)).lower(gradients, state, params).compile()
    text = program.as_text()
    assert len(re.findall(r"output_to_operand_aliasing=\{(.*?)\}, \w+=", text)) == 1
    assert program.memory_analysis().alias_size_in_bytes >= 3 * sum(leaf.nbytes for leaf in params.values())


def test_a_kernel_that_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(native, "missing", lambda: "not built (no compiler)")
    with pytest.raises(ValueError, match=r"^the native kernels are not built \(no compiler\)$"):
        native_update.update("sgd", native_update.Rates(1.0, 0.1), [native_update.Tensor(jnp.ones(3), jnp.ones(3), ())])


def test_it_is_for_float32_and_the_forms_it_knows(rng):
    arrays = [jnp.ones((3, 2))]
    assert not fused.available("adamw", {}, arrays)
    with native.scope(True):
        assert all(fused.available(name, {}, arrays) for name in fused.RULES)
        assert not fused.available("lars", {"optax_form": True}, arrays)
        assert not fused.available("muon", {}, arrays)
        assert not fused.available("optax:adamw", {}, arrays)
        assert not fused.available("adamw", {}, [*arrays, jnp.ones(2, jnp.bfloat16)])
        assert not fused.available("adamw", {}, [*arrays, jnp.ones((0, 2))])
    assert set(fused.RULES) <= set(OPTIMIZERS.names())
    assert set(fused.RULES.values()) == set(native_update.BUFFERS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": 9}, "rule 9 is unknown"),
        ({"decay": np.ones(2, np.float32)}, "3 operands and 2 results of 1 tensors do not fit"),
        ({"rule": 1}, "3 operands and 2 results of 1 tensors do not fit"),
        ({"rates": np.zeros(14, np.float32)}, "rates or norms do not fit"),
        ({"weight": np.zeros((5, 3), np.float32)}, r"operand \[5, 3\] of a tensor of 12 does not fit"),
        ({"weight": np.zeros((4, 3), np.float64)}, "operand 2 is not float32"),
        ({"result": (3, 3)}, "result 1 does not fit"),
        ({"narrow": True}, "3 operands and 2 results of 1 tensors do not fit"),
        ({"narrow": True, "keys": np.zeros((2, 2), np.uint32)}, "keys do not fit"),
        ({"narrow": True, "keys": np.zeros((1, 2), np.int32)}, "keys do not fit"),
        (
            {"narrow": True, "keys": np.zeros((1, 2), np.uint32), "rule": 1, "buffer": np.float32},
            "operand 4 is not bfloat16",
        ),
        ({"rule": 1, "buffer": jnp.bfloat16}, "operand 3 is not float32"),
    ],
)
def test_the_handler_refuses_what_does_not_fit(change, message):
    given = {
        "rates": np.zeros(15, np.float32),
        "weight": np.zeros((4, 3), np.float32),
        "result": (4, 3),
        "rule": 0,
        "decay": np.ones(1, np.float32),
        "narrow": False,
        **change,
    }
    operands = [given["rates"], np.zeros((4, 3), np.float32), given["weight"]]
    results = [native.floats(3), native.floats(*given["result"])]
    if "keys" in given:
        operands.insert(1, given["keys"])
    if "buffer" in given:
        operands.append(np.zeros((4, 3), given["buffer"]))
        results.append(native.floats(4, 3))
    attributes = {"rule": given["rule"], "decay": given["decay"], "layerwise": [1], "threads": 1}
    attributes |= {"narrow": given["narrow"], "clips": False}
    attributes["rate"] = np.ones(1, np.float32)
    with jax.enable_x64(True), pytest.raises(Exception, match=rf"INVALID_ARGUMENT.*hpjax: update: .*{message}"):
        jax.block_until_ready(native.call("hpjax_update", results, *operands, **attributes))
