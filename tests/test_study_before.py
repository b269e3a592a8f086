"""What a study begins with and leaves elsewhere: settings tried first, another study's results, a copy in a storage."""

import json
import math

import matplotlib.pyplot as plt
import optuna
import pytest

import hpjax
from hpjax.errors import ConfigError, RunFolderError
from hpjax.study.export import optuna_storage

CONFIG = hpjax.Config(
    hidden_sizes="8", optimizer="adamw", train_steps="8", eval_every="4", progress=False, tensorboard=False
)
VARY = {"learning_rate": "log(1e-4,1)", "batch_size": "choice(32,64)"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    points = [{"learning_rate": 0.01, "batch_size": 64}, {"learning_rate": 0.02, "batch_size": 32}]
    (folder / "points.json").write_text(json.dumps(points))
    url = f"sqlite:///{folder / 'copy.db'}"
    return hpjax.run_sweep(CONFIG, VARY, trials=10, enqueue=folder / "points.json", storage=url, study=folder / "one")


def test_what_was_asked_for_is_tried_first(study):
    assert [record.values for record in study.records[:2]] == [
        {"learning_rate": 0.01, "batch_size": 64},
        {"learning_rate": 0.02, "batch_size": 32},
    ]
    assert len(study.records) == 10
    assert not any(record.point for record in study.records[:2])
    assert all(len(record.point) == 2 for record in study.records[2:])


def test_a_storage_holds_a_copy(study):
    with optuna_storage(f"sqlite:///{study.path.parent / 'copy.db'}") as storage:
        copy = optuna.load_study(storage=storage, study_name="one")
        best, trials = copy.best_value, copy.trials
    assert best == max(record.objective for record in study.records)
    assert [trial.params["learning_rate"] for trial in trials] == [r.values["learning_rate"] for r in study.records]


def test_a_finished_study_is_copied_when_it_is_asked_for(study, tmp_path):
    url = f"sqlite:///{tmp_path / 'later.db'}"
    points = study.path.parent / "points.json"
    again = hpjax.run_sweep(CONFIG, VARY, trials=10, enqueue=points, storage=url, study=study.path)
    with optuna_storage(url) as storage:
        assert len(optuna.load_study(storage=storage, study_name="one").trials) == len(again.records) == 10


def test_a_folder_gives_the_study_again(study):
    loaded = hpjax.load_study(study.path)
    # NaN, the spread over one seed, equals nothing.
    assert str(loaded.best) == str(study.best)
    assert math.isnan(loaded.best.spread)
    assert loaded.columns().keys() == study.columns().keys()
    assert loaded.columns()["objective"] == study.columns()["objective"]
    assert loaded.best_config.learning_rate == loaded.best.values["learning_rate"]
    assert loaded.best_config.micro_batch_size == 32


def test_pictures_of_what_was_varied(study):
    for names, label in (
        ((), "step"),
        (("learning_rate",), "learning_rate"),
        (("learning_rate", "batch_size"), "learning_rate"),
    ):
        figure = study.plot(*names)
        assert label in figure.axes[0].get_xlabel()
        plt.close(figure)
    with pytest.raises(ConfigError, match="plot 'learning_rat' was not varied; did you mean 'learning_rate'"):
        study.plot("learning_rat")
    with pytest.raises(ConfigError, match="3 names; expected at most 2"):
        study.plot("learning_rate", "batch_size", "learning_rate")


def test_another_studys_results_are_told(study, tmp_path):
    told = hpjax.run_sweep(CONFIG, VARY, trials=4, sampler="tpe", warm_start=study.path, study=tmp_path / "told")
    alone = hpjax.run_sweep(CONFIG, VARY, trials=4, sampler="tpe", study=tmp_path / "alone")
    # Ten results make TPE more than random: it has them from the first where it was told of ten.
    assert [record.values for record in told.records] != [record.values for record in alone.records]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm_start": "{tmp}"}, "which holds no study"),
        ({"enqueue": "{tmp}/none.json"}, "none.json"),
        ({"enqueue": "{study}/../points.json", "trials": 1}, "enqueue has 2 settings, 2 trials; expected at most trials, 1"),
        ({"trials": 0}, "trials is 0"),
        ({"storage": "sqlite:///{tmp}/nowhere/copy.db"}, "storage 'sqlite:.*nowhere' is no folder; expected a folder"),
        ({"storage": "sqlit:///{tmp}/copy.db"}, "storage 'sqlit:.*cannot be used: Can't load plugin"),
        ({"storage": "copy.db"}, "storage 'copy.db' cannot be used: Could not parse"),
        ({"sampler": "halto"}, "did you mean 'halton'"),
        ({"trial": 3}, "setting 'trial' is unknown; did you mean 'trials'"),
    ],
)
def test_bad_input_leaves_no_folder(study, tmp_path, settings, message):
    places = {"tmp": tmp_path, "study": study.path}
    settings = {name: value.format(**places) if isinstance(value, str) else value for name, value in settings.items()}
    with pytest.raises(ConfigError, match=message):
        hpjax.run_sweep(CONFIG, VARY, study=tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_another_objective_is_not_told(study, tmp_path):
    with pytest.raises(ConfigError, match="warm_start is a study of val/accuracy; expected one of val/loss"):
        hpjax.run_sweep(CONFIG.replace(objective="val/loss:min"), VARY, warm_start=study.path, study=tmp_path / "new")
    with pytest.raises(RunFolderError, match="holds no study"):
        hpjax.load_study(tmp_path)
