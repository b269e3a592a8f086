"""Schedules against torch.optim.lr_scheduler in float64, and the conformance of every registered schedule."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpjax.schedules import SCHEDULES, factor

LENGTH = 640
"""Updates of a curve: one length, so that one compiled program serves every test."""

TOLERANCE = 1e-6


def traced(kind: str, *, steps: int = 100, warmup: int = 0, start: float = 0.0, **own: float) -> dict[str, np.ndarray]:
    """Returns the values `factor` reads: those of every registered schedule, defaults where `own` has none."""
    values = {
        "schedule": np.int32(SCHEDULES.index(kind)),
        "schedule_steps": np.int32(steps),
        "warmup_steps": np.int32(warmup),
        "warmup_start_factor": np.float32(start),
    }
    for name in SCHEDULES.names():
        for setting, default in SCHEDULES.settings(name).items():
            # What has no default is a duration: there is no length that would suit every run.
            value = own.pop(setting, 7 if default is inspect.Parameter.empty else default)
            values[setting] = np.int32(value) if isinstance(value, int) else np.float32(value)
    assert not own, f"no schedule has the settings {list(own)}"
    return values


@jax.jit
def curve(values):
    return jax.vmap(factor, (0, None))(jnp.arange(LENGTH, dtype=jnp.int32), values)


def ours(learning_rate: float, values: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(np.float32(learning_rate) * curve(values), np.float64)


def oracle(torch, after, learning_rate: float, warmup: int, start: float, length: int) -> np.ndarray:
    """Returns torch's learning rates: linear warmup as a LambdaLR, then the scheduler that `after(optimizer)` makes."""
    schedulers = torch.optim.lr_scheduler
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([parameter], lr=learning_rate)
    if warmup:
        ramp = schedulers.LambdaLR(optimizer, lambda t: start + (1 - start) * (t + 1) / warmup)
        scheduler = schedulers.SequentialLR(optimizer, [ramp, after(optimizer)], [warmup])
    else:
        scheduler = after(optimizer)
    rates = []
    for _ in range(length):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


def assert_close(got: np.ndarray, expected: np.ndarray, peak: float) -> None:
    """Relative 1e-6; values below float32's normal range (1.2e-38) may be flushed to zero."""
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE, atol=1.2e-38 * max(peak, 1.0))


def float32(low: float, high: float, **how) -> st.SearchStrategy[float]:
    """Floats that float32 holds exactly: both sides then compute with the same parameters."""
    return st.floats(float(np.float32(low)), float(np.float32(high)), width=32, **how)


run = {
    "peak": float32(1e-6, 10.0),
    "warmup": st.integers(0, 120),
    "start": float32(0.0, 1.0, allow_subnormal=False),
    "rest": st.integers(1, 500),
}
drawn = settings(deadline=None, max_examples=40)


@drawn
@given(**run)
def test_constant_is_torch_constant(torch, peak, warmup, start, rest):
    values = traced("constant", steps=warmup + rest, warmup=warmup, start=start)
    after = lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)  # noqa: E731
    expected = oracle(torch, after, peak, warmup, start, warmup + rest)
    assert_close(ours(peak, values)[: warmup + rest], expected, peak)


@drawn
@given(end_factor=st.just(0.0) | float32(1e-6, 1.0), **run)
def test_cosine_is_torch_cosine_annealing_until_its_end(torch, peak, warmup, start, rest, end_factor):
    values = traced("cosine", steps=warmup + rest, warmup=warmup, start=start, end_factor=end_factor)
    after = lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rest, peak * end_factor)  # noqa: E731
    expected = oracle(torch, after, peak, warmup, start, warmup + rest + 1)
    got = ours(peak, values)
    assert_close(got[: warmup + rest + 1], expected, peak)
    # torch rises again here; ours stays.
    assert_close(got[warmup + rest :], np.full(LENGTH - warmup - rest, peak * end_factor), peak)


@drawn
@given(step_size=st.integers(1, 200), gamma=float32(0.01, 1.125), **run)
def test_step_is_torch_step(torch, peak, warmup, start, rest, step_size, gamma):
    values = traced("step", steps=warmup + rest, warmup=warmup, start=start, step_size=step_size, gamma=gamma)
    after = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size, gamma)  # noqa: E731
    # Past the run's end too: what `step` multiplies by knows no end, in torch and here.
    expected = oracle(torch, after, peak, warmup, start, LENGTH)
    assert_close(ours(peak, values), expected, peak)


def test_curves_of_every_kind_and_value_are_one_program(rng):
    fresh = jax.jit(partial(curve.__wrapped__))
    for kind in SCHEDULES.names():
        for warmup in (0, int(rng.integers(1, 100))):
            start, end_factor = rng.uniform(size=2)
            assert np.isfinite(fresh(traced(kind, steps=200, warmup=warmup, start=start, end_factor=end_factor))).all()
    assert fresh._cache_size() == 1


def test_lanes_of_different_kinds_equal_each_alone(rng):
    lanes = [
        traced(
            kind,
            steps=int(rng.integers(150, 400)),
            warmup=int(rng.integers(0, 100)),
            start=rng.uniform(),
            end_factor=rng.uniform(),
            step_size=int(rng.integers(1, 100)),
            gamma=rng.uniform(0.1, 1.0),
        )
        for kind in SCHEDULES.names()
        for _ in range(2)
    ]
    stacked = {name: np.stack([lane[name] for lane in lanes]) for name in lanes[0]}
    together = jax.jit(jax.vmap(curve))(stacked)
    alone = np.stack([curve(lane) for lane in lanes])
    np.testing.assert_allclose(together, alone, rtol=3e-7, atol=1e-37)


@pytest.mark.parametrize("warmup", [0, 1, 30])
@pytest.mark.parametrize("kind", SCHEDULES.names())
def test_every_schedule_is_a_finite_factor_at_every_update(kind, warmup):
    values = traced(kind, steps=100, warmup=warmup)
    with jax.numpy_dtype_promotion("strict"):
        shape = jax.eval_shape(factor, jnp.int32(0), values)
    assert (shape.shape, shape.dtype, shape.weak_type) == ((), jnp.float32, False)
    steps = jnp.array([0, 1, 29, 30, 31, 98, 99, 100, 101, 10**6, 2**31 - 1], jnp.int32)
    factors = np.asarray(jax.jit(jax.vmap(factor, (0, None)))(steps, values))
    assert np.isfinite(factors).all() and (factors >= 0).all()
    np.testing.assert_allclose(
        factors[0],
        1 / warmup
        if warmup
        else SCHEDULES.get(kind)(jnp.int32(0), jnp.int32(100), **{name: values[name] for name in SCHEDULES.settings(kind)}),
        rtol=1e-6,
    )


@pytest.mark.parametrize("kind", SCHEDULES.names())
def test_the_total_includes_the_warmup(kind):
    """After w updates of warmup a run of n is a run of n - w without."""
    warmup = 37
    np.testing.assert_array_equal(
        curve(traced(kind, steps=300, warmup=warmup))[warmup:], curve(traced(kind, steps=300 - warmup))[:-warmup]
    )


@pytest.mark.parametrize("kind", SCHEDULES.names())
def test_a_run_that_is_all_warmup_is_defined(kind):
    factors = np.asarray(curve(traced(kind, steps=50, warmup=50)))
    np.testing.assert_allclose(factors[:50], (np.arange(50) + 1) / 50, rtol=1e-6)
    assert np.isfinite(factors).all() and (factors >= 0).all()
