"""What goes around an optimizer: clipping, rules by path, `create`, Optax's own, averages and SAM."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hpjax import optimizers
from hpjax.errors import ConfigError
from hpjax.optimizers import OPTIMIZERS, Rules, create, ema
from hpjax.optimizers.clipping import LIMITS, bites, clipped
from hpjax.optimizers.registry import optax_names
from hpjax.optimizers.sam import sam

SHAPES = {"body": {"kernel": (3, 4), "bias": (4,)}, "head": {"kernel": (4, 2), "bias": (2,)}, "norm": {"scale": (4,)}}
PATHS = ("body/bias", "body/kernel", "head/bias", "head/kernel", "norm/scale")


@pytest.fixture(autouse=True)
def unregistered(monkeypatch):
    """What one test loads by name is not known to the next."""
    monkeypatch.setattr(OPTIMIZERS, "_entries", dict(OPTIMIZERS._entries))
    monkeypatch.setattr(OPTIMIZERS, "_imported", {})


def tree(rng):
    return jax.tree.map(lambda shape: jnp.asarray(rng.normal(size=shape)), SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def equal(got, expected):
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_clipping_bites_where_it_changes_something(rng):
    seen = set()
    for _ in range(60):
        gradients = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((5,), (3, 4), ())]
        on = [name for name in LIMITS if rng.random() < 0.6]
        limits = {name: jnp.float32(rng.choice([rng.uniform(1, 7), np.inf])) for name in on}
        after = clipped(gradients, *(limits.get(name) for name in LIMITS))
        changed = any(bool((a != g).any()) for a, g in zip(after, gradients, strict=True))
        assert bool(bites(gradients, limits)) == changed, limits
        seen.add(changed)
    assert seen == {True, False}


@pytest.mark.parametrize("share", [0.03, 0.9, 1.1, 50.0])
def test_clip_norm_is_torch_clip_grad_norm(torch, rng, share):
    """torch divides by norm + 1e-6: where it clips, its result is smaller by 1e-6 / norm, which bounds the difference."""
    gradients = [rng.normal(size=shape) for shape in ((5,), (3, 4), (2, 2, 3))]
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    with jax.enable_x64(True):
        for at in (None, 1):
            chosen = range(3) if at is None else [at]
            largest = share * (norm if at is None else np.linalg.norm(gradients[at]))
            weights = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
            for weight, g in zip(weights, gradients, strict=True):
                weight.grad = torch.tensor(g)
            torch.nn.utils.clip_grad_norm_([weights[i] for i in chosen], largest)
            got = clipped(
                list(map(jnp.asarray, gradients)), np.inf, *((np.inf, largest) if at is None else (largest, np.inf))
            )
            for i in chosen:
                np.testing.assert_allclose(got[i], weights[i].grad.numpy(), rtol=1e-6 / largest + 1e-14)
        length = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in clipped(gradients, np.inf, np.inf, share * norm)))
        assert length == pytest.approx(min(share, 1.0) * norm, rel=1e-13)


def test_clip_value_is_torch_clip_grad_value(torch, rng):
    gradient = rng.normal(size=(4, 5)).astype(np.float32)
    weight = torch.nn.Parameter(torch.zeros((4, 5)))
    weight.grad = torch.tensor(gradient)
    torch.nn.utils.clip_grad_value_([weight], 0.5)
    equal(clipped([jnp.asarray(gradient)], 0.5, np.inf, np.inf)[0], weight.grad.numpy())


@pytest.mark.parametrize("value", [0.0, 1e-30, 1.0, 1e30, np.inf])
def test_no_limit_leaves_the_bits(rng, value):
    """Also where the norm overflows: a norm of infinity is not over a limit of infinity."""
    gradients = [jnp.asarray(rng.normal(size=(3, 2)), jnp.float32), jnp.full((2,), value, jnp.float32)]
    equal(clipped(gradients, np.inf, np.inf, np.inf), gradients)


def test_what_is_off_leaves_the_bits(rng):
    """Off by its value or by its absence, an update is that of the bare optimizer."""
    params, gradients, momentum = tree(rng), tree(rng), jnp.float32(0.9)
    off = {setting: OPTIMIZERS.settings("momentum")[setting] for setting in OPTIMIZERS.traced("momentum")}
    bare = OPTIMIZERS.get("momentum")(jnp.float32(0.1), momentum=momentum)
    expected, _ = bare.update(gradients, bare.init(params), params)
    for values in ({**off, "momentum": momentum}, {"momentum": momentum}):
        transformation = optimizers.transformation("momentum", 0.1, values)
        equal(transformation.update(gradients, transformation.init(params), params)[0], expected)
    assert OPTIMIZERS.in_use("momentum", dict.fromkeys(off)) == ()
    assert OPTIMIZERS.in_use("momentum", {**dict.fromkeys(off), "l2": 0.0, "clip_norm": 1.0}) == ("l2", "clip_norm")


@pytest.mark.parametrize("name", ["momentum", "adamw", "optax:adamw"])
def test_what_is_in_use_is_enough(rng, name):
    params, gradients = tree(rng), tree(rng)
    off = {setting: OPTIMIZERS.settings(name)[setting] for setting in OPTIMIZERS.traced(name)}
    common = [setting for setting in OPTIMIZERS.traced(name) if OPTIMIZERS.is_common(name, setting)]
    for setting in common:
        values = {**off, setting: 0.3}
        needed = {s: v for s, v in values.items() if s not in common or s in OPTIMIZERS.in_use(name, {setting: 0.3})}
        assert len(needed) == len(values) - len(common) + 1
        whole, part = (optimizers.transformation(name, 0.1, given) for given in (values, needed))
        equal(*(t.update(gradients, t.init(params), params)[0] for t in (part, whole)))


def test_rules_by_path(rng):
    params = tree(rng)
    rules = Rules.create(params, ("norm|bias=0", "^head/=0.5", ".*=1"), ("head=10", ".*=1"), ("^body/k", "scale$"))
    assert rules.paths == PATHS
    assert rules.decay == (0.0, 1.0, 0.0, 0.5, 0.0)
    assert rules.learning_rate == (1.0, 1.0, 10.0, 10.0, 1.0)
    assert rules.frozen == (False, True, False, False, True)
    assert optimizers.frozen(rules, params)["body"] == {"bias": False, "kernel": True}
    shapes = jax.eval_shape(lambda: params)
    assert hash(rules) == hash(
        Rules.create(shapes, ("norm|bias=0", "^head/=0.5", ".*=1"), ("head=10", ".*=1"), ("^body/k", "scale$"))
    )
    assert Rules.create(params).decay == (0.0, 1.0, 0.0, 1.0, 0.0)
    # An equals sign may be part of the expression; a last rule for the rest may find none left.
    assert Rules.create({"a=b": jnp.ones(2)}, ("a=b=3", ".*=1")).decay == (3.0,)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"decay_rules": ["hed=1", ".*=1"]}, "decay_rules has 'hed=1', which matches no parameter; the nearest is 'head/"),
        (
            {"learning_rate_rules": ["head=10"]},
            "learning_rate_rules has no rule for parameter 'body/bias'; end it with '.*=1' to leave the rest as it is",
        ),
        (
            {"learning_rate_rules": [".*=1", "head=10"]},
            "learning_rate_rules has 'head=10', but earlier rules hold for all that it matches: put it before them",
        ),
        ({"decay_rules": ["head"]}, "decay_rules has 'head'; expected REGEX=MULTIPLIER, a finite number >= 0"),
        ({"decay_rules": ["head=-1"]}, "decay_rules has 'head=-1'; expected REGEX=MULTIPLIER, a finite number >= 0"),
        ({"decay_rules": ["head=nan"]}, "decay_rules has 'head=nan'; expected REGEX=MULTIPLIER, a finite number >= 0"),
        ({"decay_rules": ["=1"]}, "decay_rules has '=1'; expected REGEX=MULTIPLIER, a finite number >= 0"),
        ({"decay_rules": ["(=1"]}, "decay_rules has '(', which is no regular expression: "),
        ({"freeze": ["["]}, "freeze has '[', which is no regular expression: "),
        (
            {"freeze": ["boddy/kernal"]},
            "freeze has 'boddy/kernal', which matches no parameter; the nearest is 'body/kernel'",
        ),
        ({"freeze": ["body", "."]}, "freeze is 'body,.', which matches every parameter; expected one that is trained"),
    ],
)
def test_rules_that_do_not_hold(rng, rules, message):
    with pytest.raises(ConfigError) as error:
        Rules.create(tree(rng), **rules)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_rules_multiply_as_torch_groups_do(torch, rng):
    """Decay and learning rate of each parameter are those of a torch group."""
    params, gradients = tree(rng), [tree(rng) for _ in range(5)]
    optimizer = create(
        "adamw", 0.01, weight_decay=0.1, decay_rules="norm=3,bias=0.5,.*=1", learning_rate_rules="head=10,.*=0.5"
    )
    decay, rate = (1 / 2, 1, 1 / 2, 1, 3), (0.5, 0.5, 10, 10, 0.5)
    with jax.enable_x64(True):
        params, gradients = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, gradients))
        weights = [torch.nn.Parameter(torch.tensor(leaf)) for leaf in jax.tree.leaves(params)]
        groups = [
            {"params": [w], "weight_decay": 0.1 * d, "lr": 0.01 * r} for w, d, r in zip(weights, decay, rate, strict=True)
        ]
        oracle, state = torch.optim.AdamW(groups), optimizer.init(params)
        for gradient in gradients:
            for weight, g in zip(weights, jax.tree.leaves(gradient), strict=True):
                weight.grad = torch.tensor(g)
            oracle.step()
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        for weight, got in zip(weights, jax.tree.leaves(params), strict=True):
            np.testing.assert_allclose(got, weight.detach().numpy(), rtol=1e-10)


def test_frozen_parameters_have_no_state_and_no_part_in_the_norm(rng):
    params, gradients = tree(rng), tree(rng)
    optimizer = create("sgd", 1.0, clip_norm=0.1, freeze="body,norm", weight_decay=0.5)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    assert all(not leaf.any() for part in ("body", "norm") for leaf in jax.tree.leaves(updates[part]))
    plain = create("sgd", 1.0, clip_norm=0.1, weight_decay=0.5)
    head = {"head": params["head"]}
    expected, _ = plain.update({"head": gradients["head"]}, plain.init(head), head)
    equal(updates["head"], expected["head"])
    assert len(jax.tree.leaves(create("adamw", freeze="body,norm").init(params))) == 1 + 2 * (1 + 2)


def test_create_takes_numbers_scalars_and_schedules(rng):
    params, gradients = tree(rng), tree(rng)

    def run(optimizer):
        state, updates = optimizer.init(params), []
        for _ in range(3):
            update, state = optimizer.update(gradients, state, params)
            updates.append(update)
        return updates

    rate = optax.linear_schedule(0.1, 0.0, 4)
    scheduled = run(create("momentum", rate, momentum=0.8))
    equal(scheduled[0], run(create("momentum", 0.1, momentum=0.8))[0])
    by_hand = run(optax.chain(optax.trace(0.8), optax.scale_by_schedule(lambda t: -rate(t))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), scheduled, by_hand)
    traced = jax.jit(lambda rate, decay: run(create("adamw", rate, weight_decay=decay)))(jnp.float32(0.01), jnp.float32(0.2))
    expected = run(create("adamw", 0.01, weight_decay=0.2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), traced, expected)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("addam", {}, "optimizer 'addam' is unknown; did you mean 'adam'? known: "),
        ("adam", {"momentun": 1}, "optimizer 'adam' has no setting 'momentun'; "),
        ("adam", {"learning_rate": -1}, "learning_rate is -1; expected a finite number > 0"),
        ("adam", {"beta1": 1.0}, "beta1 is 1.0; expected a number in [0, 1), as float32"),
        ("adam", {"clip_norm": 0.0}, "clip_norm is 0.0; expected a number > 0"),
        (
            "muon",
            {"muon_scale": "orginal"},
            "muon_scale is 'orginal'; expected one of original, match_rms_adamw; did you mean",
        ),
        ("adam", {"freeze": "("}, "freeze has '(', which is no regular expression"),
        ("adam", {"decay_rules": "head"}, "decay_rules has 'head'; expected REGEX=MULTIPLIER"),
        ("optax:adm", {}, "optimizer 'optax:adm' is unknown; did you mean 'optax:adam'? known: "),
        ("optax:adam", {}, "optimizer 'optax:adam' needs learning_rate; it has no default"),
        ("optax:adam", {"learning_rate": 0.1, "b1": "x"}, "setting 'b1' is 'x'; expected a number"),
        ("optax:lbfgs", {}, "optimizer 'optax:lbfgs' cannot be used: scale_by_zoom"),
        ("optax:polyak_sgd", {}, "optimizer 'optax:polyak_sgd' cannot be used: "),
        (
            "optax:schedule_free_sgd",
            {},
            "optimizer 'optax:schedule_free_sgd' cannot be used: what it evaluates is not known",
        ),
    ],
)
def test_create_refuses(name, params, message):
    with pytest.raises(ConfigError) as error:
        create(name, **params)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


REFUSED = {
    "dpsgd",
    "lbfgs",
    "momo",
    "momo_adam",
    "noisy_sgd",
    "optimistic_adam",
    "polyak_sgd",
    "sophia",
    "schedule_free_adamw",
    "schedule_free_sgd",
}


@pytest.mark.parametrize("name", sorted({*optax_names()} - REFUSED))
def test_optax_by_name(rng, name):
    """Every number that Optax gives a default is a traced setting; the update is Optax's."""
    params, gradients = tree(rng), tree(rng)
    function = getattr(optax, name, None) or getattr(optax.contrib, name)
    values = {
        setting: jnp.float32(OPTIMIZERS.settings("optax:" + name)[setting]) for setting in OPTIMIZERS.traced("optax:" + name)
    }

    def ours(learning_rate, values):
        transformation = optimizers.transformation("optax:" + name, learning_rate, values)
        return transformation.update(gradients, transformation.init(params), params)[0]

    expected = function(0.1).update(gradients, function(0.1).init(params), params)[0]
    got = jax.jit(ours)(jnp.float32(0.1), values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, expected)


def test_optax_settings(rng):
    params = tree(rng)
    gradients = jax.tree.map(lambda w: 0.1 * w, params)
    assert OPTIMIZERS.own("optax:adamw") == {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0}
    assert {"nesterov", "b1", "weight_decay", "clip_norm", "l2"} <= set(OPTIMIZERS.settings("optax:adamw"))
    assert "nesterov" in OPTIMIZERS.static("optax:adamw")
    given = create("optax:adamw", 0.1, b1=0.5, nesterov=True, weight_decay=0.3)
    oracle = optax.adamw(0.1, b1=0.5, nesterov=True, weight_decay=0.3)
    got, expected = (o.update(gradients, o.init(params), params)[0] for o in (given, oracle))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected)
    ruled = create("optax:adamw", 0.1, b1=0.5, nesterov=True, weight_decay=0.3, decay_rules="kernel=1,.*=0")
    oracle = optax.adamw(0.1, b1=0.5, nesterov=True, weight_decay=0.3, mask=lambda t: jax.tree.map(lambda w: w.ndim > 1, t))
    got, expected = (o.update(gradients, o.init(params), params)[0] for o in (ruled, oracle))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected)


def test_momentum_setting():
    found = {name: optimizers.momentum_setting(name) for name in OPTIMIZERS.names()}
    assert (found["rmsprop"], found["muon"], found["adam"], found["lion"]) == ("momentum", "momentum", "beta1", "beta1")
    assert {name for name, setting in found.items() if setting is None} >= {"sgd", "adagrad", "adadelta", "adafactor"}


def test_only_schedule_free_evaluates_other_parameters(rng):
    params, gradients = tree(rng), tree(rng)
    rules = Rules.create(params, learning_rate_rules=("head=2", ".*=1"), freeze=("scale",))
    for name in OPTIMIZERS.names():
        settings = OPTIMIZERS.settings(name)
        transformation = optimizers.transformation(name, 0.01, settings, {}, rules)
        updates, state = transformation.update(gradients, transformation.init(params), params)
        after = optax.apply_updates(params, updates)
        got = optimizers.evaluated(name, after, state, rules)
        if name.startswith("schedule_free"):
            # After one update the average is z; y lies a tenth of the way from it to where both began.
            step = jax.tree.map(lambda x, w: x - w, got, params)
            jax.tree.map(lambda u, s: np.testing.assert_allclose(u, s, rtol=1e-4, atol=1e-6), updates, step)
        else:
            assert got is after


def test_ema(rng):
    decay, params = 0.9, [tree(rng) for _ in range(6)]
    average, expected = params[0], jax.tree.map(np.float64, params[0])
    for new in params[1:]:
        average = ema.update(average, new, decay)
        expected = jax.tree.map(lambda a, w: decay * a + (1 - decay) * np.float64(w), expected, new)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7), average, expected)


def test_sam_is_the_papers(rng):
    """Foret et al. (2021) on a quartic, in float64: the gradient at w + rho g / |g|, the loss at w."""
    with jax.enable_x64(True):
        w, a, rho = rng.normal(size=7), rng.normal(size=(7, 7)), 0.3
        loss = lambda w: ((a @ w["w"]) ** 4).sum()  # noqa: E731
        gradient = lambda w: 4 * a.T @ (a @ w) ** 3  # noqa: E731
        g = gradient(w)
        expected = gradient(w + rho * g / np.sqrt((g**2).sum()))
        wrapped = jax.jit(lambda w, rho: sam(jax.value_and_grad(loss), rho)(w))
        value, got = wrapped({"w": w}, rho)
        np.testing.assert_allclose(got["w"], expected, rtol=1e-11, atol=1e-11 * np.abs(expected).max())
        assert value == pytest.approx(((a @ w) ** 4).sum(), rel=1e-12)
        np.testing.assert_allclose(wrapped({"w": w}, 0.0)[1]["w"], g, rtol=1e-11, atol=1e-11 * np.abs(g).max())
        assert not np.asarray(wrapped({"w": 0 * w}, rho)[1]["w"]).any()


def test_sam_climbs_by_the_gradient_of_all_devices(rng):
    """With a mean over shards of a batch it is SAM of the whole batch."""
    w, x = jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=(2, 8, 3)))

    def shard(x):
        loss = lambda w: (jnp.tanh(x @ w) ** 2).mean()  # noqa: E731
        mean = lambda tree: jax.lax.pmean(tree, "data")  # noqa: E731
        return mean(sam(jax.value_and_grad(loss), 0.5, mean)(w))

    whole = sam(jax.value_and_grad(lambda w: (jnp.tanh(x.reshape(16, 3) @ w) ** 2).mean()), 0.5)(w)
    sharded = jax.vmap(shard, axis_name="data")(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-5, atol=1e-7), sharded, whole)
