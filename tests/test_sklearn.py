"""`hpjax.sklearn`: a search against scikit-learn's own, what it leaves and what it refuses."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit, StratifiedKFold
from threadpoolctl import threadpool_limits

import hpjax
from hpjax import flags
from hpjax.sklearn import Classifier, Regressor, SweepCV
from hpjax.sklearn.settings import SETTINGS
from hpjax.sklearn.training import PROGRAMS

ROOT = Path(__file__).parent.parent
SMALL = {"hidden_sizes": (8,), "batch_size": 8, "train_steps": 40, "random_state": 3}
ADAM = {"optimizer": "adam", "learning_rate": 1.0, "beta1": 0.95, "beta2": 0.99, "schedule": "cosine"}
CONVEX = {"standardize": False, **ADAM}


def classes(rng, examples=90, features=4):
    seed = int(rng.integers(2**31))
    return make_classification(
        examples, features, n_informative=features, n_redundant=0, n_classes=3, n_clusters_per_class=1, random_state=seed
    )


def numbers(rng, examples=60, targets=1):
    x, y = make_regression(examples, 4, noise=20.0, n_targets=targets, random_state=int(rng.integers(2**31)))
    return x * 3 + 50, y + 1000


def test_iris_agrees_with_logistic_regression(rng):
    x, y = load_iris(return_X_y=True)
    c = np.logspace(-3, 2, 6)
    scores = ["neg_log_loss", "accuracy"]
    model = Classifier("logistic", batch_size=120, train_steps=4000, **CONVEX)
    for cv in (5, StratifiedKFold(5, shuffle=True, random_state=int(rng.integers(2**31)))):
        ours = SweepCV(model, {"l2": list(1 / (120 * c))}, cv=cv, scoring=scores, refit="neg_log_loss").fit(x, y)
        logistic = LogisticRegression(max_iter=10_000, tol=1e-6)
        # Its threads wait for each other: on a busy machine five times as long.
        with threadpool_limits(1):
            theirs = GridSearchCV(logistic, {"C": c}, cv=cv, scoring=scores, refit="neg_log_loss").fit(x, y)
        for name in [f"mean_test_{scores[0]}", *(f"split{fold}_test_{scores[0]}" for fold in range(5))]:
            np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], atol=1e-3)
        assert ours.best_index_ == theirs.best_index_
        # On other folds an example may lie so near to a border that the solvers' tolerances decide.
        most = 0 if cv == 5 else 1 / 150
        gap = np.abs(ours.cv_results_["mean_test_accuracy"] - theirs.cv_results_["mean_test_accuracy"])
        assert gap.max() <= most + 1e-12


def test_linear_regression_agrees_with_ridge(rng):
    x, y = numbers(rng)
    x, y = (x - 50) / 3, (y - 1000) / 100
    alpha = np.array([0.1, 1.0, 10.0, 100.0])
    model = Regressor("logistic", batch_size=40, train_steps=1500, **CONVEX)
    ours = SweepCV(model, {"l2": list(2 * alpha / 40)}, cv=3, scoring="neg_mean_squared_error").fit(x, y)
    theirs = GridSearchCV(Ridge(), {"alpha": alpha}, cv=3, scoring="neg_mean_squared_error").fit(x, y)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=2e-3, atol=1e-4
    )
    alone = Ridge(alpha=ours.best_params_["l2"] * 60 / 2).fit(x, y)
    np.testing.assert_allclose(
        ours.best_estimator_.set_params(batch_size=60).fit(x, y).predict(x), alone.predict(x), atol=1e-2
    )


@pytest.mark.parametrize(("kind", "scoring"), [(Classifier, "neg_log_loss"), (Regressor, "neg_mean_absolute_error")])
def test_lanes_give_what_one_fit_after_the_other_gives(rng, kind, scoring):
    """The same candidates on the same folds, fitted one by one by scikit-learn's search: the same bits."""
    x, y = classes(rng, 70) if kind is Classifier else numbers(rng, 70)
    space = {"learning_rate": [0.01, 0.1], "l2": [0.0, 0.01, 0.1]}
    model = kind(standardize=False, **SMALL)
    if kind is Regressor:
        x, y = x / 50, y / 1000
    settings = {"cv": KFold(3, shuffle=True, random_state=0), "scoring": scoring, "return_train_score": True}
    ours, theirs = SweepCV(model, space, **settings).fit(x, y), GridSearchCV(model, space, **settings).fit(x, y)
    assert list(ours.cv_results_) != []
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    place = {tuple(sorted(one.items())): i for i, one in enumerate(theirs.cv_results_["params"])}
    order = [place[tuple(sorted(one.items()))] for one in ours.cv_results_["params"]]
    for name, values in theirs.cv_results_.items():
        found = ours.cv_results_[name]
        assert len(found) == len(values)
        if name != "params":
            assert (type(found), found.dtype, found.shape) == (type(values), values.dtype, values.shape)
        if "split" in name or name.startswith(("mean_test", "mean_train", "rank", "std_t", "param_")):
            np.testing.assert_array_equal(found, values[order])
    assert (ours.best_params_, ours.best_score_) == (theirs.best_params_, theirs.best_score_)
    for method in ("predict", "predict_proba", "decision_function")[: 3 if kind is Classifier else 1]:
        np.testing.assert_array_equal(getattr(ours, method)(x), getattr(theirs, method)(x))
    assert ours.score(x, y) == theirs.score(x, y)
    assert (ours.n_splits_, ours.n_features_in_, ours.multimetric_) == (3, 4, False)


def test_standardised_folds_are_a_pipeline_of_their_own(rng):
    """With `standardize` a fold's statistics are its training examples': what one fit of them alone has."""
    x, y = classes(rng, 61)
    x = x * [1, 10, 1e3, 1e-3] + [0, 5, 1e5, 1]
    model, cv = Classifier(**SMALL), KFold(4)
    ours = SweepCV(model, {"learning_rate": [0.05]}, cv=cv, scoring="neg_log_loss").fit(x, y)
    theirs = GridSearchCV(model, {"learning_rate": [0.05]}, cv=cv, scoring="neg_log_loss").fit(x, y)
    for fold in range(4):
        name = f"split{fold}_test_score"
        np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-3)
    again = clone(ours.best_estimator_).fit(x, y)
    np.testing.assert_array_equal(again.predict_proba(x), ours.predict_proba(x))


def test_any_splitter_and_a_data_frame(rng):
    x, y = classes(rng)
    names = ["a", "b", "c", "d"]
    frame, words = pandas.DataFrame(x, columns=names), pandas.Series(np.array(["one", "two", "three"])[y])
    groups = np.arange(90) % 7
    cuts = [
        (np.arange(0, 50), np.arange(40, 90)),
        (np.arange(30, 90), np.arange(0, 20)),
        (np.arange(90) > 9, np.arange(90) < 5),
    ]
    for cv, given, splits in ((cuts, None, 3), (GroupKFold(3), groups, 3), (ShuffleSplit(1, random_state=0), None, 1)):
        search = SweepCV(Classifier(**SMALL), {"learning_rate": [0.01, 0.1]}, cv=cv).fit(frame, words, groups=given)
        assert search.n_splits_ == splits
        assert search.feature_names_in_.tolist() == names
        assert search.classes_.tolist() == ["one", "three", "two"]
        assert set(search.predict(frame)) <= {"one", "two", "three"}
        assert search.score(frame, words) == accuracy_score(words, search.predict(frame))


def test_the_space_in_all_its_forms(rng):
    x, y = classes(rng, 40)
    space = {
        "learning_rate": stats.loguniform(1e-3, 1e-1),
        "l2": "1e-3*learning_rate if optimizer==momentum",
        "momentum": "1-log(1e-2,0.5) if optimizer==momentum",
        "optimizer": ["momentum", "adam"],
        "hidden_sizes": [[4, 4], ()],
        "warmup": ["0", "25%"],
        "dropout_rate": stats.uniform(0, 0.5),
        "label_smoothing": [0, 0.1],
    }
    search = SweepCV(Classifier(**SMALL), space, n_trials=6, sampler="halton", cv=2, random_state=1).fit(x, y)
    results = search.cv_results_
    assert len(results["params"]) == 6
    assert all(1e-3 <= one["learning_rate"] <= 1e-1 and 0 <= one["dropout_rate"] <= 0.5 for one in results["params"])
    assert {one["hidden_sizes"] for one in results["params"]} <= {(4, 4), ()}
    of_momentum = np.array([one["optimizer"] == "momentum" for one in results["params"]])
    assert of_momentum.any() and not of_momentum.all()
    np.testing.assert_array_equal(results["param_l2"].mask, ~of_momentum)
    again = SweepCV(Classifier(**SMALL), space, n_trials=6, sampler="halton", cv=2, random_state=1).fit(x, y)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], results["mean_test_score"])


def test_batches_of_several_sizes_and_the_best_of_them(rng):
    x, y = classes(rng, 64)
    model = Classifier(hidden_sizes=(4,), train_steps="5epochs", random_state=0)
    search = SweepCV(model, {"batch_size": [8, 16]}, cv=2).fit(x, y)
    assert search.best_estimator_.get_params()["batch_size"] == search.best_params_["batch_size"]
    assert search.best_estimator_.n_iter_ == 64 * 5 // search.best_params_["batch_size"]


def test_several_scores_and_functions(rng):
    x, y = classes(rng, 50)
    space = {"learning_rate": [1e-4, 0.1]}

    def half(estimator, x, y):
        return {"half": estimator.score(x, y) / 2, "none": 0.0}

    search = SweepCV(Classifier(**SMALL), space, cv=2, scoring={"a": "accuracy", "f": "f1_macro"}, refit="f").fit(x, y)
    assert set(search.scorer_) == {"a", "f"}
    assert search.best_score_ == search.cv_results_["mean_test_f"].max()
    np.testing.assert_array_equal(search.cv_results_["rank_test_f"].argmin(), search.best_index_)
    search = SweepCV(Classifier(**SMALL), space, cv=2, scoring=half, refit="half").fit(x, y)
    assert (search.cv_results_["mean_test_none"] == 0).all() and search.multimetric_
    search = SweepCV(Classifier(**SMALL), space, cv=2, refit=lambda results: 1).fit(x, y)
    assert search.best_params_ == {"learning_rate": 0.1} and not hasattr(search, "best_score_")
    search = SweepCV(Classifier(**SMALL), space, cv=2, refit=False).fit(x, y)
    assert search.best_params_ and not hasattr(search, "best_estimator_") and not hasattr(search, "predict")
    with pytest.raises(ValueError, match=r"refit is True; expected False, a function, or a score: half, none"):
        SweepCV(Classifier(**SMALL), space, cv=2, scoring=half).fit(x, y)

    def broken(estimator, x, y):
        raise RuntimeError("no score today")

    with (
        pytest.warns(UserWarning, match="no score today"),
        pytest.warns(UserWarning, match="scores are non-finite"),
        pytest.raises(ValueError, match="no candidate has a score"),
    ):
        SweepCV(Classifier(**SMALL), {"learning_rate": [0.1]}, cv=2, scoring=broken).fit(x, y)
    with pytest.raises(RuntimeError, match="no score today"):
        SweepCV(Classifier(**SMALL), space, cv=2, scoring=broken, error_score="raise").fit(x, y)


def test_a_trial_that_diverges_has_no_score(rng):
    x, y = numbers(rng)
    model = Regressor("logistic", optimizer="sgd", batch_size=8, train_steps=300)
    with pytest.warns(UserWarning, match="scores are non-finite"):
        search = SweepCV(model, {"learning_rate": [0.01, 1e4]}, cv=2).fit(x, y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]
    assert search.cv_results_["rank_test_score"].tolist() == [1, 2]
    assert search.best_params_ == {"learning_rate": 0.01}
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no candidate has a score on every fold"):
        SweepCV(model, {"learning_rate": [1e4]}, cv=2).fit(x, y)
    with pytest.raises(ValueError, match=r"the loss of \{'learning_rate': 10000.0\} was not finite on fold 0"):
        SweepCV(model, {"learning_rate": [1e4]}, cv=2, error_score="raise").fit(x, y)
    with pytest.raises(ValueError, match=r"the loss was not finite at step \d+; expected a smaller learning_rate"):
        clone(model).set_params(learning_rate=1e4).fit(x, y)


@pytest.mark.parametrize(
    ("kind", "scoring", "exact"),
    [(Classifier, "accuracy", True), (Classifier, "f1_macro", False), (Classifier, "neg_log_loss", False)]
    + [(Regressor, name, False) for name in ("r2", "neg_mean_absolute_error", "neg_root_mean_squared_error")],
)
def test_the_lanes_measure_what_scikit_learn_scores(rng, tmp_path, kind, scoring, exact):
    x, y = classes(rng, 47) if kind is Classifier else numbers(rng, 47)
    vary = {"learning_rate": "log(1e-3,1e-1)"}
    settings = {"n_trials": 4, "sampler": "tpe", "scoring": scoring, "cv": 3, "random_state": 0}
    search = SweepCV(kind(**SMALL), vary, study=tmp_path / "study", **settings).fit(x, y)
    study = hpjax.load_study(tmp_path / "study")
    signed = [one.objective if study.objective.maximise else -one.objective for one in study.records]
    by_fold = np.array(signed).reshape(4, 3)
    found = np.stack([search.cv_results_[f"split{fold}_test_score"] for fold in range(3)], axis=1)
    np.testing.assert_allclose(by_fold, found, rtol=1e-12 if exact else 1e-4, atol=1e-6)


def test_a_folder_keeps_the_study_and_repeats_the_best_trial(rng, tmp_path):
    x, y = numbers(rng, 50)
    folder = tmp_path / "study"
    model = Regressor(**{**SMALL, "train_steps": "6epochs"})
    settings = {"n_trials": 3, "cv": KFold(4), "random_state": 5, "study": folder}
    search = SweepCV(model, {"learning_rate": "log(1e-3,1e-1)"}, **settings).fit(x, y)
    study = hpjax.load_study(folder)
    best = max(study.records[number].objective for number in study.best.numbers)
    again = hpjax.run(flags.parse(["", f"--flagfile={folder / 'best.flags'}", f"--run_dir={tmp_path / 'run'}"]))
    assert again.objective == best
    journal = (folder / "study.journal").stat()
    same = SweepCV(model, {"learning_rate": "log(1e-3,1e-1)"}, **settings).fit(x, y)
    assert (folder / "study.journal").stat() == journal
    np.testing.assert_array_equal(same.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(same.predict(x), search.predict(x))
    alone = SweepCV(model, {"learning_rate": "log(1e-3,1e-1)"}, **{**settings, "study": None}).fit(x, y)
    np.testing.assert_array_equal(alone.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])
    with pytest.raises(ValueError, match="holds a study with other flags"):
        SweepCV(model, {"learning_rate": "log(1e-3,1)"}, **settings).fit(x, y)
    with pytest.raises(ValueError, match="the data set has changed since this study was begun"):
        SweepCV(model, {"learning_rate": "log(1e-3,1e-1)"}, **settings).fit(x, y + 1.0 * (np.arange(50) == 3))


def test_nothing_is_left_on_the_disk(rng, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    SweepCV(Classifier(**SMALL), {"learning_rate": [0.1]}, cv=2).fit(*classes(rng, 30))
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_other_values_and_other_data_need_no_other_program(rng):
    def search(examples, rates, seed):
        model = Classifier(**{**SMALL, "random_state": seed})
        return SweepCV(model, {"learning_rate": rates}, cv=3, lanes=8).fit(*classes(rng, examples))

    search(90, [0.1, 0.01], 0)
    program = PROGRAMS.kept[-1][2]
    traces, kept = dict(program.traces), len(PROGRAMS.kept)
    search(120, [0.3, 0.02, 0.05], 7)
    Classifier(**{**SMALL, "l2": None}).fit(*classes(rng, 140))
    assert PROGRAMS.kept[-1][2] is program
    assert (program.traces, len(PROGRAMS.kept)) == (traces, kept)


def test_early_stopping_and_averages(rng):
    x, y = classes(rng, 60)
    model = Classifier(hidden_sizes=(8,), batch_size=8, train_steps="200epochs", learning_rate=0.1, random_state=0)
    model.set_params(early_stopping_patience=2, ema_decay=0.5)
    search = SweepCV(model, {"dropout_rate": [0.0, 0.5]}, cv=2).fit(x, y)
    assert search.best_estimator_.n_iter_ < 200 * 60 / 8


def test_an_estimator_is_pickled_cloned_and_begun_from_a_flagfile(rng, tmp_path):
    x, y = classes(rng, 40)
    (tmp_path / "mine.flags").write_text("--optimizer=adamw\n--learning_rate=0.05\n--hidden_sizes=8\n--train_steps=30\n")
    one = Classifier(config=tmp_path / "mine.flags", batch_size=8, random_state=0).fit(x, y)
    two = Classifier("mlp", optimizer="adamw", learning_rate=0.05, hidden_sizes=(8,), train_steps=30, batch_size=8)
    two.set_params(random_state=0).fit(x, y)
    three = Classifier(config={"optimizer": "adamw", "learning_rate": 0.05, "train_steps": 30}, random_state=0)
    three.set_params(hidden_sizes=[8], batch_size=8).fit(x, y)
    four = Classifier(config=hpjax.Config(optimizer="adamw", learning_rate=0.05, batch_size=8, train_steps="30"))
    four.set_params(hidden_sizes="8", random_state=0, learning_rate=0.05).fit(x, y)
    expected = one.predict_proba(x)
    for other in (two, three, four, pickle.loads(pickle.dumps(one)), clone(one).fit(x, y)):
        np.testing.assert_array_equal(other.predict_proba(x), expected)
    np.testing.assert_allclose(np.exp(one.predict_log_proba(x)), expected, rtol=1e-9)
    assert set(SETTINGS) <= set(one.get_params())
    assert repr(Classifier(l2=0.1)) == "Classifier(l2=0.1)"


ITEMS = {
    "a misspelt setting": ({"lerning_rate": [0.1]}, {}, "setting 'lerning_rate' is unknown; did you mean 'learning_rate'?"),
    "a seed": ({"seed": [1, 2]}, {}, "vary has 'seed'; expected it not to be varied"),
    "no space": ({}, {}, "vary is {}; expected a dict by setting"),
    "no value": ({"l2": []}, {}, "vary: l2 has no value; expected at least one"),
    "one value": ({"l2": 0.1}, {}, "vary: l2 is 0.1; expected a list of values, a text"),
    "a bad text": ({"l2": "log(1,"}, {}, "l2"),
    "a bad value": ({"learning_rate": [-1.0]}, {}, "learning_rate is -1 at character 22; expected a finite number > 0"),
    "another distribution": ({"l2": stats.norm(0, 1)}, {}, "vary: l2 is SciPy's norm; expected scipy.stats' loguniform"),
    "no candidates": ({"l2": "uniform(0,1)"}, {"n_trials": 0}, "n_trials is 0; expected a whole number >= 1, or None"),
    "a grid without end": ({"l2": "uniform(0,1)"}, {"sampler": "grid"}, "sampler 'grid': 'l2' is continuous (uniform)"),
    "a misspelt sampler": ({"l2": "uniform(0,1)"}, {"sampler": "haltn"}, "did you mean 'halton'?"),
    "a misspelt score": ({"l2": [0.1]}, {"scoring": "acuracy"}, "scoring 'acuracy' is unknown; did you mean 'accuracy'?"),
    "tpe and a score of one's own": (
        {"l2": "uniform(0,1)"},
        {"scoring": "balanced_accuracy", "sampler": "tpe"},
        "sampler 'tpe' cannot learn from scoring 'balanced_accuracy'; expected one of accuracy, neg_log_loss",
    ),
    "no estimator": ({"l2": [0.1]}, {"estimator": LogisticRegression()}, "estimator is a LogisticRegression; expected"),
    "a model that there is not": ({"l2": [0.1]}, {"estimator": "mpl"}, "model 'mpl' is unknown; did you mean 'mlp'?"),
    "a setting of another model": ({"heads": [2]}, {}, "heads"),
    "too large a batch": ({"l2": [0.1]}, {"estimator": Classifier(batch_size=500)}, "batch_size is 500; expected at most"),
}


@pytest.mark.parametrize("name", ITEMS)
def test_what_cannot_be_searched_is_refused_in_a_line(rng, name):
    vary, settings, expected = ITEMS[name]
    settings = {"estimator": Classifier(**SMALL), "cv": 2, **settings}
    with pytest.raises(ValueError) as caught:
        SweepCV(vary=vary, **settings).fit(*classes(rng, 30))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_data_and_bad_parameters_are_refused(rng):
    x, y = classes(rng, 30)
    fitted = SweepCV(Classifier(**SMALL), {"l2": [0.1]}, cv=2).fit(x, y)
    with pytest.raises(ValueError, match="X has 3 features, but Classifier is expecting 4 features as input"):
        fitted.predict(x[:, :3])
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        SweepCV(Classifier(**SMALL), {"l2": [0.1]}, cv=2).fit(x, y)
    with pytest.raises(ValueError, match=r"y has one class, .*; expected at least 2 classes"):
        Classifier(**SMALL).fit(np.ones((9, 2)), np.ones(9))
    with pytest.raises(ValueError, match="X has values beyond float32's largest"):
        Classifier(standardize=False, **SMALL).fit(np.full((30, 2), 1e39), y)
    with pytest.raises(TypeError, match="setting 'hiden_sizes' is unknown; did you mean 'hidden_sizes'"):
        Classifier(hiden_sizes=(8,))
    with pytest.raises(ValueError, match="setting 'folds' is unknown; expected the search's cv"):
        Classifier().set_params(folds=5)
    with pytest.raises(ValueError, match="config is a int; expected a Config, a dict of settings or a flagfile's path"):
        Classifier(config=3).fit(np.ones((9, 2)), np.arange(9) % 2)


def python(code, **more):
    environment = {**os.environ, **more}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_hpjax_alone_imports_no_scikit_learn():
    done = python("import sys, hpjax, hpjax.study.study, hpjax.runner; print('sklearn' in sys.modules)")
    assert done.stdout == "False\n", done.stderr
    done = python("import sys; sys.modules['sklearn'] = None; import hpjax.sklearn")
    assert done.stderr.splitlines()[-1] == (
        "ImportError: hpjax.sklearn needs scikit-learn, which is not installed: pip install scikit-learn"
    )


def test_the_example_is_executed(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "experiments" / "sklearn_iris.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert float(lines[0].rpartition(" ")[2]) < 1e-3
    assert float(lines[1].rpartition(" ")[2]) < 1e-12
    assert lines[2].startswith("best C: ")
    assert list(tmp_path.iterdir()) == []
