"""A person's own search: settings from a sampler or made up, trained on lanes that stay."""

import json
import math

import pytest

import hpjax
from hpjax.errors import ConfigError, RunFolderError
from hpjax.study.records import TrialRecord

CONFIG = hpjax.Config(
    hidden_sizes="8", optimizer="adamw", train_steps="8", eval_every="4", log_every="4", progress=False, tensorboard=False
)
VARY = {"learning_rate": "log(1e-3,1e-1)", "weight_decay": "uniform(0,0.1)", "seed": "range(2)"}


def told(records: list[TrialRecord]) -> list[tuple]:
    """Everything of trials that does not depend on the clock."""
    return [(r.number, r.setting, r.values, r.point, r.status, str(r.curve), r.objective) for r in records]


def test_what_a_sampler_asks_for_gives_the_numbers_of_a_study(tmp_path):
    with hpjax.Search(CONFIG, VARY, trials=12, lanes=4, study=tmp_path / "own") as search:
        first = search.run(search.ask(2))
        (group,) = search._engine.groups
        traces = dict(group.program.traces)
        second = search.run(search.ask(3))
        # The lanes stay: nothing is compiled again.
        assert (search._engine.groups, group.program.traces) == ([group], traces)
        assert [one.setting for one in first + second] == [0, 1, 2, 3, 4]
        own = search.study
        assert own.best.value == max(one.value for one in first + second)
    study = hpjax.run_sweep(CONFIG, VARY, trials=10, lanes=4, study=tmp_path / "study")
    assert told(own.records) == told(study.records)
    loaded = hpjax.load_study(tmp_path / "own")
    assert told(loaded.records) == told(study.records)
    assert str(loaded.best) == str(study.best)
    assert (tmp_path / "own" / "best.flags").read_text() == (tmp_path / "study" / "best.flags").read_text().replace(
        str(tmp_path / "study"), str(tmp_path / "own")
    )
    assert json.loads((tmp_path / "own" / "metadata.json").read_text())["status"] == "done"
    # It can be looked at, but not gone on with as if a sampler had chosen it.
    with pytest.raises(RunFolderError, match="holds a search of a person's own"):
        loaded.extend(2)
    with pytest.raises(RunFolderError, match="holds a study; expected a new name"):
        hpjax.Search(CONFIG, VARY, trials=12, lanes=4, study=tmp_path / "own")
    with pytest.raises(RunFolderError, match="was closed"):
        search.run(search.ask())


def test_settings_that_are_made_up(tmp_path):
    with hpjax.Search(CONFIG, VARY, lanes=2, study=tmp_path / "own") as search:
        # Beyond the range, without a setting, and with a learning rate that diverges.
        found = search.run([{"learning_rate": 0.5, "weight_decay": 0.2}, {"learning_rate": 0.01}, {"learning_rate": 1e30}])
        assert [one.values for one in found] == [
            {"learning_rate": 0.5, "weight_decay": 0.2},
            {"learning_rate": 0.01},
            {"learning_rate": 1e30},
        ]
        assert [len(one.numbers) for one in found] == [2, 2, 2]
        assert [one.status for one in found] == ["done", "done", "diverged"]
        assert math.isnan(found[2].value)
        (one,) = search.run({"learning_rate": 0.01})
        assert one.setting == 3
        assert one.value == found[1].value
        for settings, message in (
            ({"learning_rat": 0.1}, "setting 'learning_rat' is not varied; did you mean 'learning_rate'"),
            ({"learning_rate": 0.1, "seed": 3}, "setting 'seed' is not varied"),
            ({"learning_rate": -0.1}, "learning_rate is -0.1; expected"),
            ({"learning_rate": "fast"}, "learning_rate is 'fast'; expected a number"),
        ):
            with pytest.raises(ConfigError, match=message):
                search.run([{"learning_rate": 0.02}, settings])
        with pytest.raises(ConfigError, match="ask was given 0"):
            search.ask(0)
        # What was refused ran in no part.
        assert len(search.study.records) == 8
        assert search.run([]) == []


def test_a_sampler_learns_from_what_is_told_and_run(tmp_path):
    def asked(name: str, told: bool) -> list[float]:
        with hpjax.Search(CONFIG, VARY, sampler="tpe", lanes=4, study=tmp_path / name) as search:
            for i in range(12 if told else 0):
                # The best is at 0.01, which is not where the others lie.
                rate = 10 ** (-3 + i / 6)
                search.tell({"learning_rate": rate, "weight_decay": 0.05}, 1 - abs(math.log10(rate) + 2))
            search.tell({"learning_rate": 5.0, "weight_decay": 0.05}, math.nan)
            return [values["learning_rate"] for values in search.ask(3)]

    assert asked("told", True) != asked("alone", False)
    assert asked("told again", True) == asked("once more", True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheduler": "asha"}, "scheduler is 'asha', but a search of one's own has none"),
        ({"enqueue": "points.json"}, "enqueue is 'points.json', but"),
        ({"trails": 3}, "setting 'trails' is unknown; did you mean 'trials'"),
    ],
)
def test_what_a_search_does_not_use_is_refused(settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        hpjax.Search(CONFIG, VARY, study=tmp_path / "own", **settings)
    assert not (tmp_path / "own").exists()


def test_an_error_gives_the_folder_back_and_leaves_what_was_run(tmp_path):
    class Mine(Exception):
        pass

    with pytest.raises(Mine), hpjax.Search(CONFIG, VARY, lanes=2, study=tmp_path / "own") as search:
        search.run(search.ask())
        raise Mine
    assert len(hpjax.load_study(tmp_path / "own").records) == 2
    with pytest.raises(RunFolderError, match="search of a person's own"):
        hpjax.run_sweep(CONFIG, VARY, lanes=2, study=tmp_path / "own")
    again = CONFIG.replace(overwrite=True)
    with hpjax.Search(again, VARY, lanes=2, study=tmp_path / "own") as search:
        assert search.study.records == []
    assert hpjax.load_study(tmp_path / "own").best is None
