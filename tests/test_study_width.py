"""The lane width of a study on an accelerator: the choice by tables, the probe for real, and that it is made once."""

import jax
import pytest

import hpjax
from hpjax.lanes import LaneProgram
from hpjax.study import probe, setup
from hpjax.study.study import load_study
from hpjax.study.width import choose, doubled
from test_study_engine import BASE
from test_sweep import metadata, repeated, run, words

GB = 10**9
WIDTHS = (1, 2, 4, 8, 16, 32)


class Asked:
    """What a device would answer; notes what it was asked."""

    def __init__(self, rates, least=GB, compiled=GB):
        self.rates, self.of_lane, self.of_compiled = rates, least, compiled
        self.asked = []

    def least(self, width):
        self.asked.append(("least", width))
        return self.of_lane * width

    def compiled(self, width):
        self.asked.append(("compiled", width))
        return self.of_compiled * width

    def rate(self, width):
        self.asked.append(("rate", width))
        if self.rates[width] is None:
            raise MemoryError(f"{width} does not fit into the device's memory")
        return self.rates[width]

    def choose(self, widths=WIDTHS, limit=None):
        return choose(widths, self.least, self.compiled, self.rate, limit)

    def measured(self):
        return [width for what, width in self.asked if what == "rate"]


@pytest.mark.parametrize(
    ("rates", "chosen", "measured"),
    [
        # Every doubling pays to the end.
        ((10, 20, 40, 80, 160, 320), 32, WIDTHS),
        # No gain twice in a row: no third try.
        ((10, 20, 21, 21, 999, 999), 2, (1, 2, 4, 8)),
        # A first step that loses what the next gains.
        ((10, 8, 30, 31, 32, 999), 4, (1, 2, 4, 8, 16)),
        # A gain of less than a tenth at each step is one when it has added up.
        ((10, 10.8, 11.6, 12, 12.5, 12.6), 4, (1, 2, 4, 8, 16)),
        # A CPU: wider is slower.
        ((10, 9, 8, 7, 6, 5), 1, (1, 2, 4)),
    ],
)
def test_widths_are_doubled_until_nothing_is_gained(rates, chosen, measured):
    asked = Asked(dict(zip(WIDTHS, rates, strict=True)))
    found = asked.choose()
    assert found.width == chosen
    assert asked.measured() == list(measured)
    assert found.reason.startswith(f"lane_width {chosen} was measured (lane-ticks/s by width: 1: 10, 2: ")
    assert asked.asked[:3] == [("least", 1), ("compiled", 1), ("rate", 1)]


GROWING = dict(zip(WIDTHS, (10, 20, 40, 80, 160, 320), strict=True))


@pytest.mark.parametrize(
    ("asked", "limit", "chosen", "last", "reason"),
    [
        # Shapes alone say no: nothing is compiled.
        (Asked(GROWING, least=GB), 10 * GB, 8, ("least", 16), "16 would need 16 GB of 8 GB"),
        # The compiler's analysis says no: nothing runs.
        (Asked(GROWING, least=1, compiled=2 * GB), 10 * GB, 4, ("compiled", 8), "8 would need 16 GB of 8 GB"),
        # The device itself says no.
        (Asked(GROWING | {8: None}), None, 4, ("rate", 8), "8 does not fit into the device's memory"),
        # One lane is always tried, whatever the plan says of it.
        (Asked(GROWING, least=20 * GB), 10 * GB, 1, ("least", 2), "2 would need 40 GB of 8 GB"),
    ],
)
def test_memory_bounds_the_width(asked, limit, chosen, last, reason):
    found = asked.choose(limit=limit)
    assert (found.width, asked.asked[-1]) == (chosen, last)
    assert reason in found.reason


def test_one_lane_that_does_not_fit_is_no_choice():
    with pytest.raises(MemoryError):
        Asked({1: None}).choose()


@pytest.mark.parametrize(
    ("most", "lanes", "expected"), [(1, None, [1]), (20, None, [1, 2, 4, 8, 16]), (64, 24, [1, 2, 4, 8]), (8, 5, [1])]
)
def test_widths_that_may_be_taken(most, lanes, expected):
    assert doubled(most, lanes) == expected


@pytest.fixture
def elsewhere(monkeypatch):
    """Makes studies believe that this is no CPU; returns how often programs were made for the probe."""
    made = []
    monkeypatch.setattr(setup.jax, "default_backend", lambda: "gpu")
    original = probe.Bench.compiled
    monkeypatch.setattr(probe.Bench, "compiled", lambda self, width: (made.append(width), original(self, width))[1])
    return made


def test_the_probe_measures_for_real(elsewhere, monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.01)
    parts = setup.make(BASE, setup.StudyConfig(vary=("learning_rate=log(1e-3,1e-1)",), trials=16))
    assert parts.layout_of is not None
    bench = probe.Bench(parts)
    for width in (1, 2):
        assert bench.compiled(width) > bench.least(width) > parts.dataset.x.nbytes
        assert bench.rate(width) > 0
    wide = probe.of_width(parts, 2)
    devices = jax.local_device_count()
    assert (wide.layout.width, wide.layout.lanes, wide.layout.lane_devices) == (2, 2 * devices, devices)
    assert (wide.study.lanes, wide.base.lane_width) == (str(2 * devices), "2")


def test_groups_lie_side_by_side(elsewhere):
    """Every group's lanes stay on the device, those of both waves."""
    vary = ("hidden_sizes=choice('16','64')", "learning_rate=log(1e-3,1e-1)")
    small, large, both = (
        setup.make(BASE.replace(hidden_sizes=sizes), setup.StudyConfig(vary=vary[first:], trials=16, scheduler=scheduler))
        for sizes, first, scheduler in (("16", 1, "none"), ("64", 1, "none"), ("16", 0, "asha"))
    )
    data = small.dataset.x.nbytes + small.dataset.y.nbytes
    of_lane = [probe.Bench(parts).least(1) - data for parts in (small, large)]
    assert probe.Bench(both).least(3) == data + 2 * 3 * sum(of_lane)


def test_a_study_measures_once(elsewhere, monkeypatch, tmp_path):
    monkeypatch.setattr(probe.Bench, "rate", lambda self, width: {1: 10.0, 2: 20.0}.get(width, 1.0))
    study = words(("learning_rate=log(1e-3,1e-1)",), study=tmp_path / "study", trials=32, progress="true")
    code, out, err = run(*study)
    assert (code, err) == (0, "")
    assert "lane_width 2 was measured (lane-ticks/s by width: 1: 10, 2: 20, 4: 1" in out
    assert elsewhere == [1, 2, 4]
    flags = (tmp_path / "study" / "flags.txt").read_text()
    devices = jax.local_device_count()
    assert "--lane_width=2\n" in flags
    assert f"--lanes={2 * devices}\n" in flags
    assert (metadata(tmp_path / "study")["identity"]["width"], len(elsewhere)) == (2, 3)
    # The same command again, and more trials: no probe.
    assert run(*study)[0] == 0
    load_study(tmp_path / "study").extend(trials=4)
    assert elsewhere == [1, 2, 4]
    repeated(tmp_path / "study", tmp_path / "run")


def test_a_search_of_ones_own_measures_too(elsewhere, monkeypatch, tmp_path):
    monkeypatch.setattr(probe.Bench, "rate", lambda self, width: float(width == 2))
    config = BASE.replace(progress=False, tensorboard=False)
    with hpjax.Search(config, {"learning_rate": "log(1e-3,1e-1)"}, trials=32, study=tmp_path / "study") as search:
        search.run(search.ask(2))
    assert search.study.config.lane_width == "2"


def test_on_a_cpu_lanes_run_one_after_the_other(monkeypatch):
    monkeypatch.setattr(LaneProgram, "__init__", lambda *args, **kwargs: pytest.fail("a program was made"))
    parts = setup.make(BASE, setup.StudyConfig(vary=("learning_rate=log(1e-3,1e-1)",), trials=16))
    assert probe.widened(parts, pytest.fail) is parts
    assert parts.layout.width == 1
