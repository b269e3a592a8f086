"""A run's lengths in optimizer steps: units, what they may not be, stretching; the segments of the schedules."""

import pytest

from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.lengths import Lengths
from hpjax.resolve import lengths, resolve

INT32_MAX = 2**31 - 1


def steps(train_size: int = 1079, **settings: object) -> tuple[Lengths, list[str]]:
    return lengths(resolve(Config(**settings)), train_size)


def error(train_size: int = 1079, **settings: object) -> str:
    with pytest.raises(ConfigError) as raised:
        steps(train_size, **settings)
    return str(raised.value)


def places(found: Lengths, quantity: str = "learning_rate") -> list[tuple[str, int, int]]:
    """Returns name, first step and length of the segments of a quantity; warmup has no name."""
    return [(segment.name, segment.start, segment.length) for segment in found.schedules[quantity]]


def warmup(found: Lengths) -> int:
    first = found.schedules["learning_rate"][0]
    return first.length if first.name == "" else 0


def end(found: Lengths) -> int:
    """Returns the step at which the schedule ends."""
    last = found.schedules["learning_rate"][-1]
    return last.start + last.length


def step_size(found: Lengths) -> int:
    """Returns the step schedule's own length."""
    return found.schedules["learning_rate"][-1].settings["step_size"]


def test_lengths_in_steps():
    found, notes = steps(
        batch_size=64,
        train_steps="10epochs",
        warmup="10%",
        schedule="step",
        step_size="0.25%",
        eval_every="1epochs",
        log_every="640examples",
        checkpoint_every="50%",
    )
    # 10 * 1079 / 64 = 168.6, 10 % of 169 is 16.9, 0.25 % is 0.4, 1079 / 64 = 16.9, half of 169 is 84.5.
    assert found._replace(schedules={}) == Lengths(
        train_steps=169,
        schedules={},
        eval_every=17,
        log_every=10,
        checkpoint_every=85,
        early_stopping_min_steps=0,
        warmup_share=17 / 169,
    )
    assert places(found) == [("", 0, 17), ("step", 17, 152)]
    assert step_size(found) == 1
    assert notes == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1080}, "batch_size is 1080; expected at most the training split's 1079 examples"),
        ({"train_steps": "0"}, "train_steps is 0; expected at least one step"),
        ({"train_steps": "0epochs"}, "train_steps is 0epochs; expected at least one step"),
        (
            {"train_steps": "10%"},
            "train_steps: '10%': a share needs something to be a share of; expected steps, epochs or examples",
        ),
        ({"train_steps": "20", "warmup": "21"}, "warmup is 21, 21 steps; expected at most the schedule's 20 steps"),
        (
            {"train_steps": "20", "warmup": "1epochs", "batch_size": 32},
            "warmup is 1epochs, 34 steps; expected at most the schedule's 20 steps",
        ),
        ({"train_steps": "20", "schedule_steps": "0"}, "schedule_steps is 0; expected at least one step"),
        ({"train_steps": "20", "schedule": "step", "step_size": "0"}, "step_size is 0; expected at least one step"),
        ({"eval_every": "0"}, "eval_every is 0; expected at least one step"),
        ({"log_every": "0"}, "log_every is 0; expected at least one step"),
        ({"checkpoint_every": "0%"}, "checkpoint_every is 0%; expected at least one step"),
        (
            {"train_steps": str(2**24), "batch_size": 128},
            "train_steps is 16777216, with batch_size 128 2147483648 examples; expected fewer than 2^31",
        ),
        ({"train_steps": str(10**12)}, "train_steps is 1000000000000, 1000000000000 steps; expected fewer than 2^31"),
        (
            {"train_steps": "20", "schedule_steps": str(2**31)},
            "schedule_steps is 2147483648, 2147483648 steps; expected fewer than 2^31",
        ),
        ({"log_every": str(2**31)}, "log_every is 2147483648, 2147483648 steps; expected fewer than 2^31"),
    ],
)
def test_refused_lengths(settings, message):
    assert error(**settings) == message


def test_the_longest_run_and_the_largest_batch_that_fit():
    found, _ = steps(train_steps=str(2**24 - 1), batch_size=128)
    assert found.train_steps == 2**24 - 1
    found, _ = steps(train_steps="1epochs", batch_size=1079)
    assert found.train_steps == 1
    # 101 % of 20 is 20.2, which is 20 steps.
    for given in ("20", "101%"):
        assert warmup(steps(train_steps="20", warmup=given)[0]) == 20


def test_a_look_later_than_the_end_is_at_the_end():
    found, _ = steps(train_steps="20", eval_every=str(INT32_MAX), log_every="21", checkpoint_every="500%")
    assert (found.eval_every, found.log_every, found.checkpoint_every) == (20, 20, 20)


SCHEDULE = {"schedule": "step", "step_size": "30", "warmup": "10", "schedule_steps": "100"}


@pytest.mark.parametrize(
    ("train_steps", "rise", "drop", "stretched"), [(250, 25, 75, "2.5"), (20, 2, 6, "0.2"), (1, 0, 1, "0.01")]
)
def test_a_schedule_of_another_length_is_stretched_and_that_is_said(train_steps, rise, drop, stretched):
    found, notes = steps(train_steps=str(train_steps), **SCHEDULE)
    assert (warmup(found), end(found), step_size(found)) == (rise, train_steps, drop)
    assert notes == [
        f"the schedule was written for 100 steps, the run has {train_steps}: warmup and schedule are stretched by "
        f"{stretched} (--norescale_schedule keeps them)"
    ]


def test_a_schedule_of_another_length_can_be_kept_and_that_is_said():
    found, notes = steps(train_steps="250", rescale_schedule=False, **SCHEDULE)
    assert (found.train_steps, warmup(found), end(found), step_size(found)) == (250, 10, 100, 30)
    assert notes == ["the schedule ends at step 100, the run at step 250"]


def test_shares_are_of_the_length_the_schedule_was_written_for():
    settings = {"schedule": "step", "step_size": "30%", "warmup": "10%", "schedule_steps": "100", "train_steps": "250"}
    kept, _ = steps(rescale_schedule=False, **settings)
    assert (warmup(kept), step_size(kept)) == (10, 30)
    stretched, _ = steps(**settings)
    assert (warmup(stretched), step_size(stretched)) == (25, 75)


def test_the_same_length_in_other_words_is_not_stretched():
    found, notes = steps(train_steps="17", schedule_steps="1epochs", batch_size=64)
    assert (end(found), notes) == (17, [])


def test_step_sizes_beyond_int32_never_drop():
    found, _ = steps(train_steps="1000", schedule="step", schedule_steps="1000000", warmup="0", step_size=str(INT32_MAX))
    assert step_size(found) == round(INT32_MAX / 1000)
    found, _ = steps(train_steps="1000", schedule="step", schedule_steps="10", step_size=str(INT32_MAX))
    assert step_size(found) == INT32_MAX


# Schedules of more than a name


def test_joined_schedules_have_a_place_each():
    found, _ = steps(
        train_steps="100",
        warmup="10",
        schedule="linear(start_factor=0.5,end_factor=1):20%, constant:30, cosine(end_factor=0.1)",
        weight_decay=0.1,
        weight_decay_schedule="cosine",
        momentum_schedule="linear(start_factor=0.5,end_factor=1):50%, constant",
        batch_size_schedule="step(step_size=25,gamma=2)",
    )
    assert places(found) == [("", 0, 10), ("linear", 10, 20), ("constant", 30, 30), ("cosine", 60, 40)]
    # Warmup is the learning rate's alone.
    assert places(found, "weight_decay") == [("cosine", 0, 100)]
    assert places(found, "momentum") == [("linear", 0, 50), ("constant", 50, 50)]
    assert places(found, "batch_size") == [("step", 0, 100)]
    assert set(steps()[0].schedules) == {"learning_rate"}


def test_joined_schedules_are_stretched_together():
    found, _ = steps(train_steps="200", schedule_steps="100", schedule="constant:30, cosine", warmup="10")
    assert places(found) == [("", 0, 20), ("constant", 20, 60), ("cosine", 80, 120)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"schedule": "constant:15, cosine:6"},
            "schedule: 'cosine:6' and those before it end at step 21; expected at most the schedule's 20 steps",
        ),
        (
            {"schedule": "constant:20, cosine"},
            "schedule: the parts before 'cosine' leave none of the 20 steps for it; expected at least one step",
        ),
        (
            {"schedule": "constant:0, cosine"},
            "schedule: the length of 'constant' is 0, 0 steps; expected at least one step",
        ),
        ({"schedule": "constant, cosine"}, "schedule: 'constant' has no length; only the last part may go without"),
        ({"warmup": "5", "warmup_shape": "exponential"}, "warmup_start_factor is 0; expected a number > 0 for warmup_shape"),
        (
            {"momentum_schedule": "cosine", "schedule": "onecycle", "momentum_low": 0.5},
            "momentum_schedule and momentum_low are both set; expected one of them",
        ),
        (
            {"schedule": "onecycle", "momentum_low": 0.95},
            "momentum_low is 0.95; expected at most momentum, 0.9",
        ),
        (
            {"schedule": "onecycle", "momentum_low": 0.5, "optimizer": "sgd"},
            "momentum_low is set; expected an optimizer with momentum or beta1 to cycle",
        ),
        ({"momentum_schedule": "cosine", "optimizer": "sgd"}, "momentum_schedule is not used by optimizer 'sgd'; "),
        (
            {"early_stopping_min_steps": str(2**31), "early_stopping_patience": 1},
            "early_stopping_min_steps is 2147483648, 2147483648 steps; expected fewer",
        ),
        ({"inspect": ("norms",), "inspect_every": "0"}, "inspect_every is 0; expected at least one step"),
    ],
)
def test_refused_schedules(settings, message):
    assert error(train_steps="20", **settings).startswith(message)


def test_early_stopping_and_looks_inside_in_steps():
    found, _ = steps(
        train_steps="100", early_stopping_min_steps="30%", early_stopping_patience=1, inspect=("norms",), inspect_every="7"
    )
    assert (found.early_stopping_min_steps, found.inspect_every) == (30, 7)
    # Longer than the run is as good as never.
    assert (
        steps(train_steps="100", early_stopping_min_steps="500", early_stopping_patience=1)[0].early_stopping_min_steps
        == 500
    )
