"""Other optimizers in the learning rate finder: which, with what settings, and when one is said to be better."""

import math

import pytest

from hpjax.config import Config
from hpjax.recipe.bench import Curve
from hpjax.recipe.other_optimizers import KINDS, better_than, compared, compared_with
from hpjax.recipe.range_test import RangeTest, table
from hpjax.resolve import resolve

RATES = [0.01, 0.1, 1.0]


def a_test(name: str, *losses: list[float]) -> RangeTest:
    """Losses at each look of each rate."""
    curves = [Curve(list(range(5, 5 * len(one) + 5, 5)), list(one), [0.1] * len(one)) for one in losses]
    return RangeTest(name, RATES, curves, RATES, [2.0, 1.0, math.nan], 5, [], math.nan)


OWN = a_test("momentum", [2.0, 1.9, 1.8], [2.0, 1.4, 1.0], [2.0, math.nan, math.nan])


@pytest.mark.parametrize(
    ("other", "verdict", "words"),
    [
        (a_test("adamw", [2.0, 1.0, 0.85], [2.0, 1.9, 1.9], [2.0, 2.5, 3.0]), "warning", "clearly lower in 15 steps"),
        (a_test("adamw", [2.0, 1.2, 0.95], [2.0, 1.9, 1.9], [2.0, 2.5, 3.0]), "ok", "none comes clearly lower"),
        (a_test("adamw", *[[2.0, math.nan, math.nan]] * 3), "ok", "none comes clearly lower"),
        # It had less time: what counts is where the first was after as many steps.
        (a_test("adamw", [2.0, 1.2], [2.0, 1.9], [2.0, 2.5]), "warning", "clearly lower in 10 steps"),
    ],
)  # fmt: skip
def test_another_optimizer_is_better_only_by_a_clear_margin(other, verdict, words):
    note = better_than({"momentum": OWN, "adamw": other})
    assert note is not None and note.verdict == verdict
    assert words in note.evidence
    assert ("--optimizer=adamw --learning_rate=0.01" in note.remedy) == (verdict == "warning")
    assert better_than({"momentum": OWN}) is None


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adamw", "lion", "lars", "rmsprop", "muon"])
def test_others_keep_what_they_have_in_common_and_nothing_else(name):
    momentum = {"momentum": 0.8} if name in ("momentum", "nesterov", "lars") else {}
    config = resolve(Config(optimizer=name, learning_rate=0.1, clip_norm=2.0, model="mlp", **momentum))
    found = compared_with(config)
    assert 0 < len(found) <= 3
    kin = next((kind for kind in KINDS if name in kind), (name,))
    assert not set(found) & set(kin)
    for other, with_it in found.items():
        assert with_it.optimizer == other and with_it.clip_norm == 2.0
        # Another optimizer's momentum is another thing: it has its own default.
        assert with_it.momentum in (None, 0.9)
        assert with_it == resolve(with_it)
        unchanged = ("model", "hidden_sizes", "batch_size", "loss", "seed", "train_steps", "dataset")
        assert all(getattr(with_it, setting) == getattr(config, setting) for setting in unchanged)


def test_the_tables_hold_every_optimizer():
    tests = {"momentum": OWN, "adamw": a_test("adamw", *[[2.0, 1.0, 0.85]] * 3)}
    rows = table(tests, False)
    assert rows["optimizer"] == ["momentum"] * 3 + ["adamw"] * 3 and rows["learning_rate"] == RATES * 2
    assert rows["loss"][:2] == [1.8, 1.0] and math.isnan(rows["loss"][2])
    found = compared(tests)
    assert found["optimizer"] == ["momentum", "adamw"] and found["best"] == [0.1, 0.01]
    assert found["largest_stable"] == [0.1, 1.0] and found["unstable"][0] == 1.0
