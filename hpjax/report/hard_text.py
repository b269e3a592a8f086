"""Where a language model is most wrong: the tokens that it thought least likely, in their text, and the loss by position."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hpjax import build
from hpjax.batch import Examples
from hpjax.data import Dataset
from hpjax.generate import BYTES
from hpjax.report.chart import Axis, Chart, Marks
from hpjax.report.example import Example
from hpjax.study.study import Study

MOST = 512
"""Windows that are looked at; of more an even sample."""
WORST = 12
"""Tokens that are shown, of different windows."""
BEFORE = 60
"""Tokens of the text before each that are shown."""


class TokenPredictions(NamedTuple):
    """A language model's answers over windows of a split.

    Attributes:
      split: `val` or `test`.
      windows: int [windows], which of the split's.
      tokens: int [windows, time + 1], the text: a window's inputs and its last target.
      surprise: float [windows, time], minus the logarithm of the probability of each target.
      taken: int [windows, time], the token that was thought most likely.
      sure: float [windows, time], its probability.
      names: what each token is written as.
      trial: the number of the trial whose parameters they are.
    """

    split: str
    windows: np.ndarray
    tokens: np.ndarray
    surprise: np.ndarray
    taken: np.ndarray
    sure: np.ndarray
    names: tuple[str, ...]
    trial: int


def predict_tokens(dataset: Dataset, split: str, study: Study) -> TokenPredictions:
    """Returns the answers of a study's winner over a split of a text; raises what loading its parameters raises."""
    config = study.best_config
    trial = build.trial(config, dataset)
    variables = study.variables()
    start, size = dataset.splits[split]
    windows = np.unique(np.linspace(0, size - 1, min(size, MOST)).astype(np.int64))
    batch = min(config.eval_batch_size, len(windows))
    examples = Examples(jnp.asarray(dataset.x), jnp.asarray(dataset.y))

    @jax.jit
    def answers(examples: Examples, index: jax.Array) -> tuple[jax.Array, ...]:
        x, y = trial.reader.read(examples, index)
        logs = jax.nn.log_softmax(jnp.asarray(trial.model.apply(variables, x), jnp.float32))
        surprise = -jnp.take_along_axis(logs, y[..., None], -1)[..., 0]
        return jnp.concatenate([x, y[:, -1:]], 1), surprise, logs.argmax(-1), jnp.exp(logs.max(-1))

    found = []
    for first in range(0, len(windows), batch):
        # Every batch whole, for one program: the last begins where it ends with the windows.
        begin = min(first, len(windows) - batch)
        given = answers(examples, jnp.asarray(start + windows[begin : begin + batch], jnp.int32))
        found.append([np.asarray(one)[first - begin :] for one in given])
    tokens, surprise, taken, sure = (np.concatenate(column) for column in zip(*found, strict=True))
    numbers = _bytes() if dataset.num_classes == BYTES else tuple(map(str, range(dataset.num_classes)))
    names = dataset.class_names or numbers
    return TokenPredictions(split, windows, tokens, surprise, taken, sure, names, study.kept[0])


def worst_tokens(found: TokenPredictions) -> list[Example]:
    """Returns the most surprising token of the windows that have the most surprising ones, each behind its text."""
    at = found.surprise.argmax(1)
    rows = np.arange(len(at))
    order = np.argsort(-found.surprise[rows, at], kind="stable")[:WORST]
    result = []
    for row in order:
        column = at[row]
        # Target number t is the token behind input number t.
        before = found.tokens[row, max(column + 1 - BEFORE, 0) : column + 1]
        token = found.names[found.tokens[row, column + 1]]
        text = "".join(found.names[one] for one in before)
        taken, sure = found.names[found.taken[row, column]], found.sure[row, column]
        chance = np.exp(-found.surprise[row, column])
        words = f"#{found.windows[row]}: {token!r} ({chance:.1g} likely), expected {taken!r} ({sure:.0%} sure)"
        result.append(Example("", f"…{text}▸{token}", words))
    return result


def by_position(found: TokenPredictions) -> Chart:
    """Returns the mean loss by how much text stands before a token."""
    mean = found.surprise.mean(0)
    error = found.surprise.std(0) / np.sqrt(len(found.surprise))
    marks = Marks("", list(range(1, len(mean) + 1)), mean.tolist(), "done", size=4, spread=error.tolist())
    words = f"{found.split} split, trial {found.trial}, {len(found.windows):,} windows; bars: the mean's standard error."
    x, y = Axis("tokens before"), Axis("loss")
    return Chart("loss_by_position", "Loss by how much text is known", x, y, (marks,), caption=words)


def _bytes() -> tuple[str, ...]:
    return tuple(chr(one) if 32 <= one < 127 or one == 10 else f"\\x{one:02x}" for one in range(256))
