"""What holds for every registered schedule, and for one that a test registers: traced, finite, clamped, refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpjax import schedules
from hpjax.config import FIELDS, Config, kind
from hpjax.errors import ConfigError
from hpjax.registry import Scalar
from hpjax.resolve import lengths, resolve, traced
from hpjax.schedules import SCHEDULES
from hpjax.schedules.forms import call, is_length, number_of
from hpjax.schedules.precise import Wide, divide, power, wide
from hpjax.settings.fields import Length, choices
from needed import needed
from schedule_values import STEPS, at, packed

ENDLESS = {"step", "multistep", "exponential", "inverse_time", "inverse_sqrt", "noam", "cosine_restarts", "cyclic"}
"""Schedules that go on after their steps, each for it says so."""

TIMES = np.array([0, 1, 2, 49, 50, 98, 99, 100, 101, 10**6, 2**24 + 1, 2**31 - 2, 2**31 - 1], np.int32)


def other(name: str, setting: str, rng: np.random.Generator) -> object:
    """Returns a value of a setting, drawn anew."""
    if setting not in FIELDS:
        return type(SCHEDULES.own(name)[setting])(rng.integers(1, 90))
    words, of = choices(FIELDS[setting].metadata["domain"]), kind(setting)
    if words:
        return str(rng.choice(words))
    if of is bool:
        return bool(rng.integers(2))
    if of is Length or of is int:
        return str(rng.integers(1, 90)) if of is Length else int(rng.integers(1, 90))
    if of is float:
        return float(rng.uniform(0.1, 0.9))
    return tuple(str(milestone) for milestone in rng.integers(1, 90, int(rng.integers(1, 16))))


def settings_of(name: str, rng: np.random.Generator) -> dict[str, object]:
    return {setting: other(name, setting, rng) for setting in SCHEDULES.settings(name)}


def is_traced(name: str, rng: np.random.Generator) -> None:
    """Whatever its settings, joined or alone, one program serves."""
    fresh = jax.jit(functools.partial(at.__wrapped__))
    for i in range(6):
        text = name if i % 2 else f"constant:30, {name}"
        values = packed(text, steps=100, warmup=int(rng.integers(0, 50)), momentum=1.0, **settings_of(name, rng))
        assert np.isfinite(fresh(TIMES, values, np.float32(0.5))).all()
    assert fresh._cache_size() == 1


def is_a_lane_beside_others(name: str, rng: np.random.Generator) -> None:
    """Lanes of other schedules and of lists change nothing."""
    texts = [name, "cosine", f"linear:20%, {name}:30%, rex", name]
    lanes = [packed(text, steps=100, warmup=5, momentum=1.0, **settings_of(name, rng)) for text in texts]
    stacked = {key: np.stack([lane[key] for lane in lanes]) for key in lanes[0]}
    together = jax.jit(jax.vmap(at, (None, 0, None)))(TIMES, stacked, np.float32(0.5))
    alone = np.stack([at(TIMES, lane, np.float32(0.5)) for lane in lanes])
    np.testing.assert_allclose(together, alone, rtol=5e-7, atol=1e-37)


def is_finite_everywhere(name: str, rng: np.random.Generator) -> None:
    """A finite factor >= 0 at every step up to 2^31 - 1, for the shortest and longest runs, defaults and other values."""
    for steps in (1, 100, 2**31 - 1):
        for given in (needed(name), settings_of(name, rng)):
            got = np.asarray(at(TIMES, packed(name, steps=steps, momentum=1.0, **given), np.float32(1.0)))
            assert np.isfinite(got).all() and (got >= 0).all(), (steps, given)


def stays_at_its_end(name: str, rng: np.random.Generator) -> None:
    if name in ENDLESS:
        return
    got = np.asarray(at(TIMES, packed(name, steps=100, momentum=1.0, **settings_of(name, rng)), np.float32(0.5)))
    assert (got[TIMES >= 100] == got[TIMES == 100]).all()


def is_float32_whatever_comes(name: str, rng: np.random.Generator) -> None:
    """Called by itself, with its own defaults, with strict promotion, in float64 mode too."""
    given = {
        setting: value
        for setting, value in settings_of(name, rng).items()
        if not is_length_of(setting) and kind_of(setting) is float
    }
    given |= {setting: 7 for setting in needed(name) if is_length_of(setting)}
    given = {setting: np.array([3, 5], np.int32) if setting == "milestones" else value for setting, value in given.items()}
    expected = None
    for x64 in (False, True):
        with jax.enable_x64(x64), jax.numpy_dtype_promotion("strict"):
            got = call(name, jnp.int32(5), jnp.int32(100), given)
        assert (got.shape, got.dtype, got.weak_type) == ((), jnp.float32, False)
        expected = got if expected is None else expected
        np.testing.assert_allclose(got, expected, rtol=3e-7)


def is_length_of(setting: str) -> bool:
    return setting in FIELDS and is_length(setting)


def kind_of(setting: str) -> object:
    return kind(setting) if setting in FIELDS else None


def created_is_the_same(name: str, rng: np.random.Generator) -> None:
    """`create` gives what a trial sees; numbers may be traced there."""
    given = settings_of(name, rng)
    values = packed(name, steps=100, warmup=9, momentum=1.0, **given)
    made = schedules.create(name, total_steps=100, warmup=9, peak=2.0, **given)
    expected = 2 * np.asarray(at(TIMES, values, np.float32(1.0)))[:, 0]
    np.testing.assert_allclose(jax.vmap(made)(TIMES), expected, rtol=5e-7, atol=1e-37)

    numbers = {setting: number_of(setting, value) for setting, value in given.items() if setting != "milestones"}
    numbers = {setting: jnp.asarray(int(v) if is_length_of(setting) else v) for setting, v in numbers.items()}
    rest = {setting: value for setting, value in given.items() if setting not in numbers}

    @jax.jit
    def traced_curve(numbers, total, peak):
        made = schedules.create(name, total_steps=total, warmup=total - 91, peak=peak, **numbers, **steps_of(rest))
        return jax.vmap(made)(TIMES)

    # Numbers that come as float32 have no further digits.
    times = TIMES < 10**4
    np.testing.assert_allclose(traced_curve(numbers, 100, 2.0)[times], expected[times], rtol=2e-5, atol=1e-37)


def steps_of(settings: dict[str, object]) -> dict[str, object]:
    return {name: [int(one) for one in value] for name, value in settings.items()}


def bad_arguments_are_refused(name: str, rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match=f"^schedule: schedule '{name}' takes no 'end_facto'"):
        resolve(Config(schedule=f"{name}(end_facto=1)"))
    for setting in SCHEDULES.settings(name):
        if setting in FIELDS:
            for bad in ("x", "-1"):
                with pytest.raises(ConfigError, match=f"^{setting}"):
                    resolve(Config(schedule=f"{name}({setting}={bad})"))
    for setting in needed(name):
        with pytest.raises(ConfigError, match=f"needs it: give --{setting}=VALUE$"):
            resolve(Config(schedule=f"linear:1, {name}", **{s: v for s, v in needed(name).items() if s != setting}))


def runs_by_its_flags(name: str, rng: np.random.Generator) -> None:
    """Settings by flags and inside parentheses are the same; a resolved config resolves to itself."""
    given = {setting: value for setting, value in settings_of(name, rng).items() if setting in FIELDS}
    given = {**given, **({"momentum_low": 0.3} if "momentum_low" in given else {})}
    if given.get("cycle_mode", "exp_range") != "exp_range":
        given.pop("gamma", None)
    flags = resolve(Config(schedule=name, train_steps=100, **given))
    inside = ",".join(f"{key}={','.join(v) if isinstance(v, tuple) else v}" for key, v in given.items())
    inline = resolve(Config(schedule=f"{name}({inside})", train_steps=100))
    tables = [traced(config, lengths(config, 1000)[0]) for config in (flags, inline, resolve(inline))]
    for table in tables[1:]:
        for key in ("schedule_ints", "schedule_floats"):
            np.testing.assert_array_equal(table[key], tables[0][key])
    assert resolve(inline) == inline
    assert resolve(flags) == flags


CHECKS = [
    is_traced,
    is_a_lane_beside_others,
    is_finite_everywhere,
    stays_at_its_end,
    is_float32_whatever_comes,
    created_is_the_same,
    bad_arguments_are_refused,
    runs_by_its_flags,
]


@pytest.mark.parametrize("name", SCHEDULES.names())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_schedule(check, name, rng):
    check(name, rng)


def test_a_new_schedule_passes_by_being_registered(monkeypatch, rng):
    monkeypatch.setattr(SCHEDULES, "_entries", dict(SCHEDULES._entries))
    monkeypatch.setattr(SCHEDULES, "_imported", {})
    at.clear_cache()

    @SCHEDULES.register
    def halves(step: jax.Array, total_steps: jax.Array, *, end_factor: Scalar = 0.1, pieces: Scalar = 3) -> jax.Array:
        """Falls in `pieces` equal stairs from 1 to `end_factor`; `pieces` is a setting of its own, given by --set."""
        total, pieces = jnp.maximum(total_steps, 1), jnp.maximum(jnp.asarray(pieces, jnp.int32), 1)
        stair = jnp.floor(
            jnp.minimum(step, total).astype(jnp.float32) / total.astype(jnp.float32) * pieces.astype(jnp.float32)
        )
        share = stair / pieces.astype(jnp.float32)
        return 1.0 - share + share * jnp.asarray(end_factor, jnp.float32)

    for check in CHECKS:
        check("halves", rng)
    config = resolve(Config(schedule="halves", train_steps=100, set=("pieces=2",)))
    inline = resolve(Config(schedule="halves(pieces=2)", train_steps=100))
    got = [at(TIMES, traced(c, lengths(c, 1000)[0]), np.float32(1.0))[:, 0] for c in (config, inline)]
    np.testing.assert_array_equal(*got)
    np.testing.assert_allclose(got[0][TIMES == 50], 0.55)
    at.clear_cache()


def test_only_what_is_scheduled_is_computed(rng):
    """The loop over the quantities runs once for a learning rate alone, and its switch is in the program once."""
    values = packed("cosine")
    program = jax.jit(schedules.factors).lower(np.zeros(4, np.int32), values).as_text()
    assert program.count("stablehlo.case") == 1
    assert values["schedule_ints"][0, 0, 4] == 1
    assert packed("cosine", others={"weight_decay": "linear"})["schedule_ints"][0, 0, 4] == 2
    assert packed("onecycle(momentum_low=0.5)")["schedule_ints"][0, 0, 4] == 3


# Powers of two floats


def test_power(rng):
    base = np.concatenate([1 - 10 ** rng.uniform(-7, -0.01, 20_000), 10 ** rng.uniform(-37, 37, 20_000)])
    # Beyond 10^8 steps the 48 bits of the base itself are too few.
    limit = np.minimum(80 / np.abs(np.log(base)), 1e8)
    exponent = np.floor(rng.uniform(size=base.size) * limit).astype(np.int32)
    high = base.astype(np.float32)
    low = (base - high).astype(np.float32)
    got = jax.jit(jax.vmap(lambda high, low, t: power(Wide(high, low), t)))(high, low, exponent)
    np.testing.assert_allclose(got, np.exp(exponent * np.log(base.astype(np.longdouble))).astype(float), rtol=5e-7)


@pytest.mark.parametrize(
    ("base", "exponent", "expected"),
    [
        (0.5, 2**31 - 1, 0.0),
        (2.0, 2**31 - 1, np.finfo(np.float32).max),
        (1.0, 2**31 - 1, 1.0),
        (0.0, 0, 1.0),
        (0.0, 3, 0.0),
        (0.5, 100, 2.0**-100),
        (3e38, 1, 3e38),
        (1.2e-38, 1, 1.2e-38),
    ],
)
def test_power_at_the_edges(base, exponent, expected):
    assert power(base, jnp.int32(exponent)) == np.float32(expected)


def test_whole_quotients_are_whole(rng):
    """A staircase falls at its step, not one later for a rounding."""
    size = rng.integers(1, 4096, 20_000).astype(np.int32)
    count = rng.integers(0, (2**31 - 1) // size).astype(np.int32)
    quotient = jax.jit(jax.vmap(lambda a, b: divide(wide(a), wide(b))))(size * count, size)
    np.testing.assert_array_equal(np.float64(quotient.high) + np.float64(quotient.low), count)


def test_stairs_of_exponential_and_inverse_time_come_in_time(rng):
    for size in (1, 3, 7, 49, 97, int(rng.integers(2, 300))):
        times = np.arange(STEPS, dtype=np.int32)
        got = at(times, packed(f"inverse_time(decay_steps={size},staircase=true)"), np.float32(1.0))[:, 0]
        np.testing.assert_allclose(got, 1 / (1 + times // size), rtol=1e-6)
