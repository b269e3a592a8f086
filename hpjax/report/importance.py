"""How much of what the trials differ in each hyperparameter explains: fANOVA, as Optuna has it."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hpjax.report.chart import Axis, Chart, Marks
from hpjax.report.material import Trials
from hpjax.study import axes
from hpjax.study.as_optuna import shown
from hpjax.study.axes import Scale
from hpjax.study.records import ENDED, SettingSummary

LEAST = 12
"""Settings that ended below which nothing is said."""
MOST = 256
"""Settings that the trees are grown on; of more an even sample."""
TREES = 32
SEED = 0


class Importance(NamedTuple):
    """What each hyperparameter explains.

    Attributes:
      shares: share of the variance by name, the largest first; empty where nothing can be said.
      said: how it was found, or why nothing can be said.
    """

    shares: dict[str, float]
    said: str


def importance(trials: Trials) -> Importance:
    """Returns the importance of each hyperparameter over the settings that ended; the same every time.

    Those that a scheduler stopped count with the value they had: among the others there are none with a bad learning rate,
    which would seem to matter little. Values that the pictures leave out count as the end of their range.

    Source: Hutter, Hoos and Leyton-Brown, An Efficient Approach for Assessing Hyperparameter Importance (2014).
    """
    ended = [one for one in trials.settings if one.status in ENDED and math.isfinite(one.value)]
    names = [name for name in trials.scales if all(name in one.values for one in ended)]
    names = [name for name in names if len({shown(name, one.values[name]) for one in ended}) > 1]
    words = f"{len(ended)} settings ended with a value"
    if len(ended) < max(LEAST, 3 * len(names)):
        return Importance({}, f"{words}: too few to say which hyperparameters matter")
    if len(names) < 2:
        return Importance({}, "fewer than two hyperparameters vary in all settings that ended")
    if len({one.value for one in ended}) == 1:
        return Importance({}, f"{words}, all with the same one: nothing to explain")
    sample = [ended[i] for i in np.linspace(0, len(ended) - 1, min(len(ended), MOST)).astype(int)]
    found = _fanova(sample, names, trials)
    which = f"an even sample of {len(sample)} of the " if len(sample) < len(ended) else "the "
    left_out = [name for name in trials.scales if name not in names]
    more = f"; {', '.join(left_out)} did not vary in all of them" if left_out else ""
    said = f"fANOVA over {which}{len(ended)} settings that ended with a value, {TREES} trees, seed {SEED}{more}"
    return Importance(dict(sorted(found.items(), key=lambda one: -one[1])), said)


def chart(step: str, found: Importance) -> Chart:
    """Returns the picture of what `importance` found."""
    names, values = list(found.shares), list(found.shares.values())
    texts = [f"{name}\n{value:.0%} of the variance" for name, value in found.shares.items()]
    marks = Marks("", values, list(range(len(names))), "done", "bars", texts=texts)
    y = Axis("", labels=tuple(names))
    x = Axis("share of the variance", ends=(0.0, max(1.05 * max(values), 0.1)))
    height = 120 + 36 * len(names)
    return Chart(f"{step}_importance", "Importance", x, y, (marks,), caption=f"{found.said}.", height=height)


def _fanova(sample: Sequence[SettingSummary], names: Sequence[str], trials: Trials) -> dict[str, float]:
    # Imported here: it takes half a second, which a report without a search need not wait for.
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(direction="maximize" if trials.objective.maximise else "minimize")
            searched = {name: _distribution(optuna, name, sample, trials.scales[name]) for name in names}
            made = optuna.trial.create_trial
            low, high, _ = axes.span([one.value for one in sample], trials.objective)
            study.add_trials(
                [
                    made(
                        value=min(max(one.value, low), high),
                        params={name: shown(name, one.values[name]) for name in names},
                        distributions=searched,
                    )
                    for one in sample
                ]
            )
            evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=SEED)
            return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    finally:
        optuna.logging.set_verbosity(before)


def _distribution(optuna: Any, name: str, sample: Sequence[SettingSummary], scale: Scale) -> Any:
    """Returns the range or the choices that the settings were found in: nothing lies beyond."""
    values = [shown(name, one.values[name]) for one in sample]
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if scale == "category" or len(numbers) < len(values):
        return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(values)))
    log = scale == "log" and min(numbers) > 0
    return optuna.distributions.FloatDistribution(float(min(numbers)), float(max(numbers)), log=log)
