"""The plateau schedule against torch's ReduceLROnPlateau, and where it differs on purpose."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpjax import schedules
from hpjax.errors import ConfigError
from schedule_values import packed


@partial(jax.jit, static_argnames="maximise")
def observed(metrics, values, maximise):
    """Returns float32 [evaluations]: the reduction after each evaluation."""

    def look(state, metric):
        state = schedules.observe(state, metric, maximise, values)
        return state, state.reduction

    return jax.lax.scan(look, schedules.init(), metrics)[1]


def settings(rng: np.random.Generator) -> dict[str, object]:
    return {
        "gamma": float(np.float32(rng.uniform(0.1, 0.9))),
        "plateau_patience": int(rng.integers(0, 6)),
        "plateau_threshold": float(np.float32(rng.choice([0.0, 1e-4, 0.05]))),
        "plateau_threshold_mode": str(rng.choice(["relative", "absolute"])),
        "plateau_cooldown": int(rng.integers(0, 5)),
        "min_factor": float(np.float32(rng.choice([0.0, 0.05]))),
        "max_factor": float(np.float32(rng.uniform(0.5, 2))),
        "plateau_epsilon": float(np.float32(rng.choice([1e-8, 1e-3]))),
    }


def torch_rates(torch, metrics, given, maximise) -> np.ndarray:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max" if maximise else "min",
        factor=given["gamma"],
        patience=given["plateau_patience"],
        threshold=given["plateau_threshold"],
        threshold_mode=given["plateau_threshold_mode"][:3],
        cooldown=given["plateau_cooldown"],
        min_lr=given["min_factor"],
        eps=given["plateau_epsilon"],
    )
    rates = []
    for metric in metrics:
        scheduler.step(float(metric))
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


@pytest.mark.parametrize("maximise", [False, True])
def test_plateau_is_torch(torch, rng, maximise):
    for _ in range(60):
        given = settings(rng)
        trend = rng.choice([1.0, -1.0]) * np.linspace(0, rng.uniform(0, 2), 200)
        metrics = (3.0 + trend + rng.normal(size=200) * rng.uniform(0.001, 1)).clip(0.01).astype(np.float32)
        metrics[rng.uniform(size=200) < 0.05] = np.nan
        got = observed(metrics, packed("plateau", **given), maximise)
        np.testing.assert_allclose(got, torch_rates(torch, metrics, given, maximise), rtol=1e-5, err_msg=str(given))


def test_a_relative_threshold_on_a_negative_metric_does_not_flip(torch):
    """A score from -1 slowly to 0 improves by less than 10 %: torch calls it better, as -1 * 1.1 is lower still."""
    metrics = np.linspace(-1.0, -0.96, 20, dtype=np.float32)
    given = {
        "gamma": 0.5,
        "plateau_patience": 3,
        "plateau_threshold": 0.1,
        "plateau_threshold_mode": "relative",
        "plateau_cooldown": 0,
        "min_factor": 0.0,
        "plateau_epsilon": 0.0,
    }
    assert torch_rates(torch, metrics, given, True)[-1] == 1.0
    values = packed("plateau", **given)
    np.testing.assert_array_equal(observed(metrics, values, True), observed(-metrics, values, False))
    # One better evaluation, the first; four bad ones at a time since.
    np.testing.assert_array_equal(observed(metrics, values, True), 0.5 ** (np.arange(20) // 4))


def test_it_drops_when_the_count_exceeds_the_patience():
    got = observed(np.ones(8, np.float32), packed("plateau(plateau_patience=2,gamma=0.5)"), False)
    np.testing.assert_array_equal(got, [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("most", "expected"), [(64.0, [1, 1, 2, 2, 2, 2, 4, 4, 8, 8]), (3.0, [1, 1, 2, 2, 2, 2, 3, 3, 3, 3])]
)
def test_with_a_gamma_above_one_it_grows(most, expected):
    """Patience 1, cooldown 0; by hand: 0.9 is the best, 1.0 twice is too much, 0.5 is better, then nothing is."""
    metrics = np.array([0.9, 1.0, 1.0, 0.5, 0.4, 0.4, 0.5, 0.6, 0.4, np.nan], np.float32)
    values = packed(f"plateau(plateau_patience=1,gamma=2,max_factor={most})")
    np.testing.assert_array_equal(observed(metrics, values, False), expected)
    # The same plateau of the batch size.
    values = packed("constant", others={"batch_size": f"plateau(plateau_patience=1,gamma=2,max_factor={most})"})
    np.testing.assert_array_equal(observed(metrics, values, False), expected)
    got = schedules.factors(jnp.arange(4), values, 2.0)
    np.testing.assert_array_equal(got, [1, 1, 1, 2])


def test_only_nan_is_bad_from_the_start():
    got = observed(np.full(4, np.nan, np.float32), packed("plateau(plateau_patience=2,gamma=0.5)"), True)
    np.testing.assert_array_equal(got, [1, 1, 0.5, 0.5])


@pytest.mark.parametrize("text", ["cosine", "linear:5, constant"])
def test_other_schedules_do_not_observe(text):
    state = schedules.init()
    for metric in (1.0, 2.0, np.nan, 3.0):
        state = schedules.observe(state, metric, False, packed(text))
    np.testing.assert_array_equal(jnp.stack([jnp.float32(x) for x in state]), [np.nan, 0, 0, 1])


def test_the_factor_is_the_reduction_after_warmup_and_in_its_part_of_a_list():
    values = packed("linear(start_factor=0.5,end_factor=1):10, plateau(gamma=0.5)", warmup=4)
    times = np.arange(20, dtype=np.int32)
    got = jax.vmap(lambda t: schedules.factors(jnp.full(4, t), values, 0.25)[0])(times)
    np.testing.assert_allclose(got[:4], [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(got[4:14], 0.5 + 0.05 * np.arange(10), rtol=1e-6)
    np.testing.assert_array_equal(got[14:], np.full(6, np.float32(0.25)))


def test_refused():
    with pytest.raises(ConfigError, match=r"^schedule has 2 parts 'plateau'; expected one$"):
        packed("plateau:5, plateau")
    with pytest.raises(
        ConfigError, match=r"^weight_decay_schedule has 'plateau', which is for the learning rate or the batch"
    ):
        packed("cosine", others={"weight_decay": "plateau"})
    with pytest.raises(ConfigError, match=r"^schedule and batch_size_schedule both have 'plateau'; expected it in one"):
        packed("plateau", others={"batch_size": "plateau"})
