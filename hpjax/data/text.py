"""A text as a stream of characters or bytes, for language models."""

import os

import numpy as np

from hpjax.data import splits
from hpjax.data.dataset import Dataset, create_language
from hpjax.data.reading import decoded, find, read_bytes
from hpjax.data.registry import DATASETS, task
from hpjax.errors import ConfigError, DataError

_HINT = (
    "expected a text, UTF-8 for characters, named by --text_file=PATH; tiny Shakespeare is had at "
    "raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
_PLACES = ("input.txt", "tinyshakespeare/input.txt")


@DATASETS.register
@task("language")
def text(
    *,
    data_dir: str | os.PathLike[str] | None,
    text_file: str | os.PathLike[str] | None = None,
    tokens: str = "characters",
    context_length: int = 64,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.0,
) -> Dataset:
    """Returns a text's tokens, the first part for training, the next for validation, the last for the test.

    A training example begins at every token. Validation and test examples follow one another without overlap, each target
    once; of a split of m tokens the last `(m - 1) % context_length` targets are left out (`left_out`). With a test
    fraction of 0 the cut is nanoGPT's: of n tokens the first `int(0.9 * n)` are for training.

    Args:
      data_dir: a folder to look in; None takes the environment's HPJAX_DATA_DIR.
      text_file: the file, as named or in that folder; None looks for input.txt and tinyshakespeare/input.txt.
      tokens: 'characters', the vocabulary being those of the whole file, sorted, validation and test included (a model
        could not be asked about others), or 'bytes', a vocabulary of 256. `class_names` holds the characters, of bytes
        nothing.
      context_length: tokens of an example.
      validation_fraction: share of the tokens held out for validation.
      test_fraction: share of the tokens held out for the test.

    Raises:
      ConfigError: a fraction, `tokens` or the context length is out of its domain.
      DataError: the file is missing, empty, too short for the context, or is no UTF-8.

    Source: Karpathy, char-rnn (2015) and nanoGPT (2022), `data/shakespeare_char`.
    """
    if tokens not in ("characters", "bytes"):
        raise ConfigError(f"tokens is {tokens!r}; expected one of characters, bytes")
    if context_length < 1:
        raise ConfigError(f"context_length is {context_length!r}; expected a whole number >= 1")
    path = find("text", _PLACES if text_file is None else [text_file], data_dir, _HINT)
    content = read_bytes(path)
    if not content:
        raise DataError(f"file '{path}' is empty; {_HINT}")
    names: tuple[str, ...] = ()
    if tokens == "bytes":
        stream, size = np.frombuffer(content, np.uint8), 256
    else:
        stream, names = _characters(decoded(content, path, "for a file that is none give --tokens=bytes"))
        size = len(names)
    splits.check_fractions(validation_fraction, test_fraction)
    total = len(stream)
    begins = [0, int(total * (1 - (validation_fraction + test_fraction))), int(total * (1 - test_fraction)), total]
    parts = {
        split: stream[begin:end] for split, begin, end in zip(("train", "val", "test"), begins[:-1], begins[1:], strict=True)
    }
    for split, part in parts.items():
        if 0 < len(part) <= context_length or (split == "train" and not len(part)):
            raise DataError(
                f"file '{path}' has {total} tokens, {len(part)} of them for split '{split}'; expected at least "
                f"{context_length + 1} for context_length {context_length}"
            )
    return create_language("text", **parts, window=context_length, num_classes=size, class_names=names)


def left_out(dataset: Dataset, split: str) -> int:
    """Returns how many of a split's possible targets no example holds: fewer than a window, none for training."""
    assert dataset.window is not None
    begin, size = dataset.splits[split]
    if split == "train" or not size:
        return 0
    later = [dataset.splits[other] for other in ("val", "test") if dataset.splits[other][0] > begin]
    end = next((int(dataset.y[start]) for start, count in later if count), len(dataset.x))
    return end - 1 - int(dataset.y[begin]) - size * dataset.window


def _characters(content: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns a text as indices into its sorted characters, in the smallest type that holds them, and the characters."""
    codes = np.frombuffer(content.encode("utf-32-le"), np.uint32)
    known = np.flatnonzero(np.bincount(codes))
    dtype = np.uint8 if len(known) <= 2**8 else np.uint16 if len(known) <= 2**16 else np.int32
    index = np.zeros(known[-1] + 1, dtype)
    index[known] = np.arange(len(known))
    return index[codes], tuple(map(chr, known.tolist()))
