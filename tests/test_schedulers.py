"""Schedulers against tables worked by hand: rungs, decisions at each of them, who goes on, who is dropped; bad settings."""

import json
import math

import numpy as np
import pytest

from hpjax.errors import ConfigError
from hpjax.study import schedulers
from hpjax.study.schedulers import SCHEDULERS, Decision, SchedulerSettings, rungs

CONTINUE, STOP, PAUSE = Decision.CONTINUE, Decision.STOP, Decision.PAUSE
DIVERGED = -math.inf


def create(name: str, units: int | None, last: int, **settings: int) -> schedulers.Scheduler:
    return schedulers.create(name, SchedulerSettings(**settings), units, last)


def resumed(scheduler: schedulers.Scheduler) -> list[int]:
    """Returns all units that go on now."""
    found = []
    while (unit := scheduler.resume()) is not None:
        found.append(unit)
    return found


@pytest.mark.parametrize(
    ("name", "settings", "last", "expected"),
    [
        ("none", {}, 81, ()),
        ("asha", {}, 81, (1, 3, 9, 27)),  # 81 is the end, not a rung
        ("asha", {}, 82, (1, 3, 9, 27, 81)),
        ("asha", {"eta": 2}, 8, (1, 2, 4)),
        ("asha", {"eta": 4, "min_evaluations": 3}, 200, (3, 12, 48, 192)),
        ("asha", {"eta": 10}, 1000, (1, 10, 100)),
        ("asha_promotion", {"eta": 10}, 1001, (1, 10, 100, 1000)),
        ("halving", {"eta": 4, "min_evaluations": 2}, 100, (2, 8, 32)),
        ("median", {}, 5, (2, 3, 4)),
        ("median", {"grace": 0}, 3, (1, 2)),
        ("hyperband", {}, 243, (1, 3, 9, 27, 81)),
        ("hyperband", {"min_evaluations": 3}, 81, (3, 9, 27)),  # 3 * 3^3 = 81
        ("hyperband", {"min_evaluations": 4}, 81, (9, 27)),  # 4 * 3^3 > 81: s_max = 2, 81 / 9 = 9
        ("hyperband", {}, 20, (2, 6)),  # 3^2 <= 20 < 3^3; 20 / 9 = 2.2, 20 / 3 = 6.7
        ("hyperband", {"eta": 10}, 1000, (1, 10, 100)),
        ("hyperband", {"eta": 2}, 8, (1, 2, 4)),
    ],
)
def test_rungs(name, settings, last, expected):
    assert create(name, 5, last, **settings).rungs == expected


@pytest.mark.parametrize(
    ("last", "eta", "least", "sizes"),
    [
        # ceil(6/6 243), ceil(6/5 81) = 97.2, ceil(6/4 27) = 40.5, 6/3 9, 6/2 3, 6/1 1
        (243, 3, 1, [243, 98, 41, 18, 9, 6]),
        # 4/4 1000, 4/3 100 = 133.3, 4/2 10, 4
        (1000, 10, 1, [1000, 134, 20, 4]),
        # the paper's own example: 5/5 81, 5/4 27 = 33.75, 5/3 9, 5/2 3 = 7.5, 5
        (81, 3, 1, [81, 34, 15, 8, 5]),
        # 4/4 8, 4/3 4 = 5.3, 4/2 2, 4
        (8, 2, 1, [8, 6, 4, 4]),
        # 3/3 16, 3/2 4, 3
        (16, 4, 1, [16, 6, 3]),
        # s_max = 3 of 3 * 27 <= 81: 4/4 27, 4/3 9, 4/2 3, 4
        (81, 3, 3, [27, 12, 6, 4]),
    ],
)
def test_hyperband_brackets(last, eta, least, sizes):
    s_max = rungs.most_halvings(least, eta, last)
    assert [rungs.bracket_size(eta, s, s_max) for s in range(s_max, -1, -1)] == sizes


@pytest.mark.parametrize("eta", [2, 3, 4, 5, 6, 7, 10])
def test_powers_are_exact(eta):
    # math.log(eta**k, eta) is below k for some k of most of these.
    for k in range(1, 40):
        assert rungs.most_halvings(1, eta, eta**k) == k
        assert rungs.most_halvings(1, eta, eta**k - 1) == k - 1
        assert len(rungs.geometric(1, eta, eta**k)) == k


@pytest.mark.parametrize(
    ("eta", "table"),
    [
        # score, decision; beside it n, m = max(1, n // eta), the m-th best
        (
            3,
            [
                (0.5, CONTINUE),  # 1 1 0.5
                (0.4, STOP),  # 2 1 0.5
                (0.6, CONTINUE),  # 3 1 0.6
                (0.5, STOP),  # 4 1 0.6
                (0.7, CONTINUE),  # 5 1 0.7
                (0.6, CONTINUE),  # 6 2 of 0.7 0.6 0.6: 0.6
                (0.6, CONTINUE),  # 7 2 of 0.7 0.6 0.6 0.6: 0.6
                (DIVERGED, STOP),  # 8
                (0.55, STOP),  # 9 3: 0.6
            ],
        ),
        (
            2,
            [
                (DIVERGED, STOP),  # 1 1, infeasible
                (0.1, CONTINUE),  # 2 1 0.1
                (0.3, CONTINUE),  # 3 1 0.3
                (0.2, CONTINUE),  # 4 2 of 0.3 0.2: 0.2
                (0.1, STOP),  # 5 2 of 0.3 0.2
                (0.2, CONTINUE),  # 6 3 of 0.3 0.2 0.2: 0.2
            ],
        ),
        # The best so far goes on, whatever n; 0.8 is the second best of 10 with m = 1.
        (10, [(0.1 * k, CONTINUE) for k in range(1, 10)] + [(0.8, STOP)]),
        (4, [(0.9, CONTINUE)] + [(0.8, STOP)] * 6 + [(0.8, CONTINUE)]),  # 8 2: 0.8
    ],
)
def test_asha_at_one_rung(eta, table):
    scheduler = create("asha", None, 5, eta=eta, min_evaluations=2)
    for unit, (score, decision) in enumerate(table):
        assert scheduler.report(unit, 1, 0.0) is CONTINUE
        assert scheduler.report(unit, 2, score) is decision
        assert scheduler.report(unit, 3, -1.0) is decision


def test_asha_judges_each_rung_by_its_own_scores():
    scheduler = create("asha", 4, 9)  # rungs 1, 3
    assert [scheduler.report(unit, 1, score) for unit, score in enumerate([0.1, 0.2, 0.3])] == [CONTINUE] * 3
    assert scheduler.report(2, 3, 0.5) is CONTINUE  # the first at rung 3
    assert scheduler.report(0, 2, 0.0) is CONTINUE  # no rung
    assert scheduler.report(0, 3, 0.4) is STOP  # 0.5 is better, n = 2
    assert scheduler.report(1, 3, 0.6) is CONTINUE
    assert scheduler.report(3, 1, 0.25) is STOP  # at rung 1 only 0.1, 0.2, 0.3 and itself: m = 1
    assert [scheduler.report(unit, 9, 1.0) for unit in (1, 2)] == [CONTINUE] * 2


@pytest.mark.parametrize("eta", [2, 3, 4, 10])
def test_asha_counts_of_known_orders(eta):
    ascending, descending, ties = (create("asha", 100, 2, eta=eta) for _ in range(3))
    # Each is the best so far; each but the first is the worst of n, and n // eta < n; all are the m-th best.
    assert {ascending.report(unit, 1, unit) for unit in range(100)} == {CONTINUE}
    assert [descending.report(unit, 1, -unit) for unit in range(100)] == [CONTINUE] + [STOP] * 99
    assert {ties.report(unit, 1, 0.5) for unit in range(100)} == {CONTINUE}


def test_asha_counts_units_that_ended_at_their_next_rung_only():
    scheduler = create("asha", None, 9)  # rungs 1, 3
    assert scheduler.report(0, 1, 0.5) is CONTINUE
    scheduler.ended(0)  # at rung 3: infeasible
    scheduler.ended(1)  # at rung 1: infeasible
    scheduler.ended(1)  # once
    # rung 1: 0.5, infeasible; n = 3: m = 1, so 0.4 stops; n = 6: m = 2 of 0.5 0.45
    assert [scheduler.report(2 + i, 1, s) for i, s in enumerate([0.4, 0.3, 0.3, 0.45])] == [STOP] * 3 + [CONTINUE]
    assert scheduler.report(5, 3, 0.1) is CONTINUE  # rung 3: n = 2, the best that is feasible
    assert scheduler.report(0, 2, 0.9) is STOP  # it has ended


def test_promotion_by_hand():
    scheduler = create("asha_promotion", 4, 4, eta=2)  # rungs 1, 2
    assert scheduler.report(0, 1, 0.1) is PAUSE
    assert scheduler.resume() is None  # n // 2 = 0
    assert scheduler.report(1, 1, 0.4) is PAUSE
    assert resumed(scheduler) == [1]  # the best 1 of 2
    assert scheduler.report(1, 2, 0.5) is PAUSE
    assert resumed(scheduler) == []  # rung 2: 1 // 2 = 0; rung 1: its best 1 has gone on
    assert scheduler.report(2, 1, 0.3) is PAUSE
    assert resumed(scheduler) == []  # the best 3 // 2 = 1 has gone on
    assert scheduler.dropped() == [0]  # third of at last four, of which two go on
    assert scheduler.may_begin()
    assert scheduler.report(3, 1, 0.2) is STOP  # likewise
    assert scheduler.dropped() == []
    assert not scheduler.may_begin()
    assert resumed(scheduler) == [2]  # the best 4 // 2 = 2
    assert scheduler.report(2, 2, 0.6) is PAUSE
    assert scheduler.dropped() == [1]  # second of at most two at rung 2: 0 and 3 have gone
    assert resumed(scheduler) == [2]
    assert [scheduler.report(2, evaluation, 0.0) for evaluation in (3, 4)] == [CONTINUE] * 2
    assert resumed(scheduler) == scheduler.close() == []


def test_promotion_takes_the_highest_rung_first():
    scheduler = create("asha_promotion", None, 9, eta=2)  # rungs 1, 2, 4, 8
    for unit, score in enumerate([0.4, 0.3, 0.2, 0.1]):
        scheduler.report(unit, 1, score)
    assert resumed(scheduler) == [0, 1]
    assert [scheduler.report(unit, 2, unit) for unit in (0, 1)] == [PAUSE] * 2
    assert [scheduler.report(unit, 1, 1.0) for unit in (4, 5)] == [PAUSE] * 2
    # rung 2: best 1 of 2; rung 1: best 3 of 6: 4 and 5 (equal: the lower number first), 0 has gone on
    assert resumed(scheduler) == [1, 4, 5]
    assert scheduler.dropped() == []  # nobody knows how many are to come
    assert scheduler.close() == [0, 2, 3]
    assert scheduler.close() == []


@pytest.mark.parametrize("units", [1, 2])
def test_promotion_of_a_small_study_trains_one_to_the_end(units):
    scheduler = create("asha_promotion", units, 9)
    for unit in range(units):
        scheduler.begin(unit)
    for unit in range(units):
        assert scheduler.resume() is None  # another one runs
        scheduler.report(unit, 1, unit)
    best = units - 1
    assert resumed(scheduler) == [best]
    assert scheduler.report(best, 3, 0.0) is PAUSE
    assert resumed(scheduler) == [best]
    assert scheduler.report(best, 9, 0.0) is CONTINUE
    assert resumed(scheduler) == []


@pytest.mark.parametrize("order", [range(9), [8, 3, 1, 5, 0, 2, 7, 4, 6], reversed(range(9))])
def test_halving_by_hand(order):
    first = [0.1, 0.9, 0.5, 0.7, 0.3, 0.8, 0.2, 0.6, 0.4]
    scheduler = create("halving", 9, 9)  # rungs 1, 3
    order, stopped = list(order), []
    for unit in range(9):
        assert scheduler.may_begin()
        scheduler.begin(unit)
    assert not scheduler.may_begin()
    # 9 // 3 = 3 go on, 0.9 0.8 0.7; whoever finds three better ones there stops at once.
    for place, unit in enumerate(order):
        assert scheduler.resume() is None
        better = [other for other in order[:place] if first[other] > first[unit]]
        assert scheduler.report(unit, 1, first[unit]) is (STOP if len(better) >= 3 else PAUSE)
        stopped += [unit] * (len(better) >= 3)
    assert resumed(scheduler) == [1, 5, 3]
    assert sorted(stopped + scheduler.dropped()) == [0, 2, 4, 6, 7, 8]
    second = {1: 0.5, 5: 0.6, 3: 0.55}
    assert [scheduler.report(unit, 2, 0.0) for unit in second] == [CONTINUE] * 3
    decisions = [scheduler.report(unit, 3, second[unit]) for unit in order if unit in second]
    assert decisions[0] is PAUSE
    assert resumed(scheduler) == [5]  # 3 // 3 = 1
    assert [scheduler.report(5, evaluation, 0.0) for evaluation in range(4, 10)] == [CONTINUE] * 6


@pytest.mark.parametrize(
    ("eta", "units", "reached"),
    [
        (3, 1, [1, 1, 1, 1]),  # at least one goes on
        (3, 2, [2, 1, 1, 1]),
        (3, 27, [27, 9, 3, 1]),
        (3, 26, [26, 8, 2, 1]),  # 26/3 = 8.7, 8/3 = 2.7, 2/3
        (2, 11, [11, 5, 2, 1]),
        (4, 100, [100, 25, 6, 1]),
        (10, 99, [99, 9, 1, 1]),
    ],
)
def test_halving_counts(eta, units, reached):
    scheduler = create("halving", units, eta**3, eta=eta)  # rungs 1, eta, eta^2
    running, counts = list(range(units)), []
    for unit in running:
        scheduler.begin(unit)
    for rung in scheduler.rungs:
        counts.append(len(running))
        for unit in running:
            scheduler.report(unit, rung, 0.5)  # ties: the lower numbers
        running = resumed(scheduler)
        assert running == list(range(len(running)))
    assert [*counts, len(running)] == reached


def test_halving_waits_for_nobody_dead():
    scheduler = create("halving", 6, 9)
    for unit in range(6):
        scheduler.begin(unit)
    for unit in range(3):
        assert scheduler.report(unit, 1, unit) is PAUSE
    assert scheduler.report(3, 1, DIVERGED) is STOP
    assert scheduler.report(4, 1, math.nan) is STOP
    assert resumed(scheduler) == []
    scheduler.ended(5)
    assert resumed(scheduler) == [2, 1]  # 6 // 3 = 2
    assert scheduler.dropped() == [0]
    scheduler.ended(2)
    assert scheduler.report(1, 3, 0.0) is PAUSE  # max(1, 2 // 3)
    assert resumed(scheduler) == [1]


def test_halving_with_fewer_units_than_it_was_told():
    scheduler = create("halving", 100, 9)
    for unit in range(3):
        scheduler.begin(unit)
        scheduler.report(unit, 1, unit)
    assert resumed(scheduler) == []  # 97 are to come
    scheduler.no_more()
    assert not scheduler.may_begin()
    assert resumed(scheduler) == [2]
    assert scheduler.dropped() == [0, 1]


@pytest.mark.parametrize("name", ["asha_promotion", "halving"])
def test_a_unit_that_ends_while_it_waits_goes_on_never(name):
    scheduler = create(name, 7, 9)
    for unit in range(7):
        scheduler.begin(unit)
    for unit in range(6):
        assert scheduler.report(unit, 1, -unit) is (PAUSE if unit < 2 else STOP)  # two go on: 7 // 3
    scheduler.ended(0)
    assert scheduler.report(6, 1, -6.0) is STOP
    assert resumed(scheduler) == [1]
    assert scheduler.report(1, 3, 0.0) is PAUSE
    assert resumed(scheduler) == [1]  # max(1, 1 // 3); the last that waits
    assert scheduler.dropped() == scheduler.close() == []


@pytest.mark.parametrize("name", ["asha_promotion", "halving", "hyperband"])
def test_all_infeasible(name):
    scheduler = create(name, 7, 9)
    for unit in range(7):
        scheduler.begin(unit)
    assert {scheduler.report(unit, 1, DIVERGED) for unit in range(7)} == {STOP}
    assert resumed(scheduler) == scheduler.dropped() == scheduler.close() == []


@pytest.mark.parametrize("last, eta", [(81, 3), (8, 2), (27, 3)])
def test_hyperband_runs_its_table(last, eta):
    table = {
        # units at each evaluation, bracket by bracket: the paper's table of R = 81, and two worked likewise
        (81, 3): [
            {1: 81, 3: 27, 9: 9, 27: 3, 81: 1},
            {3: 34, 9: 11, 27: 3, 81: 1},
            {9: 15, 27: 5, 81: 1},
            {27: 8, 81: 2},
            {81: 5},
        ],
        (8, 2): [{1: 8, 2: 4, 4: 2, 8: 1}, {2: 6, 4: 3, 8: 1}, {4: 4, 8: 2}, {8: 4}],
        (27, 3): [{1: 27, 3: 9, 9: 3, 27: 1}, {3: 12, 9: 4, 27: 1}, {9: 6, 27: 2}, {27: 4}],  # 4/3 9, 4/2 3, 4
    }[last, eta]
    scheduler = create("hyperband", None, last, eta=eta)
    began = 0
    for bracket in [*table, table[0]]:  # the first comes again
        size = next(iter(bracket.values()))
        running = list(range(began, began + size))
        began += size
        for unit in running:
            assert scheduler.may_begin()
            scheduler.begin(unit)
        for evaluation, count in bracket.items():
            assert len(running) == count
            for unit in running:
                scheduler.report(unit, evaluation, unit)
            best = sorted(running, reverse=True)
            running = resumed(scheduler)
            assert running == best[: len(running)]
        assert not running


def test_hyperband_brackets_overlap_and_older_ones_go_first():
    scheduler = create("hyperband", None, 8, eta=2)  # brackets of 8 units at 1, 6 at 2, 4 at 4, 4
    for unit in range(14):
        scheduler.begin(unit)
    for unit in range(8, 14):
        assert scheduler.report(unit, 1, 0.0) is CONTINUE  # no rung of theirs
        assert scheduler.report(unit, 2, unit) is PAUSE
    for unit in range(8):
        scheduler.report(unit, 1, unit)
    assert resumed(scheduler) == [13, 12, 11, 7, 6, 5, 4]  # decided first: 6 // 2; then 8 // 2
    assert sorted(scheduler.dropped()) == [0, 1, 2, 3, 8, 9, 10]


def test_hyperband_fills_a_bracket_as_far_as_there_are_units():
    scheduler = create("hyperband", 5, 8, eta=2)  # the first takes 8
    for unit in range(5):
        scheduler.begin(unit)
    for unit in range(5):
        scheduler.report(unit, 1, unit)
    assert resumed(scheduler) == [4, 3]  # 5 // 2
    unknown = create("hyperband", None, 8, eta=2)
    for unit in range(5):
        unknown.report(unit, 1, unit)
    assert resumed(unknown) == []
    unknown.no_more()
    assert resumed(unknown) == [4, 3]


def test_median_by_hand():
    scheduler = create("median", None, 4, grace=1, min_units=3)  # decides after evaluations 2 and 3

    def decisions(unit: int, *scores: float) -> list[Decision]:
        return [scheduler.report(unit, place + 1, score) for place, score in enumerate(scores)]

    # Means up to 2: 0.25, 0.375, 0.5; the others are fewer than 3 for each.
    assert decisions(0, 0.0, 0.5) == [CONTINUE] * 2
    assert decisions(1, 0.25, 0.5) == [CONTINUE] * 2
    assert decisions(2, 0.5, 0.5) == [CONTINUE] * 2
    assert decisions(3, 0.0, 0.25) == [CONTINUE, STOP]  # 0.25 < 0.375; its mean: 0.125
    assert decisions(4, 0.3125, 0.0) == [CONTINUE] * 2  # 0.3125 = (0.25 + 0.375) / 2: not less; its mean: 0.15625
    assert decisions(5, 0.125, 0.0) == [CONTINUE, STOP]  # of 0.125 0.15625 0.25 0.375 0.5 the third: 0.25
    assert decisions(6, 0.0, DIVERGED) == [CONTINUE, STOP]
    assert scheduler.report(0, 3, DIVERGED) is STOP  # infeasible, though nobody else is there
    # Means up to 3: infeasible, 0.5 and, of 0.3125 + 0 + 0.4375, 0.25; the best of them is 0.5.
    assert [scheduler.report(unit, 3, score) for unit, score in ((2, 0.5), (4, 0.4375))] == [CONTINUE] * 2
    assert scheduler.report(1, 3, 0.0) is CONTINUE  # its best, 0.5, against the third of them: 0.25
    assert scheduler.report(1, 4, 0.0) is CONTINUE  # the end


@pytest.mark.parametrize("score", [0.1, 0.7, -1e308, 1e-310])
def test_median_of_equal_curves_stops_none(score):
    # Sums of 0.1 are not multiples of it: the means must be.
    scheduler = create("median", None, 50, min_units=1)
    for evaluation in range(1, 50):
        assert {scheduler.report(unit, evaluation, score) for unit in range(7)} == {CONTINUE}


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_what_a_late_engine_reports_changes_nothing(name):
    scheduler = create(name, 4, 9, min_units=1, grace=0)
    for unit in range(4):
        scheduler.begin(unit)
    first = [scheduler.report(unit, 1, -unit) for unit in range(3)]
    before = scheduler.state()
    for unit, decision in enumerate(first):
        if decision is not CONTINUE:
            assert scheduler.report(unit, 2, 9.0) is decision
    for unit in range(4):
        scheduler.begin(unit)
    assert scheduler.state() == before


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_scores_of_numpy_go_into_a_state(name):
    scheduler = create(name, 2, 9)
    for evaluation in (1, 2):
        scheduler.report(0, evaluation, np.float32(0.5))
    json.dumps(scheduler.state(), allow_nan=False)


@pytest.mark.parametrize("evaluation", [0, 10])
def test_an_evaluation_that_no_run_has(evaluation):
    with pytest.raises(ValueError, match=f"evaluation is {evaluation}; expected 1 to 9"):
        create("none", 1, 9).report(0, evaluation, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: create("asa", 1, 9), "scheduler 'asa' is unknown; did you mean 'asha'? known: "),
        (lambda: create("asha", 1, 9, eta=1), "eta is 1; expected a whole number >= 2"),
        (lambda: create("asha", 1, 9, eta=2.5), "eta is 2.5; expected a whole number >= 2"),
        (lambda: create("asha", 1, 9, min_evaluations=0), "min_evaluations is 0; expected a whole number >= 1"),
        (lambda: create("median", 1, 9, grace=-1), "grace is -1; expected a whole number >= 0"),
        (lambda: create("median", 1, 9, min_units=0), "min_units is 0; expected a whole number >= 1"),
        (lambda: create("none", 0, 9), "scheduler 'none': units is 0; expected a whole number >= 1"),
        (lambda: create("none", 1, 0), "scheduler 'none': last evaluation is 0; expected a whole number >= 1"),
        (
            lambda: create("halving", None, 9),
            "scheduler 'halving' is given no number of settings to halve; expected one, or asha or hyperband",
        ),
        *[
            (
                lambda name=name: create(name, 1, 1),
                f"scheduler '{name}' has nothing to decide: min_evaluations is 1, eta is 3 and a run has 1 evaluation; "
                "expected more",
            )
            for name in ("asha", "asha_promotion", "halving", "hyperband")
        ],
        (
            lambda: create("asha", 1, 9, min_evaluations=9),
            "scheduler 'asha' has nothing to decide: min_evaluations is 9, eta is 3 and a run has 9 evaluations; "
            "expected more",
        ),
        (
            lambda: create("median", 1, 2),
            "scheduler 'median' has nothing to decide: grace is 1 and a run has 2 evaluations; expected more",
        ),
        (
            lambda: create("asha", 1, 9).load(create("asha", 1, 9, eta=2).state()),
            "scheduler 'asha' has rungs (1, 3); the study has (1, 2, 4, 8)",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ConfigError) as raised:
        make()
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
