"""Bad input to `python -m hpjax.sweep`: one line, exit code 2, before anything compiles, and the disk as it was."""

import os

import pytest

from hpjax import sample, train
from hpjax.lanes import LaneProgram
from hpjax.runfolder import FLAGS
from test_bad_input import contents
from test_sweep import run, words

RATE = "learning_rate=log(1e-4,1)"


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """A function that gives the command bad input and returns the line that it answers with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LaneProgram, "__init__", lambda *args, **kwargs: pytest.fail("a program was made"))

    def refuse(*vary: str, **settings: object) -> str:
        before = contents(tmp_path)
        code, out, err = run(*words(vary, **settings))
        assert (code, out) == (2, "")
        assert contents(tmp_path) == before
        assert err.startswith("hpjax.sweep: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return err.removeprefix("hpjax.sweep: ").removesuffix("\n")

    return refuse


@pytest.mark.parametrize(
    ("vary", "settings", "message"),
    [
        ((), {}, "vary is not given; expected at least one, --vary='learning_rate=log(1e-4,1)' for example"),
        (
            ("learning_rat=log(1e-4,1)",),
            {},
            "vary 'learning_rat=log(1e-4,1)': setting 'learning_rat' is unknown at character 1; "
            "did you mean 'learning_rate'?",
        ),
        (
            ("learning_rate=log(1e-2,1e-2)",),
            {},
            "vary 'learning_rate=log(1e-2,1e-2)': log's range is empty, 0.01 to 0.01 at character 19; "
            "expected log(low,high), low < high",
        ),
        (
            ("learning_rate=uniform(0.2,0.1)",),
            {},
            "vary 'learning_rate=uniform(0.2,0.1)': uniform's range is reversed, 0.2 to 0.1 at character 23; "
            "expected uniform(low,high), low < high",
        ),
        (
            ("learning_rate=log(0,1)",),
            {},
            "vary 'learning_rate=log(0,1)': log's lower bound is 0 at character 19; expected a number > 0",
        ),
        (
            ("train_steps=int(1,2000)", "learning_rate=log(1e-4,1,501)"),
            {"sampler": "grid"},
            "the grid has 1002000 points (2000 x 501); expected at most 1000000",
        ),
        ((RATE,), {"sampler": "grid"}, "is continuous"),
        (("momentum=uniform(0,0.9)",), {"optimizer": "sgd"}, "momentum is not used by optimizer 'sgd'; settings it uses: "),
        (
            ("momentum=uniform(0,1) if optimizer==momentum",),
            {"optimizer": "adamw"},
            "'momentum' is varied in no trial (optimizer is adamw): its condition never holds at character 26; expected ",
        ),
        ((f"{RATE} if optimizer==sgdd",), {}, "'optimizer' is never 'sgdd' at character 41; did you mean 'sgd'?"),
        (("batch_size=choice(32,48)",), {"micro_batch_size": 32}, "batch_size may be 48; expected a multiple of"),
        ((RATE, "seed=range(8)"), {"trials": 7}, "trials is 7; expected at least 8, one for each seed and fold"),
        ((RATE,), {"trials": 0}, "trials is '0'; expected a whole number in [1, 2^31)"),
        ((RATE,), {"lanes": 3, "scheduler": "asha"}, "lanes is 3; expected a multiple of 2"),
        ((RATE,), {"lanes": 3, "lane_width": 2}, "lanes is 3; expected a multiple of 2"),
        *(
            ((RATE,), {"eval_every": 24, "scheduler": name}, f"scheduler '{name}' has nothing to decide")
            for name in ("asha", "asha_promotion", "median", "halving", "hyperband")
        ),
        ((RATE,), {"scheduler": "ashe"}, "did you mean 'asha'?"),
        ((RATE,), {"vari": RATE}, "flag 'vari' is unknown; did you mean 'vary'?"),
        (("optimizer=choice(sgd,adan)",), {}, "optimizer 'adan' is unknown; did you mean 'adam'?"),
        (("dataset=choice(digits,iris)",), {}, "'dataset' cannot be varied at character 1; expected the flag --dataset"),
        (("folds=choice(2,3)",), {}, "'folds' cannot be varied at character 1; expected the flag --folds"),
        (("fold=range(3)",), {}, "fold is varied up to 2, but folds is not given; expected --folds=NUMBER"),
        (("fold=range(4)",), {"folds": 3}, "fold is varied up to 3; expected one of the 3 folds, 0 to 2"),
        ((RATE,), {"batch_size": 5000}, "batch_size is 5000; expected at most the training split's"),
        (("train_steps=choice(8,0)",), {}, "train_steps is 0; expected at least one step"),
        ((RATE,), {"init_from": "nowhere"}, "nowhere'; expected a run's folder, a study's or a checkpoint's"),
        (
            (RATE, "seed=range(2)"),
            {"share_batches": "true", "folds": 3},
            "fold is varied, but with share_batches all trials",
        ),
        ((RATE,), {"devices": 3, "eval_batch_size": 510}, "devices is 3; expected a divisor of micro_batch_size, 64"),
        ((RATE,), {"devices": 4711}, "devices is 4711; expected at most the "),
        ((RATE,), {"run_dir": "x"}, "run_dir is x, but a study has a folder of its own: expected --study=FOLDER"),
        ((RATE,), {"callback": "odd:f"}, "callback is odd:f, but a study's trials call none"),
        ((RATE,), {"inspect": "norms"}, "inspect is norms, but a study's trials are not looked into"),
        ((RATE,), {"study": "file/study"}, "cannot write to 'file/study': not a directory"),
        ((RATE,), {"objective": "val/acuracy:max"}, "objective is 'val/acuracy:max'; did you mean 'val/accuracy'?"),
    ],
)
def test_bad_input(refused, tmp_path, vary, settings, message):
    (tmp_path / "file").write_text("")
    assert message in refused(*vary, **settings)


@pytest.fixture
def begun(tmp_path):
    """The folders of a study and of a run that were begun, as far as another command looks."""
    study, single = tmp_path / "study", tmp_path / "single"
    for folder, flags, mark in (
        (study, words((RATE,)), "study.journal"),
        (single, words(), "metrics.jsonl"),
    ):
        folder.mkdir()
        (folder / FLAGS).write_text("\n".join(flags) + "\n")
        (folder / mark).write_text("")
        (folder / ".lock").write_text(f"{os.getpid()}\n")
    return study, single


def test_a_folder_of_another_space(begun, refused):
    study, _ = begun
    assert refused("learning_rate=log(1e-3,1)", study=study).startswith(
        f"'{study}' holds a study with other flags (vary learning_rate=log(1e-4,1) -> learning_rate=log(1e-3,1)); expected "
    )


def test_a_run_and_a_study_never_take_each_others_folder(begun, refused, capsys, tmp_path):
    study, single = begun
    before = contents(tmp_path)
    for more in ({}, {"overwrite": True}):
        assert refused(RATE, study=single, **more) == f"'{single}' holds a run, not a study; expected a new name"
        flag = [f"--{name}" for name in more]
        assert train.main(["hpjax.train", *words(run_dir=study, devices=1), *flag]) == 2
        assert capsys.readouterr().err == f"hpjax.train: '{study}' holds a study, not a run; expected a new name\n"
    assert sample.main(["hpjax.sample", f"--run_dir={study}"]) == 2
    assert "holds a study, not a run" in capsys.readouterr().err
    assert contents(tmp_path) == before
