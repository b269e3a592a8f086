"""Studies on several devices: lanes over all of them, and lanes whose trials need several devices each."""

import jax
import pytest

from hpjax.errors import ConfigError
from test_study_engine import BASE, engine_of, outcome, run
from test_sweep import metadata, repeated, swept

VARY = ("learning_rate=log(1e-3,1e-1)", "batch_size=choice(32,64)", "seed=range(2)")


def over(monkeypatch, devices: int) -> None:
    """Lets studies see no more than the first devices."""
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)


def test_lanes_over_eight_devices_equal_lanes_over_one(monkeypatch):
    study = {"vary": VARY, "trials": 16, "lanes": "8"}
    config = BASE.replace(dropout_rate=0.2)
    found = {}
    for devices in (8, 1):
        over(monkeypatch, devices)
        engine, _, parts = engine_of(config, **study)
        assert parts.layout.lane_devices == devices
        found[devices] = [outcome(record) for record in run(engine)]
    assert found[8] == found[1]


@pytest.mark.parametrize("scheduler", ["none", "asha_promotion"])
def test_trials_that_need_two_devices_each(scheduler):
    """Four devices of lanes, two a lane: as many compiles as on one, and the same numbers from half of the lanes."""
    config = BASE.replace(devices="2", eval_every="4")
    study = {"vary": VARY, "trials": 16, "scheduler": scheduler}
    engine, maker, parts = engine_of(config, lanes="8", **study)
    assert (parts.layout.lane_devices, parts.layout.data_devices) == (4, 2)
    records = run(engine)
    assert len(maker.made) == 1
    (program,) = {id(group.program): group.program for group in engine.groups}.values()
    assert program.mesh.devices.shape == (4, 2)
    assert {program.traces[name] for name in ("refill", "chunk", "evaluate")} == {1}
    fewer = run(engine_of(config, lanes="4", **study)[0])
    for one, other in zip(records, fewer, strict=True):
        shared = min(len(one.curve), len(other.curve))
        assert shared > 0
        assert one.curve[:shared] == other.curve[:shared]


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_the_winner_is_a_single_run_bit_for_bit(model, tmp_path):
    settings = {"model": model, "devices": 2, "lanes": 8, "trials": 8, "learning_rate": 0.02, "dropout_rate": 0.1}
    if model == "cnn":
        settings |= {"channels": "4", "hidden_sizes": "16", "norm": "batch"}
    folder = swept(tmp_path / "study", ("learning_rate=log(1e-3,1e-1)", "batch_size=choice(32,64)"), **settings)
    assert metadata(folder)["identity"]["data_devices"] == 2
    assert "--devices=2\n" in (folder / "best.flags").read_text()
    repeated(folder, tmp_path / "run")


def test_what_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="devices is 3; expected a divisor of micro_batch_size, 32"):
        setup_of(devices="3", eval_batch_size=510)
    with pytest.raises(ConfigError, match="devices is 16; expected at most the 8 that this machine has"):
        setup_of(devices="16")


def setup_of(**changes):
    return engine_of(BASE.replace(**changes), vary=VARY, trials=16)[2]
