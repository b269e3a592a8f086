"""Schedules against torch.optim.lr_scheduler and NumPy in float64, 1e-6 relative over 10,000 steps."""

import warnings

import jax
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hpjax.schedules import SCHEDULES
from hpjax.schedules import factors as factors_of
from needed import needed
from schedule_values import STEPS, curves, packed

TOLERANCE = 1e-6
"""Relative. The largest difference measured over thousands of draws is 6e-7, most are below 3e-7."""

schedules = pytest.mark.parametrize("schedule", SCHEDULES.names())
# A run of torch's takes a tenth of a second: shrinking a failure would take minutes.
found = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
drawn = settings(deadline=None, max_examples=25, phases=found)


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


peaks = floats(1e-6, 10.0)
lengths = st.integers(1, STEPS)
factors = st.just(0.0) | floats(1e-6, 1.0)
# Close to 1 a rate keeps its digits over many steps; far from it, it soon leaves float32's range.
rates = floats(0.5, 1.0) | floats(1e-6, 1e-2).map(lambda d: 1 - d) | floats(1e-6, 5e-3).map(lambda d: 1 + d)


def assert_close(got, expected, peak: float = 1.0) -> None:
    """Relative 1e-6; values below float32's normal range (1.2e-38) may be flushed to zero, and stay below its largest."""
    expected = np.minimum(expected, peak * float(np.finfo(np.float32).max))
    np.testing.assert_allclose(np.asarray(got, np.float64), expected, rtol=TOLERANCE, atol=1.2e-38 * max(peak, 1.0))


def oracle(torch, make, peak: float, steps: int = STEPS, momentum: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Returns torch's learning rates and momenta with the scheduler that `make(optimizer)` gives."""
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([parameter], lr=peak, momentum=momentum)
    scheduler = make(optimizer)
    # Updates would change nothing that is looked at.
    optimizer._opt_called = True
    rates, momenta = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls a deprecated form of step.
        for t in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            momenta.append(optimizer.param_groups[0]["momentum"])
            if t + 1 < steps:
                scheduler.step()
    return np.array(rates), np.array(momenta)


ORACLES = {
    "constant": ({"start_factor": st.just(1.0)}, lambda s, o, p, T, v: s.ConstantLR(o, factor=1.0)),
    "step": (
        {"step_size": lengths, "gamma": floats(0.01, 1.1)},
        lambda s, o, p, T, v: s.StepLR(o, v["step_size"], v["gamma"]),
    ),
    "multistep": (
        {"milestones": st.lists(lengths, max_size=16), "gamma": floats(0.01, 3.0)},
        lambda s, o, p, T, v: s.MultiStepLR(o, v["milestones"], v["gamma"]),
    ),
    "exponential": ({"gamma": rates}, lambda s, o, p, T, v: s.ExponentialLR(o, v["gamma"])),
    "linear": (
        {"start_factor": floats(1e-3, 1.0), "end_factor": factors},
        lambda s, o, p, T, v: s.LinearLR(o, v["start_factor"], v["end_factor"], T),
    ),
    "polynomial": ({"power": floats(0.1, 8.0)}, lambda s, o, p, T, v: s.PolynomialLR(o, T, v["power"])),
    "cosine": ({"end_factor": factors}, lambda s, o, p, T, v: s.CosineAnnealingLR(o, T, p * v["end_factor"])),
    "cosine_restarts": (
        {"cycle_length": lengths, "cycle_mult": st.integers(1, 5), "end_factor": factors},
        lambda s, o, p, T, v: s.CosineAnnealingWarmRestarts(o, v["cycle_length"], v["cycle_mult"], p * v["end_factor"]),
    ),
    "cyclic": (
        {
            "step_size_up": lengths,
            "step_size_down": lengths,
            "cycle_mode": st.sampled_from(["triangular", "triangular2", "exp_range"]),
            "gamma": rates.filter(lambda g: g <= 1),
            "start_factor": floats(1e-4, 1.0),
            "momentum_low": floats(1e-6, 0.9),
        },
        lambda s, o, p, T, v: s.CyclicLR(
            o,
            p * v["start_factor"],
            p,
            v["step_size_up"],
            v["step_size_down"],
            v["cycle_mode"],
            v["gamma"],
            base_momentum=v["momentum_low"],
            max_momentum=0.9,
        ),
    ),
    "onecycle": (
        {
            "pct_start": floats(0.0, 1.0),
            "div_factor": floats(1.0, 100.0),
            "final_div_factor": floats(1.0, 1e5),
            "three_phase": st.booleans(),
            "anneal": st.sampled_from(["cosine", "linear"]),
            "momentum_low": floats(1e-6, 0.9),
        },
        lambda s, o, p, T, v: s.OneCycleLR(
            o,
            p,
            total_steps=T,
            pct_start=v["pct_start"],
            div_factor=v["div_factor"],
            final_div_factor=v["final_div_factor"],
            three_phase=v["three_phase"],
            anneal_strategy=v["anneal"].replace("cosine", "cos"),
            base_momentum=v["momentum_low"],
            max_momentum=0.9,
        ),
    ),
}


@pytest.mark.parametrize("name", ORACLES)
@drawn
@given(data=st.data(), peak=peaks, total=lengths)
def test_schedule_is_torch(torch, name, data, peak, total):
    strategies, make = ORACLES[name]
    given = data.draw(st.fixed_dictionaries(strategies))
    values = {setting: tuple(map(str, v)) if setting == "milestones" else v for setting, v in given.items()}
    # What torch leaves at the end of its run, or lets rise again, is compared until there.
    total = max(total, 2) if name == "onecycle" else total
    steps = min(total + (name == "cosine"), STEPS) if name in ("onecycle", "cosine") else STEPS
    try:
        lr, momentum = oracle(torch, lambda o: make(torch.optim.lr_scheduler, o, peak, total, given), peak, steps)
    except ZeroDivisionError:
        # torch has no onecycle with a phase of no length.
        return
    got = np.asarray(curves(packed(name, steps=total, **values)), np.float64)
    if name == "linear":
        # torch adds up differences, and what they leave of an end at 0 is a rounding error.
        lr = np.where(np.abs(lr) < 1e-12 * peak, 0.0, lr)
    assert_close(peak * got[:steps, 0], lr, peak)
    if "momentum_low" in given:
        assert_close(0.9 * got[:steps, 2], momentum)
    else:
        assert (got[:, 2] == 1).all()
    if steps < STEPS:
        assert (got[total:, 0] == got[-1, 0]).all()


def test_every_schedule_has_an_oracle():
    assert set(ORACLES) | set(REFERENCES) | {"plateau"} == set(SCHEDULES.names())


def _restarts(t, T, v):
    values, start, length, cycle = np.empty(t.size), 0, v["cycle_length"], 0
    while start < t.size:
        x = t[start : start + length] - start
        high = v["cycle_decay"] ** cycle
        values[start : start + length] = v["end_factor"] + (high - v["end_factor"]) * (1 + np.cos(np.pi * x / length)) / 2
        start, length, cycle = start + length, length * v["cycle_mult"], cycle + 1
    return values


def _wsd(t, T, v):
    length = min(v["decay_length"], T)
    x = np.clip((np.minimum(t, T) - (T - length)) / length, 0, 1)
    shape = {"linear": 1 - x, "sqrt": 1 - np.sqrt(x), "cosine": np.cos(np.pi / 2 * x) ** 2}[v["decay_shape"]]
    return v["end_factor"] + (1 - v["end_factor"]) * np.where(x == 1, 0.0, shape)


def _units(t, v):
    return np.floor(t // v["decay_steps"]) if v["staircase"] else t / v["decay_steps"]


REFERENCES = {
    "exponential": (
        {"gamma": floats(1e-3, 1e3), "decay_steps": lengths, "staircase": st.booleans(), "start_factor": floats(1e-6, 1.0)},
        lambda t, T, v: v["start_factor"] * np.minimum(v["gamma"] ** _units(t, v), np.finfo(np.float32).max),
    ),
    "inverse_time": (
        {"decay_steps": lengths, "decay_rate": floats(1e-3, 1e3), "staircase": st.booleans()},
        lambda t, T, v: 1 / (1 + v["decay_rate"] * _units(t, v)),
    ),
    "polynomial": (
        {"power": floats(0.1, 8.0), "end_factor": factors},
        lambda t, T, v: v["end_factor"] + (1 - v["end_factor"]) * (1 - np.minimum(t, T) / T) ** v["power"],
    ),
    "rex": (
        {"rex_beta": floats(0.01, 2.0)},
        lambda t, T, v: (1 - np.minimum(t, T) / T) / (1 - np.minimum(t, T) / T * (1 - v["rex_beta"])),
    ),
    "wsd": (
        {"decay_length": lengths, "decay_shape": st.sampled_from(["linear", "sqrt", "cosine"]), "end_factor": factors},
        _wsd,
    ),
    "inverse_sqrt": (
        {"ramp_steps": lengths},
        lambda t, T, v: np.where(t + 1 < v["ramp_steps"], (t + 1) / v["ramp_steps"], np.sqrt(v["ramp_steps"] / (t + 1))),
    ),
    "noam": (
        {"ramp_steps": lengths, "noam_width": st.integers(1, 8192)},
        lambda t, T, v: v["noam_width"] ** -0.5 * np.minimum((t + 1) ** -0.5, (t + 1) * v["ramp_steps"] ** -1.5),
    ),
    "cosine_restarts": (
        {
            "cycle_length": lengths,
            "cycle_mult": st.integers(1, 5),
            "cycle_decay": floats(0.5, 1.0) | st.just(1.0),
            "end_factor": st.just(0.0),
        },
        _restarts,
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
@settings(deadline=None, max_examples=60, phases=found)
@given(data=st.data(), total=lengths)
def test_schedule_is_its_formula(name, data, total):
    strategies, formula = REFERENCES[name]
    given = data.draw(st.fixed_dictionaries(strategies))
    if name == "wsd":
        given["decay_length"] = min(given["decay_length"], total)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        expected = formula(np.arange(STEPS, dtype=np.float64), total, given)
    assert_close(curves(packed(name, steps=total, **given))[:, 0], expected)


def test_wsd_falls_over_its_last_fifth_by_default():
    np.testing.assert_array_equal(curves(packed("wsd", steps=5000)), curves(packed("wsd", steps=5000, decay_length=1000)))


def test_the_ramp_of_a_range_test_ends_at_the_peak():
    got = curves(packed("exponential(start_factor=1e-5,gamma=1e5,decay_steps=100%)", steps=2000))[:2001, 0]
    assert_close(got, 10 ** np.linspace(-5, 0, 2001))


@pytest.mark.parametrize("cycle_mult", [1, 2, 3])
def test_restarts_come_at_the_right_step_however_many(cycle_mult):
    got = np.asarray(curves(packed("cosine_restarts", cycle_length=1, cycle_mult=cycle_mult, end_factor=0.0)))[:, 0]
    starts = np.arange(STEPS) if cycle_mult == 1 else (cycle_mult ** np.arange(14) - 1) // (cycle_mult - 1)
    starts = starts[starts < STEPS]
    assert (got[starts] == 1).all()
    if cycle_mult > 1:
        assert (got[starts[2:] - 1] < 0.8).all()


# Warmup


SHAPES = {
    "linear": lambda x, start: start + (1 - start) * x,
    "cosine": lambda x, start: start + (1 - start) * np.sin(np.pi / 2 * x) ** 2,
    "exponential": lambda x, start: start ** (1 - x),
}


@pytest.mark.parametrize("shape", SHAPES)
@settings(deadline=None, max_examples=20, phases=found)
@given(warmup=lengths, start=floats(1e-6, 1.0))
def test_warmup(shape, warmup, start):
    got = curves(packed("constant", warmup=warmup, shape=shape, start=start))[:, 0]
    x = np.minimum((np.arange(STEPS) + 1) / warmup, 1)
    assert_close(got, SHAPES[shape](x, start))


@pytest.mark.parametrize("name", ["cosine", "step", "linear", "polynomial", "exponential"])
@drawn
@given(data=st.data(), peak=peaks, warmup=st.integers(1, 3000), rest=st.integers(1, 3000), start=factors)
def test_warmup_and_a_schedule_are_torch_sequential(torch, name, data, peak, warmup, rest, start):
    strategies, make = ORACLES[name]
    given = data.draw(st.fixed_dictionaries(strategies))
    schedulers = torch.optim.lr_scheduler

    def joined(optimizer):
        ramp = schedulers.LambdaLR(optimizer, lambda t: start + (1 - start) * (t + 1) / warmup)
        return schedulers.SequentialLR(optimizer, [ramp, make(schedulers, optimizer, peak, rest, given)], [warmup])

    steps = warmup + rest
    expected, _ = oracle(torch, joined, peak, steps)
    got = np.asarray(curves(packed(name, steps=steps, warmup=warmup, start=start, **given))[:steps, 0], np.float64)
    assert_close(peak * got, expected, peak)


@schedules
def test_the_total_includes_the_warmup(schedule):
    """After w updates of warmup a run of n is a run of n - w without."""
    settings = {**needed(schedule), **({"decay_length": "100"} if schedule == "wsd" else {})}
    settings = {setting: {"20%": "60", ("30%", "60%"): ("90", "180")}.get(v, v) for setting, v in settings.items()}
    np.testing.assert_array_equal(
        curves(packed(schedule, steps=300, warmup=37, **settings))[37:],
        curves(packed(schedule, steps=263, **settings))[:-37],
    )


@schedules
def test_a_run_that_is_all_warmup_is_defined(schedule):
    got = np.asarray(curves(packed(schedule, steps=50, warmup=50, **needed(schedule))))[:, 0]
    np.testing.assert_allclose(got[:50], (np.arange(50) + 1) / 50, rtol=1e-6)
    assert np.isfinite(got).all() and (got >= 0).all()


# Joined lists


@drawn
@given(
    peak=peaks,
    lengths=st.tuples(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 3000)),
    first=floats(1e-3, 1.0),
    gamma=floats(0.999, 1.0),
    end=factors,
)
def test_a_joined_list_is_torch_sequential(torch, peak, lengths, first, gamma, end):
    a, b, c = lengths
    schedulers = torch.optim.lr_scheduler

    def joined(optimizer):
        return schedulers.SequentialLR(
            optimizer,
            [
                schedulers.LinearLR(optimizer, first, 1.0, a),
                schedulers.ConstantLR(optimizer, 1.0),
                schedulers.ExponentialLR(optimizer, gamma),
                schedulers.CosineAnnealingLR(optimizer, STEPS, peak * end),
            ],
            [a, a + b, a + b + c],
        )

    steps = STEPS if a + b + c < STEPS else a + b + c
    expected, _ = oracle(torch, joined, peak, steps)
    text = f"linear(start_factor={first},end_factor=1):{a}, constant:{b}, exponential(gamma={gamma}):{c}, cosine"
    got = curves(packed(text, steps=a + b + c + STEPS, end_factor=end))
    count = min(steps, STEPS)
    assert_close(peak * np.asarray(got, np.float64)[:count, 0], expected[:count], peak)


@drawn
@given(factor=floats(1e-3, 1.0), length=st.integers(1, 5000), peak=peaks)
def test_torch_constant_is_two_parts(torch, factor, length, peak):
    expected, _ = oracle(torch, lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor, length), peak)
    got = np.asarray(curves(packed(f"constant(start_factor={factor}):{length}, constant")), np.float64)
    assert_close(peak * got[:, 0], expected, peak)


def test_a_list_of_one_schedule_is_what_its_parts_are():
    got = np.asarray(curves(packed("rex:3000, rex:1000, rex", steps=9000)))[:, 0]
    np.testing.assert_array_equal(got[:3000], curves(packed("rex", steps=3000))[:3000, 0])
    np.testing.assert_array_equal(got[3000:4000], curves(packed("rex", steps=1000))[:1000, 0])
    np.testing.assert_array_equal(got[4000:9000], curves(packed("rex", steps=5000))[:5000, 0])


def test_momentum_is_cycled_only_by_the_parts_that_say_so():
    text = "constant:100, cyclic(step_size_up=50,momentum_low=0.45):400, cyclic(step_size_up=50)"
    got = np.asarray(curves(packed(text, warmup=10, momentum=0.9)))[:, 2]
    assert (got[:110] == 1).all() and (got[510:] == 1).all()
    assert_close(got[110:510], 1 - 0.5 * (1 - np.abs(np.arange(400) % 100 - 50) / 50))


def test_a_momentum_of_zero_stays_zero():
    assert_close(curves(packed("onecycle(momentum_low=0)", momentum=0.0))[:, 2], np.ones(STEPS))


def test_every_quantity_has_its_own_schedule_and_time():
    others = {
        "weight_decay": "linear",
        "momentum": "step(step_size=7,gamma=0.5)",
        "batch_size": "constant:50%, constant(start_factor=4)",
    }
    values = packed("cosine", steps=100, others=others)
    alone = [packed(text, steps=100) for text in ("cosine", *others.values())]
    times = np.array([30, 20, 15, 50], np.int32)
    got = jax.jit(factors_of)(times, values)
    expected = [factors_of(np.full(4, t, np.int32), one)[0] for t, one in zip(times, alone, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=3e-7)
