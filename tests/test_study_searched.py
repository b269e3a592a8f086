"""What storages and pages are told of a space: ranges and choices."""

from typing import Any

import pytest

from hpjax.config import Config
from hpjax.study.as_optuna import Parameters
from hpjax.study.searched import Choices, Range, of_space
from hpjax.study.space import Space


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("learning_rate=log(1e-4,0.3)", "learning_rate", Range("float", 1e-4, 0.3, True)),
        ("momentum=uniform(0.1,0.9)", "momentum", Range("float", 0.1, 0.9, False)),
        ("batch_size=int(8,100)", "batch_size", Range("int", 8, 100, False)),
        ("batch_size=choice(32,128,64)", "batch_size", Choices((32, 128, 64))),
        ("batch_size=grid(32,64,128)", "batch_size", Range("int", 32, 128, False)),
        ("batch_size=grid(8,64,512)", "batch_size", Range("int", 8, 512, True)),
        ("optimizer=choice(momentum,adamw,sgd)", "optimizer", Choices(("momentum", "adamw", "sgd"))),
        ("nesterov=choice(true,false)", "nesterov", Choices((True, False))),
        ("seed=range(4)", "seed", Range("int", 0, 3, False)),
        ("learning_rate=log(1e-4,1,5)", "learning_rate", Range("float", 1e-4, 1.0, True)),
    ],
)
def test_one_distribution(text: str, name: str, expected: Any) -> None:
    assert of_space(Space.parse([text], Config())) == {name: expected}


def test_the_bounds_of_an_expression() -> None:
    texts = ["momentum=1-log(1e-3,0.5)", "weight_decay=learning_rate*log(1e-3,1)", "learning_rate=log(0.01,1)"]
    found = of_space(Space.parse(texts, Config(optimizer="adamw")))
    assert list(found) == ["momentum", "weight_decay", "learning_rate"]
    momentum, decay = found["momentum"], found["weight_decay"]
    assert isinstance(momentum, Range)
    assert isinstance(decay, Range)
    assert (momentum.low, momentum.high, momentum.log) == (pytest.approx(0.5), pytest.approx(0.999), False)
    assert (decay.low, decay.high, decay.log) == (pytest.approx(1e-5), pytest.approx(1), True)


def test_every_drawn_value_is_a_parameter_of_optuna() -> None:
    texts = [
        "optimizer=choice(momentum,adamw)",
        "momentum=uniform(0,0.9) if optimizer==momentum",
        "learning_rate=log(1e-4,1)",
        "seed=range(2)",
    ]
    space = Space.parse(texts, Config())
    parameters = Parameters(of_space(space))
    for point in [(0.1, 0.5, 0.5), (0.9, 0.5, 0.99999), (0.4, 0.0, 0.0)]:
        values = space.values(point) | {"seed": 1}
        assert parameters.of(values).keys() == values.keys()
