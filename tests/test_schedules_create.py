"""`create` in jit, vmap and Optax, its momentum, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hpjax import schedules
from hpjax.errors import ConfigError
from hpjax.schedules import SCHEDULES, create


def test_a_list_with_a_warmup_and_shares():
    made = create(
        "linear(start_factor=0.5,end_factor=1):10%, constant:50%, cosine",
        peak=2.0,
        total_steps=100,
        warmup="5%",
        end_factor=0.1,
    )
    got = jax.vmap(made)(jnp.arange(100))
    expected = np.concatenate(
        [
            2 * (np.arange(5) + 1) / 5,
            2 * (0.5 + 0.05 * np.arange(10)),
            np.full(50, 2.0),
            2 * (0.1 + 0.9 * np.cos(np.pi / 2 * np.arange(35) / 35) ** 2),
        ]
    )
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_optax_takes_it(rng):
    made = create("onecycle", peak=0.5, total_steps=10)
    optimizer = optax.sgd(made)
    params = jnp.asarray(rng.normal(size=3), jnp.float32)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for t in range(10):
        updates, state = update(jnp.ones(3, jnp.float32), state)
        np.testing.assert_allclose(updates, np.full(3, -made(t)), rtol=1e-6)


def test_parameters_may_be_traced_and_differ(rng):
    gammas = rng.uniform(0.5, 1.0, 7).astype(np.float32)
    sizes = rng.integers(1, 20, 7).astype(np.int32)

    @jax.jit
    @jax.vmap
    def at_50(gamma, step_size):
        return create("step", total_steps=100, gamma=gamma, step_size=step_size)(50)

    np.testing.assert_allclose(at_50(gammas, sizes), gammas.astype(float) ** (50 // sizes), rtol=1e-6)


@pytest.mark.parametrize("three_phase", [False, True])
def test_the_momentum_of_a_cycle_is_torch(torch, three_phase):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.95)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=200, three_phase=three_phase, base_momentum=0.8, max_momentum=0.95
    )
    expected = []
    for t in range(200):
        expected.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if t < 199:
            scheduler.step()
    given = {"peak": 0.95, "total_steps": 200, "three_phase": three_phase}
    made = create("onecycle", of="momentum", momentum_low=0.8 / 0.95, **given)
    np.testing.assert_allclose(jax.vmap(made)(jnp.arange(200)), expected, rtol=1e-6)
    still = create("onecycle", of="momentum", **given)
    np.testing.assert_array_equal(jax.vmap(still)(jnp.arange(200)), np.full(200, np.float32(0.95)))


def test_the_docstring_has_the_whole_vocabulary():
    for name in SCHEDULES.names():
        assert name in create.__doc__, name
        for setting in SCHEDULES.settings(name):
            assert setting in create.__doc__ or setting.startswith("plateau_") or setting in ("min_factor", "max_factor"), (
                setting
            )


KNOWN = ", ".join(SCHEDULES.names())


@pytest.mark.parametrize(
    ("schedule", "given", "message"),
    [
        ("cosin", {}, f"schedule 'cosin' is unknown; did you mean 'cosine'? known: {KNOWN}"),
        (
            "cosine",
            {"end_facto": 0.1},
            "schedule 'cosine' takes no 'end_facto'; did you mean 'end_factor'? it takes: end_factor, warmup_shape, "
            "warmup_start_factor",
        ),
        ("cosine", {"end_factor": -0.1}, "end_factor is -0.1; expected a finite number >= 0 (float32: at most 3.4e38)"),
        ("cosine", {"end_factor": "x"}, "end_factor is 'x'; expected a number"),
        ("step", {}, "step_size is not set; schedule 'step' needs it"),
        ("step", {"step_size": 0}, "step_size is 0; expected at least one step"),
        ("step", {"step_size": 1.5}, "step_size is 1.5; expected a whole number of steps in [0, 2^31)"),
        ("step", {"step_size": "2epochs"}, "step_size: '2epochs': epochs have no meaning here; expected steps or %"),
        ("cosine", {"warmup": 101}, "warmup is 101, 101 steps; expected at most total_steps, 100"),
        ("cosine", {"of": "decay"}, "of is 'decay'; expected learning_rate or momentum"),
        (
            "linear:60, cosine:60",
            {},
            "schedule 'cosine' goes from step 60 to 120; expected at least one step, and at most the schedule's 100",
        ),
        (
            "cosine:0",
            {},
            "schedule 'cosine' goes from step 0 to 0; expected at least one step, and at most the schedule's 100",
        ),
        (
            "cosine",
            {"warmup": 3, "warmup_shape": "exponential"},
            "warmup_start_factor is 0; expected a number > 0 for warmup_shape 'exponential'",
        ),
        ("linear, cosine", {}, "schedule: 'linear' has no length; only the last part may go without: linear:LENGTH"),
    ],
)
def test_refused(schedule, given, message):
    with pytest.raises(ConfigError) as raised:
        schedules.create(schedule, total_steps=100, **given)
    assert str(raised.value) == message


def test_a_share_of_what_is_traced_is_refused():
    @jax.jit
    def made(total):
        return create("step", total_steps=total, step_size="10%")(3)

    with pytest.raises(
        ConfigError, match=r"^step_size is '10%'; expected steps as a whole number where total_steps is traced"
    ):
        made(100)
