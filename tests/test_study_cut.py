"""A study that is ended where it is, and one that is closed without training its winner again."""

import functools
import math

import pytest

import hpjax
from hpjax.study import closing
from hpjax.study.begin import study_config
from hpjax.study.records import ENDED
from hpjax.study.runner import ENOUGH
from hpjax.study.study import load_study, run

CONFIG = hpjax.Config(
    dataset="digits", model="mlp", hidden_sizes="16", optimizer="adamw", batch_size=64, train_steps="60", eval_every="20",
    progress=False, tensorboard=False,
)  # fmt: skip
VARY = {"learning_rate": "log(1e-3,1e-1)", "seed": "range(2)"}


def study(path, trials, callback=None, test=True, close=None, **changes):
    brief = functools.partial(closing.brief, test=test)
    settings = study_config(VARY, {"trials": trials, "study": str(path)})
    return run(CONFIG.replace(**changes), settings, callback=callback, close=close or brief)


def test_the_test_split_read_with_kept_parameters_is_that_of_training_the_winner_again(tmp_path):
    brief = study(tmp_path / "brief", 6, keep_best=6)
    whole = study(tmp_path / "whole", 6, keep_best=6, close=closing.close)
    assert brief.facts["test"] == whole.facts["test"], "bit for bit"
    assert brief.facts["kept"][0] == whole.facts["kept"][0]
    assert set(map(int, brief.facts["test_of_trials"])) == set(brief.best.numbers)
    assert brief.best_config == whole.best_config
    assert (tmp_path / "brief" / "trials.csv").exists() and not (tmp_path / "brief" / "pictures").exists()


def test_the_test_split_is_not_read_unless_it_is_asked_for(tmp_path):
    found = study(tmp_path / "study", 4, test=False)
    assert "test" not in found.facts and "test_of_trials" not in found.facts
    assert load_study(tmp_path / "study").facts["status"] == "done"


@pytest.mark.parametrize("seen", [1, 5])
def test_a_study_that_is_cut_ends_with_what_it_has(tmp_path, seen):
    asked = []

    def callback(so_far):
        done = sum(record.status == "done" for record in so_far.records)
        asked.append(done)
        return ENOUGH if done >= seen else None

    found = study(tmp_path / "study", 40, callback, keep_best=40)
    assert asked[-1] >= seen
    assert all(record.status in ENDED for record in found.records)
    assert sum(record.status == "stopped" for record in found.records) > 0
    best = found.best
    assert best is not None and best.status == "done" and math.isfinite(best.value)
    assert set(map(int, found.facts["test_of_trials"])) == set(best.numbers)
    # It is over: the same call gives the same study, and trains nothing.
    again = study(tmp_path / "study", 40, lambda so_far: pytest.fail("trained again"), keep_best=40)
    assert [(r.number, r.status, r.objective) for r in again.records if r.status == "done"] == [
        (r.number, r.status, r.objective) for r in found.records if r.status == "done"
    ]
    trained = hpjax.run(found.best_config.replace(run_dir=str(tmp_path / "run")))
    record = found.records[found.facts["kept"][0]]
    assert trained.best["value"] == record.objective, "the winner's flagfile repeats it"
