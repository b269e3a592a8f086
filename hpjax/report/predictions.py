"""What the winner takes each example of a split for, and which it is most wrong about."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hpjax import build
from hpjax.batch import Examples
from hpjax.data import Dataset
from hpjax.errors import HpjaxError
from hpjax.report.hard_text import TokenPredictions, predict_tokens
from hpjax.study.study import Study

MOST = 20_000
"""Examples that are looked at; of more the first."""


class Predictions(NamedTuple):
    """A classifier's answers over a split.

    Attributes:
      split: `val` or `test`.
      labels: int [examples].
      taken: int [examples], the class with the largest output.
      surprise: float [examples], minus the logarithm of the probability of the label.
      sure: float [examples], the probability of what was taken.
      inputs: [examples, ...], as the data set has them.
      classes: a name for each class.
      trial: the number of the trial whose parameters they are.
    """

    split: str
    labels: np.ndarray
    taken: np.ndarray
    surprise: np.ndarray
    sure: np.ndarray
    inputs: np.ndarray
    classes: tuple[str, ...]
    trial: int

    @property
    def worst(self) -> np.ndarray:
        """The examples that were taken for something else, the most surprising first."""
        wrong = np.flatnonzero(self.taken != self.labels)
        return wrong[np.argsort(-self.surprise[wrong], kind="stable")]


def predict(study: Study) -> Predictions | TokenPredictions | str:
    """Returns the answers of a study's winner over the test split where the study read it, else over validation.

    Returns:
      The answers, or, where there are none, why: the data are neither a classification nor a text or are not here, no
      parameters are kept.
    """
    try:
        config = study.best_config
        dataset = build.load(config)
        split = "test" if study.facts.get("test") and dataset.splits["test"][1] else "val"
        if dataset.task == "language" and dataset.splits[split][1]:
            return predict_tokens(dataset, split, study)
        if dataset.task != "classification" or dataset.y.ndim != 1:
            return f"the data are a {dataset.task}: no confusion matrix"
        return _over(dataset, split, study)
    except HpjaxError as error:
        return f"no predictions: {error}"


def _over(dataset: Dataset, split: str, study: Study) -> Predictions:
    config = study.best_config
    trial = build.trial(config, dataset)
    variables = study.variables()
    start, size = dataset.splits[split]
    size = min(size, MOST)
    batch = min(config.eval_batch_size, size)

    @jax.jit
    def logits(x: jax.Array, y: jax.Array) -> jax.Array:
        inputs, _ = trial.reader.read(Examples(x, y), jnp.arange(len(x)))
        return jax.nn.log_softmax(jnp.asarray(trial.model.apply(variables, inputs), jnp.float32))

    x, labels = dataset.x[start : start + size], dataset.y[start : start + size].astype(int)
    found = []
    for first in range(0, size, batch):
        # Every batch whole, for one program: the last begins where it ends with the split.
        begin = min(first, size - batch)
        given = logits(jnp.asarray(x[begin : begin + batch]), jnp.asarray(dataset.y[start + begin : start + begin + batch]))
        found.append(np.asarray(given)[first - begin :])
    log_probability = np.concatenate(found)
    taken = log_probability.argmax(1)
    rows = np.arange(size)
    names = dataset.class_names or tuple(map(str, range(dataset.num_classes)))
    return Predictions(
        split=split,
        labels=labels,
        taken=taken,
        surprise=-log_probability[rows, labels],
        sure=np.exp(log_probability[rows, taken]),
        inputs=x,
        classes=names,
        trial=study.kept[0],
    )
