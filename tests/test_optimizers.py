"""Optimizers against torch.optim and against float64 NumPy written from the papers."""

from functools import partial

import jax
import numpy as np
import optax
import pytest
from optax import contrib

from hpjax.optimizers import OPTIMIZERS
from optimizer_runs import SHAPES, each, ours, problem, single, worst

BETAS = {"beta1": single(0.85), "beta2": single(0.98), "epsilon": single(1e-5)}
TORCH_BETAS = {"betas": (BETAS["beta1"], BETAS["beta2"]), "eps": BETAS["epsilon"]}
MOMENTUM, EPSILON = single(0.8), single(1e-5)

# Our name, our static and traced settings, torch's class and arguments, which of our settings its weight_decay is.
ORACLES = {
    "sgd": ("sgd", {}, {}, "SGD", {}, "l2"),
    "momentum": ("momentum", {}, {"momentum": MOMENTUM}, "SGD", {"momentum": MOMENTUM}, "l2"),
    "nesterov": ("nesterov", {}, {"momentum": MOMENTUM}, "SGD", {"momentum": MOMENTUM, "nesterov": True}, "l2"),
    "adagrad": ("adagrad", {}, {"epsilon": EPSILON}, "Adagrad", {"eps": EPSILON}, "l2"),
    "adagrad-from-0.1": (
        "adagrad",
        {},
        {"epsilon": EPSILON, "initial_accumulator": single(0.1)},
        "Adagrad",
        {"eps": EPSILON, "initial_accumulator_value": single(0.1)},
        "l2",
    ),
    "adadelta": (
        "adadelta",
        {},
        {"beta2": single(0.95), "epsilon": EPSILON},
        "Adadelta",
        {"rho": single(0.95), "eps": EPSILON},
        "l2",
    ),
    "rmsprop": (
        "rmsprop",
        {},
        {"beta2": single(0.95), "epsilon": EPSILON},
        "RMSprop",
        {"alpha": single(0.95), "eps": EPSILON},
        "l2",
    ),
    "rmsprop-centered": (
        "rmsprop",
        {"centered": True},
        {"beta2": single(0.95), "epsilon": EPSILON},
        "RMSprop",
        {"alpha": single(0.95), "eps": EPSILON, "centered": True},
        "l2",
    ),
    "rmsprop-momentum": (
        "rmsprop",
        {"centered": True},
        {"beta2": single(0.95), "epsilon": EPSILON, "momentum": MOMENTUM},
        "RMSprop",
        {"alpha": single(0.95), "eps": EPSILON, "centered": True, "momentum": MOMENTUM},
        "l2",
    ),
    "adam": ("adam", {}, BETAS, "Adam", TORCH_BETAS, "l2"),
    "amsgrad": ("amsgrad", {}, BETAS, "Adam", {**TORCH_BETAS, "amsgrad": True}, "l2"),
    "adamax": ("adamax", {}, BETAS, "Adamax", TORCH_BETAS, "l2"),
    "nadam": (
        "nadam",
        {},
        {**BETAS, "momentum_decay": single(0.02)},
        "NAdam",
        {**TORCH_BETAS, "momentum_decay": single(0.02)},
        "l2",
    ),
    "nadamw": ("nadam", {}, BETAS, "NAdam", {**TORCH_BETAS, "decoupled_weight_decay": True}, "weight_decay"),
    "adamw": ("adamw", {}, BETAS, "AdamW", TORCH_BETAS, "weight_decay"),
    "adam-decoupled": ("adam", {}, BETAS, "AdamW", TORCH_BETAS, "weight_decay"),
    "amsgradw": ("amsgrad", {}, BETAS, "AdamW", {**TORCH_BETAS, "amsgrad": True}, "weight_decay"),
    "adafactor": (
        "adafactor",
        {},
        {"beta2_decay": single(-0.7), "epsilon": EPSILON, "parameter_floor": single(0.3), "update_clip": single(1.25)},
        "Adafactor",
        {"beta2_decay": single(-0.7), "eps": (EPSILON, single(0.3)), "d": single(1.25)},
        "weight_decay",
    ),
}
# Measured over six runs of all cases: at most 7e-15 and 9e-7.
both = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 3e-6)], ids=["f64", "f32"])


@pytest.fixture
def torch(torch):
    """torch with float64 scalars in its optimizers' states too (NAdam's product of momenta)."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


def torch_run(torch, make, inputs, decay):
    """Runs the torch optimizer that `make(groups)` returns; parameters of one dimension get no decay."""
    params, gradients, learning_rates = inputs
    weights = {name: torch.nn.Parameter(torch.tensor(leaf, dtype=torch.float64)) for name, leaf in params.items()}
    optimizer = make([{"params": [w], "weight_decay": decay if w.ndim > 1 else 0.0} for w in weights.values()])
    steps = []
    for t, learning_rate in enumerate(learning_rates):
        for group in optimizer.param_groups:
            group["lr"] = float(learning_rate)
        for name, weight in weights.items():
            weight.grad = torch.tensor(gradients[name][t])
        optimizer.step()
        steps.append({name: weight.detach().numpy().copy() for name, weight in weights.items()})
    return {name: np.stack([step[name] for step in steps]) for name in weights}


@both
@pytest.mark.parametrize("case", ORACLES)
def test_torch(torch, rng, case, dtype, tolerance):
    name, static, settings, kind, arguments, decay_is = ORACLES[case]
    inputs = problem(rng)
    for decay in (0.0, single(0.03)):
        expected = torch_run(torch, lambda groups: getattr(torch.optim, kind)(groups, **arguments), inputs, decay)
        values = {"weight_decay": 0.0, **settings, decay_is: decay}
        got, evaluated = ours(name, inputs, dtype, tuple(static.items()), **values)
        assert worst(got, expected) < tolerance
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[-1]), evaluated, got)


@pytest.mark.parametrize("muon_scale", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torch_muon(torch, rng, monkeypatch, nesterov, muon_scale):
    """torch orthogonalises in bfloat16: here in float64. Its matrices are [outputs, inputs], ours the other way."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.double().clone())
    params, gradients, learning_rates = problem(rng, {**SHAPES, "wide": (3, 9)})
    matrices = [name for name, leaf in params.items() if leaf.ndim > 1]
    flat = lambda leaf, axes: leaf.reshape(*leaf.shape[:axes], -1, leaf.shape[-1]).swapaxes(-1, -2)  # noqa: E731
    transposed = {n: flat(params[n], 0) for n in matrices}, {n: flat(gradients[n], 1) for n in matrices}, learning_rates
    decay, momentum = single(0.03), single(0.9)
    make = partial(torch.optim.Muon, momentum=momentum, nesterov=nesterov, ns_steps=4, adjust_lr_fn=muon_scale)
    expected = torch_run(torch, make, transposed, decay)
    bias = {"bias": params["bias"]}, {"bias": gradients["bias"]}, learning_rates
    expected |= torch_run(torch, lambda groups: torch.optim.Adam(groups, **TORCH_BETAS), bias, 0.0)
    static = (("nesterov", nesterov), ("muon_scale", muon_scale), ("newton_schulz_steps", 4))
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 3e-6)):
        settings = {"momentum": momentum, "weight_decay": decay, **BETAS}
        got, _ = ours("muon", (params, gradients, learning_rates), dtype, static, **settings)
        got = {name: flat(leaf, 1) if name in matrices else leaf for name, leaf in got.items()}
        assert worst(got, expected) < tolerance


@both
def test_decoupled_decay_with_l1_and_l2(rng, dtype, tolerance):
    inputs = problem(rng)
    momentum, decay, l1, l2 = single(0.8), single(0.05), single(0.01), single(0.02)

    def update(t, w, g, learning_rate, state):
        matrix = w.ndim > 1
        state["v"] = momentum * state.get("v", 0) + g + matrix * (l1 * np.sign(w) + l2 * w)
        return w - learning_rate * state["v"] - learning_rate * matrix * decay * w

    settings = {"momentum": momentum, "weight_decay": decay, "l1": l1, "l2": l2}
    assert worst(ours("momentum", inputs, dtype, **settings)[0], each(inputs, update)) < tolerance


@both
def test_lars_is_the_papers(rng, dtype, tolerance):
    """You, Gitman and Ginsburg (2017), algorithm 1; `problem` has updates without gradient, and one tensor starts at 0."""
    params, gradients, learning_rates = problem(rng)
    params["zero"], gradients["zero"] = np.zeros((2, 3)), gradients["kernel"][:, :2, :3]
    inputs = params, gradients, learning_rates * 50
    momentum, decay, eta, epsilon = single(0.9), single(1e-3), single(0.01), single(1e-9)

    def update(t, w, g, learning_rate, state):
        weight_norm, gradient_norm = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
        step = g
        if w.ndim > 1 and weight_norm > 0 and gradient_norm > 0:
            local = eta * weight_norm / (gradient_norm + decay * weight_norm + epsilon)
            step = local * (g + decay * w)
        state["v"] = momentum * state.get("v", 0) + learning_rate * step
        return w - state["v"]

    settings = {"momentum": momentum, "weight_decay": decay, "trust_coefficient": eta, "epsilon": epsilon}
    assert worst(ours("lars", inputs, dtype, **settings)[0], each(inputs, update)) < tolerance


@both
def test_lamb_is_the_papers(rng, dtype, tolerance):
    """You et al. (2020), algorithm 2."""
    inputs = problem(rng)
    beta1, beta2, epsilon = BETAS.values()
    decay = single(0.03)

    def update(t, w, g, learning_rate, state):
        state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
        state["s"] = beta2 * state.get("s", 0) + (1 - beta2) * g**2
        step = state["m"] / (1 - beta1**t) / (np.sqrt(state["s"] / (1 - beta2**t)) + epsilon)
        ratio = 1.0
        if w.ndim > 1:
            step = step + decay * w
            ratio = np.sqrt((w**2).sum()) / np.sqrt((step**2).sum())
        return w - learning_rate * ratio * step

    assert worst(ours("lamb", inputs, dtype, **BETAS, weight_decay=decay)[0], each(inputs, update)) < tolerance


def test_lion_is_the_papers(rng):
    """Chen et al. (2023), program 1; in float64 only: a sign that rounding flips is a whole step."""
    inputs = problem(rng)
    beta1, beta2, decay = single(0.85), single(0.95), single(0.03)

    def update(t, w, g, learning_rate, state):
        m = state.get("m", 0)
        state["m"] = beta2 * m + (1 - beta2) * g
        return w - learning_rate * (np.sign(beta1 * m + (1 - beta1) * g) + (w.ndim > 1) * decay * w)

    got, _ = ours("lion", inputs, np.float64, beta1=beta1, beta2=beta2, weight_decay=decay)
    assert worst(got, each(inputs, update)) < 1e-13


@both
@pytest.mark.parametrize("adam", [False, True])
@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_schedule_free_is_the_papers(rng, dtype, tolerance, adam, beta1):
    """Defazio et al. (2024): y the trained parameters, x the evaluated; the first learning rates are a warmup from 0."""
    params, gradients, learning_rates = problem(rng)
    learning_rates[:10] = 0.01 * np.arange(10) / 8
    inputs = params, gradients, learning_rates
    beta1, beta2, epsilon, decay = single(beta1), BETAS["beta2"], BETAS["epsilon"], single(0.03)
    averages = {}

    def update(t, y, g, learning_rate, state):
        if t == 1:
            state.update(z=y, x=y, s=0, weight=0.0, largest=0.0)
        state["s"] = beta2 * state["s"] + (1 - beta2) * g**2
        step = g / (np.sqrt(state["s"] / (1 - beta2**t)) + epsilon) if adam else g
        state["z"] = state["z"] - learning_rate * (step + (y.ndim > 1) * decay * y)
        state["largest"] = max(state["largest"], learning_rate)
        state["weight"] += state["largest"] ** 2
        share = state["largest"] ** 2 / state["weight"] if state["weight"] else 0.0
        state["x"] = (1 - share) * state["x"] + share * state["z"]
        averages[y.shape] = state["x"]
        return (1 - beta1) * state["z"] + beta1 * state["x"]

    expected = each(inputs, update)
    settings = {"beta1": beta1, "weight_decay": decay, **({"beta2": beta2, "epsilon": epsilon} if adam else {})}
    got, evaluated = ours("schedule_free_adamw" if adam else "schedule_free_sgd", inputs, dtype, **settings)
    assert worst(got, expected) < tolerance
    last = {name: averages[SHAPES[name]][None] for name in SHAPES}
    assert worst(jax.tree.map(lambda leaf: leaf[None], evaluated), last) < tolerance


OPTAX = {
    "amsgrad": partial(optax.amsgrad, b1=BETAS["beta1"], b2=BETAS["beta2"], eps=EPSILON),
    "nadam": partial(optax.nadam, b1=BETAS["beta1"], b2=BETAS["beta2"], eps=EPSILON),
    "lamb": partial(optax.lamb, b1=BETAS["beta1"], b2=BETAS["beta2"], eps=EPSILON),
    "lars": partial(optax.lars, momentum=MOMENTUM, trust_coefficient=0.01, eps=EPSILON),
    "muon": partial(
        contrib.muon, beta=MOMENTUM, ns_steps=4, nesterov=False, eps=EPSILON, adam_b1=BETAS["beta1"], adam_b2=BETAS["beta2"]
    ),
    "schedule_free_sgd": partial(contrib.schedule_free_sgd, b1=BETAS["beta1"]),
    "schedule_free_adamw": partial(contrib.schedule_free_adamw, b1=BETAS["beta1"], b2=BETAS["beta2"], eps=EPSILON),
}


@pytest.mark.parametrize("name", OPTAX)
def test_optax_form(rng, name):
    """The form that `optax_form` names, and schedule-free as a second oracle, with a constant learning rate."""
    params, gradients, _ = problem(rng)
    inputs = params, gradients, np.full(200, 0.01)
    values = {**BETAS, "epsilon": EPSILON, "momentum": MOMENTUM, "trust_coefficient": 0.01, "weight_decay": 0.0}
    static = {"optax_form": True, "nesterov": False, "newton_schulz_steps": 4}
    known = {key: value for key, value in values.items() if key in OPTIMIZERS.traced(name)}
    got, _ = ours(
        name, inputs, np.float64, tuple((k, v) for k, v in static.items() if k in OPTIMIZERS.static(name)), **known
    )
    with jax.enable_x64(True):
        optimizer = OPTAX[name](0.01)

        def update(carry, gradient):
            updates, state = optimizer.update(gradient, carry[1], carry[0])
            params = optax.apply_updates(carry[0], updates)
            return (params, state), params

        run = jax.jit(lambda params, gradients: jax.lax.scan(update, (params, optimizer.init(params)), gradients)[1])
        assert worst(got, run(params, gradients)) < 1e-13
