"""`python -m benchmarks.searches`: cross-validated searches of `hpjax.sklearn.SweepCV` and of scikit-learn's, in turn.

Each in a process of its own, the first search of which counts imports of the parts and compiling, the second does not.
Scikit-learn's searches run in one process and in as many as there are cores, of one thread each.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

ROUNDS = 3
EPOCHS, RATES = 20, np.logspace(-3.5, -1.5, 16)
C = np.logspace(-3, 2, 20)


def iris(ours: bool) -> Any:
    """Returns logistic regression on iris, 20 values of C on 5 folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    common = {"cv": 5, "scoring": "neg_log_loss"}
    if not ours:
        return GridSearchCV(LogisticRegression(max_iter=10_000), {"C": C}, n_jobs=jobs(), **common)
    from hpjax.sklearn import Classifier, SweepCV

    adam = {"optimizer": "adam", "learning_rate": 1.0, "beta1": 0.95, "beta2": 0.99, "schedule": "cosine"}
    model = Classifier("logistic", standardize=False, batch_size=120, train_steps=2000, **adam)
    return SweepCV(model, {"l2": list(1 / (C * 120))}, random_state=0, **common)


def digits(ours: bool) -> Any:
    """Returns a perceptron on the digits, 64-128-10, 16 learning rates of Adam on 5 folds, 20 epochs of batches of 128."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier

    if not ours:
        model = MLPClassifier(
            (128,), alpha=0.0, batch_size=128, max_iter=EPOCHS, n_iter_no_change=EPOCHS, tol=0.0, random_state=0
        )
        return GridSearchCV(model, {"learning_rate_init": RATES}, cv=5, n_jobs=jobs())
    from hpjax.sklearn import Classifier, SweepCV

    model = Classifier("mlp", hidden_sizes=(128,), batch_size=128, train_steps=f"{EPOCHS}epochs", standardize=False)
    return SweepCV(model, {"learning_rate": list(RATES)}, cv=5, random_state=0)


SEARCHES: dict[str, Callable[[bool], Any]] = {"iris": iris, "digits": digits}


def jobs() -> int | None:
    """Returns the processes that scikit-learn's search is given; None for one."""
    return int(os.environ["SEARCH_JOBS"]) if "SEARCH_JOBS" in os.environ else None


def measure(name: str, ours: bool) -> dict[str, float]:
    """Returns the seconds of a first search of the process, of a second one, and the best score."""
    from sklearn.datasets import load_digits, load_iris

    warnings.simplefilter("ignore")
    x, y = load_iris(return_X_y=True) if name == "iris" else load_digits(return_X_y=True)
    x = x / 16 if name == "digits" else x
    found = {}
    for which in ("first", "second"):
        start = time.perf_counter()
        search = SEARCHES[name](ours).fit(x, y)
        found[which] = time.perf_counter() - start
    return {**found, "best": float(search.best_score_)}


def process(name: str, ours: bool, n_jobs: int | None) -> dict[str, float]:
    """Returns what `measure` gives in a process of its own."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    if not ours:
        # Several threads for products this small wait for each other: it is then slower.
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if n_jobs is not None:
        environment["SEARCH_JOBS"] = str(n_jobs)
    command = [sys.executable, "-m", "benchmarks.searches", name, "hpjax" if ours else "sklearn"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the medians and their ratios."""
    cores = len(os.sched_getaffinity(0))
    contenders = {
        "SweepCV": (True, None),
        "GridSearchCV, one process": (False, None),
        f"GridSearchCV, {cores} processes": (False, cores),
    }
    for name in SEARCHES:
        rounds = [{who: process(name, *how) for who, how in contenders.items()} for _ in range(ROUNDS)]
        print(
            f"{name}: seconds of a process's first search and of its second, and the best score, medians of {ROUNDS} rounds"
        )
        for who in contenders:
            first, second, best = (
                statistics.median(one[who][what] for one in rounds) for what in ("first", "second", "best")
            )
            print(f"  {who}: {first:.2f}, {second:.2f}; {best:.4f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], sys.argv[2] == "hpjax")))
    else:
        main()
