"""Logistic regression on iris, its regularisation chosen by cross-validation: SweepCV beside scikit-learn's GridSearchCV.

    python experiments/sklearn_iris.py

20 values of C on 5 folds are 100 trials of one program, about 20 s with compiling. Both minimise the same sum, so that their
log-losses agree to 1e-3 and their accuracies tie.
"""

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from hpjax.sklearn import Classifier, SweepCV

X, y = load_iris(return_X_y=True)
C = np.logspace(-3, 2, 20)
scores = ["neg_log_loss", "accuracy"]

# scikit-learn adds |w|^2 / (2 C) to a sum over the examples, hpjax l2 |w|^2 / 2 to their mean: of 120 on a fold.
model = Classifier(
    "logistic",
    standardize=False,
    batch_size=120,
    optimizer="adam",
    learning_rate=1.0,
    beta1=0.95,
    beta2=0.99,
    schedule="cosine",
    train_steps=2000,
)
ours = SweepCV(model, {"l2": list(1 / (C * 120))}, cv=5, scoring=scores, refit="neg_log_loss", random_state=0).fit(X, y)
theirs = GridSearchCV(LogisticRegression(max_iter=10_000), {"C": C}, cv=5, scoring=scores, refit="neg_log_loss").fit(X, y)

for name in scores:
    mean = f"mean_test_{name}"
    gap = np.abs(ours.cv_results_[mean] - theirs.cv_results_[mean]).max()
    print(f"{name}: best {ours.cv_results_[mean].max():.4f}, the candidates differ by at most {gap:.1e}")
print(f"best C: {1 / (120 * ours.best_params_['l2']):.3g}, scikit-learn's {theirs.best_params_['C']:.3g}")
