"""Schedules as text: read, refused by name, put into steps; and what `resolve` makes of them."""

import numpy as np
import pytest

from hpjax import schedules
from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.resolve import lengths, resolve, traced
from hpjax.schedules import SCHEDULES, text

KNOWN = ", ".join(SCHEDULES.names())


def segments(quantity: str = "learning_rate", train_size: int = 1000, **settings: object):
    found, _ = lengths(resolve(Config(batch_size=10, **settings)), train_size)
    return [(name or "warmup", start, length) for name, start, length, *_ in found.schedules[quantity]]


def error(**settings: object) -> str:
    with pytest.raises(ConfigError) as raised:
        lengths(resolve(Config(batch_size=10, **{"train_steps": "1000", **settings})), 1000)
    return str(raised.value)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("cosine", [("cosine", {}, None)]),
        ("cosine(end_factor=0.1)", [("cosine", {"end_factor": 0.1}, None)]),
        (" cosine ( end_factor = 0.1 ) : 3 epochs ", [("cosine", {"end_factor": 0.1}, "3epochs")]),
        ("rex:.5%", [("rex", {}, ".5%")]),
        (
            "multistep(milestones=30%, 60%,gamma=0.2):50%,linear",
            [("multistep", {"milestones": ("30%", "60%"), "gamma": 0.2}, "50%"), ("linear", {}, None)],
        ),
        ("multistep(milestones=none)", [("multistep", {"milestones": ()}, None)]),
        ("onecycle(three_phase=yes,anneal=linear)", [("onecycle", {"three_phase": True, "anneal": "linear"}, None)]),
    ],
)
def test_parsed(given, parts):
    found = text.parse("schedule", given)
    assert found == [text.Part(*part) for part in parts]
    assert text.parse("schedule", text.render(found)) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cosin", f"schedule 'cosin' is unknown; did you mean 'cosine'? known: {KNOWN}"),
        ("linear:5, cosin(end_factor=0)", f"schedule 'cosin' is unknown; did you mean 'cosine'? known: {KNOWN}"),
        ("", "schedule is ''; expected schedules separated by commas, none empty"),
        ("cosine,", "schedule is 'cosine,'; expected schedules separated by commas, none empty"),
        ("cosine(", "schedule is 'cosine('; expected parentheses in pairs: name(setting=value, ...)"),
        ("cosine)", "schedule is 'cosine)'; expected parentheses in pairs: name(setting=value, ...)"),
        (
            "cosine((end_factor=1))",
            "schedule is 'cosine((end_factor=1))'; expected parentheses in pairs: name(setting=value, ...)",
        ),
        ("cosine()x", "schedule has 'cosine()x'; expected name(setting=value, ...) or name(...):LENGTH"),
        ("cosine(0.1)", "schedule: schedule 'cosine' has '0.1'; expected setting=value"),
        (
            "cosine(end_facto=0.1)",
            "schedule: schedule 'cosine' takes no 'end_facto'; did you mean 'end_factor'? it takes: end_factor",
        ),
        ("cosine(end_factor=1,end_factor=2)", "schedule: schedule 'cosine' has end_factor twice"),
        ("cosine(end_factor=-1)", "end_factor is '-1'; expected a finite number >= 0 (float32: at most 3.4e38)"),
        ("onecycle(anneal=cos)", "anneal is 'cos'; expected one of cosine, linear; did you mean 'cosine'?"),
        (
            "step(step_size=3epoch x)",
            "step_size: '3epoch x' is no length; expected for example 500, 500steps, 3epochs, 40000examples or 10%",
        ),
        (
            "cosine:3epoks",
            "schedule: '3epoks': unit 'epoks' is unknown; did you mean 'epochs'? known: steps, epochs, examples, %",
        ),
        ("cosine, linear", "schedule: 'cosine' has no length; only the last part may go without: cosine:LENGTH"),
        ("rex:1," * 8 + "rex", "schedule has 9 parts; expected at most 8"),
        ("linear:2, step", "step_size is not set; schedule 'step' needs it: give --step_size=VALUE"),
        (
            "constant:60%, cosine:50%",
            "schedule: 'cosine:50%' and those before it end at step 1100; expected at most the schedule's 1000 steps",
        ),
        ("constant:101%", "schedule: 'constant:101%' is 1010 steps; expected at most the schedule's 1000 steps"),
        (
            "constant:100%, cosine",
            "schedule: the parts before 'cosine' leave none of the 1000 steps for it; expected at least one step",
        ),
        ("constant:0, cosine", "schedule: the length of 'constant' is 0, 0 steps; expected at least one step"),
        ("step(step_size=0)", "step_size is 0; expected at least one step"),
        ("multistep(milestones=" + ",".join("1" * 17) + ")", "milestones has 17 values; expected at most 16"),
        ("no_such:net(a=1)", "schedule 'no_such:net': cannot import module 'no_such': No module named 'no_such'"),
        ("onecycle(momentum_low=0.95)", "momentum_low is 0.95; expected at most momentum, 0.9"),
    ],
)
def test_refused(given, message):
    assert error(schedule=given) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"schedule": "rex:5, cosine", "gamma": 0.5},
            "gamma is not used by schedule 'rex,cosine'; settings it uses: rex_beta, end_factor; "
            "it is for: cyclic, step, multistep, exponential, plateau",
        ),
        (
            {"momentum_low": 0.1},
            "momentum_low is not used by schedule 'constant'; settings it uses: start_factor; it is for: cyclic, onecycle",
        ),
        (
            {"schedule": "onecycle", "momentum_low": 0.5, "momentum_schedule": "linear"},
            "momentum_schedule and momentum_low are both set; expected one of them",
        ),
        ({"weight_decay_schedule": "step"}, "step_size is not set; schedule 'step' needs it: give step(step_size=VALUE)"),
        ({"weight_decay_schedule": "cosin"}, f"schedule 'cosin' is unknown; did you mean 'cosine'? known: {KNOWN}"),
        (
            {"batch_size_schedule": "cosine(x=1)"},
            "batch_size_schedule: schedule 'cosine' takes no 'x'; it takes: end_factor",
        ),
        (
            {"momentum_schedule": "plateau"},
            "momentum_schedule has 'plateau', which is for the learning rate or the batch size",
        ),
        (
            {"warmup": 5, "warmup_shape": "exponential"},
            "warmup_start_factor is 0; expected a number > 0 for warmup_shape 'exponential'",
        ),
        (
            {"warmup": "10%", "schedule": "constant:50%, cosine:50%"},
            "schedule: 'cosine:50%' and those before it end at step 1100; expected at most the schedule's 1000 steps",
        ),
        (
            {"warmup": 5, "warmup_shape": "line"},
            "warmup_shape is 'line'; expected one of linear, cosine, exponential; did you mean 'linear'?",
        ),
    ],
)
def test_refused_settings(settings, message):
    def run():
        config = resolve(Config(batch_size=10, **{"train_steps": "1000", **settings}))
        traced(config, lengths(config, 1000)[0])

    with pytest.raises(ConfigError) as raised:
        run()
    assert str(raised.value) == message


def test_lengths_of_every_unit_add_up_after_the_warmup():
    given = (
        "linear(start_factor=0.1,end_factor=1):2epochs, constant:50%, step(step_size=1):100, "
        "exponential(gamma=0.9):500examples, cosine"
    )
    assert segments(train_steps="1000", warmup="5%", schedule=given) == [
        ("warmup", 0, 50),
        ("linear", 50, 200),
        ("constant", 250, 500),
        ("step", 750, 100),
        ("exponential", 850, 50),
        ("cosine", 900, 100),
    ]


def test_a_last_part_may_end_before_the_run():
    assert segments(train_steps="1000", schedule="linear:10, cosine:100") == [("linear", 0, 10), ("cosine", 10, 100)]


def test_all_lengths_are_stretched_with_the_schedule():
    given = "exponential(gamma=0.5):30%, step(step_size=7):30, wsd(decay_length=10)"
    config = resolve(Config(batch_size=10, train_steps="250", schedule_steps="100", warmup="10", schedule=given))
    found = lengths(config, 1000)[0].schedules["learning_rate"]
    assert [segment[1:3] for segment in found] == [(0, 25), (25, 75), (100, 75), (175, 75)]
    # Where no drop has to come at a whole step, nothing is rounded.
    assert found[1].settings["decay_steps"] == 2.5
    assert (found[2].settings["step_size"], found[3].settings["decay_length"]) == (18, 25)
    kept = resolve(config.replace(rescale_schedule=False))
    assert [segment[1:3] for segment in lengths(kept, 1000)[0].schedules["learning_rate"]] == [
        (0, 10),
        (10, 30),
        (40, 30),
        (70, 30),
    ]


def test_settings_in_parentheses_override_flags():
    config = resolve(Config(schedule="cosine(end_factor=0.1):5, linear:3, linear(end_factor=0.3)", end_factor=0.2))
    assert config.schedule == (
        "cosine(end_factor=0.1):5, linear(start_factor=1.0,end_factor=0.2):3, linear(start_factor=1.0,end_factor=0.3)"
    )
    assert resolve(config) == config


def test_the_other_quantities_take_no_flags():
    config = resolve(
        Config(
            schedule="cosine", end_factor=0.2, weight_decay=0.1, weight_decay_schedule="cosine", momentum_schedule="linear"
        )
    )
    assert config.weight_decay_schedule == "cosine(end_factor=0.0)"
    assert config.momentum_schedule == "linear(start_factor=1.0,end_factor=0.0)"
    assert resolve(config) == config


@pytest.mark.parametrize(("optimizer", "highest"), [("momentum", {"momentum": 0.8}), ("adamw", {"beta1": 0.8})])
def test_the_highest_of_a_cycled_momentum_is_the_optimizers(optimizer, highest):
    given = {"schedule": "onecycle", "momentum_low": 0.4, "train_steps": "100"}
    config = resolve(Config(optimizer=optimizer, **highest, **given))
    found = lengths(config, 1000)[0].schedules["momentum"]
    assert [(one.name, one.momentum, one.settings["momentum_low"]) for one in found] == [("onecycle", True, 0.5)]


def test_packed_tables_have_one_shape():
    tables = [
        traced(config, lengths(config, 1000)[0])
        for config in (
            resolve(Config(train_steps="100")),
            resolve(
                Config(
                    train_steps="100", schedule="rex:1," * 7 + "rex", warmup=3, batch_size_schedule="constant:5, constant"
                )
            ),
        )
    ]
    for name in ("schedule_ints", "schedule_floats"):
        assert len({(table[name].shape, table[name].dtype) for table in tables}) == 1
    assert tables[0]["schedule_ints"].shape[:2] == (len(schedules.QUANTITIES), 9)
    assert np.isfinite(tables[1]["schedule_floats"]).all()
