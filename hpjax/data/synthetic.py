"""Data made up on the spot, of any size: vectors, pictures and tokens, the same for the same settings."""

import numpy as np

from hpjax.data import splits
from hpjax.data.dataset import Dataset, create_language, in_order, standardised
from hpjax.data.registry import DATASETS, task
from hpjax.errors import ConfigError

# Values drawn at a time: what is drawn is float64, and a set of any size must not be.
_BLOCK = 2**20
_HIDDEN = 32
_PATCHES = 8


@DATASETS.register
def synthetic(
    *,
    task: str = "classification",
    examples: int = 2000,
    features: int = 20,
    classes: int | None = None,
    noise: float = 1.0,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Returns made-up vectors: Gaussian clusters to tell apart, or a random network's outputs to predict.

    A class is a point drawn from the standard normal distribution, its examples that point plus `noise` times standard
    normal noise; classes are as equal in number as can be. A regression's targets are those of a network with one hidden
    layer of 32 tanh units, of standard deviation about 1, plus `noise` times standard normal noise.

    Args:
      task: 'classification' or 'regression'.
      examples: number of examples, all splits together.
      features: numbers in an example.
      classes: number of classes, of a classification only; None is 10.
      noise: standard deviation of the noise.
      validation_fraction: share of the examples for validation.
      test_fraction: share of the examples for the test.
      split_seed: seed of all that is drawn; the examples are independent, so that the splits are cut in order.

    Raises:
      ConfigError: a setting out of its domain, or classes for a regression.
      DataError: no example is left for training.
    """
    if task not in ("classification", "regression"):
        raise ConfigError(f"task is {task!r}; expected one of classification, regression for dataset 'synthetic'")
    if task == "regression" and classes is not None:
        raise ConfigError(f"classes is {classes}, but task is 'regression'; expected it to be left out")
    classes = 10 if classes is None else classes
    _check(examples=(examples, 1), features=(features, 1), classes=(classes, 2))
    _check_noise(noise, np.inf)
    sizes = splits.sizes(
        examples, validation_fraction=validation_fraction, test_fraction=test_fraction, split_seed=split_seed
    )
    random = np.random.RandomState(split_seed)
    x = np.empty((examples, features), np.float32)
    if task == "classification":
        y = random.permutation(np.arange(examples) % classes).astype(np.int32)
        centres = random.standard_normal((classes, features))
        for rows in _blocks(examples, features):
            x[rows] = centres[y[rows]] + noise * random.standard_normal((len(y[rows]), features))
        dataset = Dataset("synthetic", x, y, in_order(sizes), num_classes=classes)
    else:
        # Each unit's input has variance 2 and the sum's is 1 / 2 or so: 1.4 brings it to about 1.
        first = random.standard_normal((features, _HIDDEN)) * np.sqrt(2 / features)
        last = random.standard_normal(_HIDDEN) * 1.4 / np.sqrt(_HIDDEN)
        targets = np.empty(examples)
        for rows in _blocks(examples, features):
            x[rows] = drawn = random.standard_normal((len(targets[rows]), features))
            targets[rows] = np.tanh(drawn @ first) @ last + noise * random.standard_normal(len(drawn))
        dataset = Dataset("synthetic", x, targets, in_order(sizes), num_classes=0, task="regression")
    return standardised(dataset, per_channel=True)


@DATASETS.register
def synthetic_images(
    *,
    examples: int = 1000,
    image_size: int = 32,
    classes: int = 10,
    noise: float = 0.5,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Returns made-up pictures: x uint8 [examples, image_size, image_size, 3], a stand-in for ImageNet's size.

    A class is a picture of 8 x 8 patches of random colour; its examples add noise to every pixel, uniform and of up to
    `64 * noise` of the 256 values. No more than the pictures themselves is held in memory.

    Args:
      examples: number of pictures, all splits together.
      image_size: height and width in pixels.
      classes: number of classes.
      noise: in [0, 1].
      validation_fraction: share of the examples for validation.
      test_fraction: share of the examples for the test.
      split_seed: seed of all that is drawn; the examples are independent, so that the splits are cut in order.

    Raises:
      ConfigError: a setting out of its domain.
      DataError: no example is left for training.
    """
    _check(examples=(examples, 1), image_size=(image_size, 1), classes=(classes, 2))
    _check_noise(noise, 1.0)
    sizes = splits.sizes(
        examples, validation_fraction=validation_fraction, test_fraction=test_fraction, split_seed=split_seed
    )
    random = np.random.RandomState(split_seed)
    y = random.permutation(np.arange(examples) % classes).astype(np.int32)
    spread = round(64 * noise)
    # 64 to 191: with noise of at most 64 either way a pixel stays from 0 to 255.
    patches = random.randint(64, 192, (classes, _PATCHES, _PATCHES, 3)).astype(np.uint8) - np.uint8(spread)
    place = np.arange(image_size) * _PATCHES // image_size
    x = np.empty((examples, image_size, image_size, 3), np.uint8)
    for rows in _blocks(examples, image_size * image_size * 3):
        x[rows] = random.randint(0, 2 * spread + 1, x[rows].shape, np.uint8)
        x[rows] += patches[y[rows]][:, place[:, None], place]
    return standardised(Dataset("synthetic_images", x, y, in_order(sizes), num_classes=classes), per_channel=True)


@DATASETS.register
@task("language")
def synthetic_tokens(
    *,
    examples: int = 1000,
    context_length: int = 64,
    classes: int = 32,
    noise: float = 0.1,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """Returns a made-up stream of tokens, each the successor of the one before it, or, at random, any.

    With probability `noise` p a token is drawn uniformly from all V; else it is its predecessor's fixed successor. The best
    loss there is is therefore the entropy of a distribution that gives the successor `1 - p + p / V`, the others `p / V`.

    Args:
      examples: the stream has `examples * context_length` tokens, all splits together.
      context_length: tokens of an example.
      classes: V, the size of the vocabulary.
      noise: p, in [0, 1].
      validation_fraction: share of the tokens for validation.
      test_fraction: share of the tokens for the test.
      split_seed: seed of all that is drawn.

    Raises:
      ConfigError: a setting out of its domain.
      DataError: a split has too few tokens for one example.
    """
    _check(examples=(examples, 1), context_length=(context_length, 1), classes=(classes, 2))
    _check_noise(noise, 1.0)
    total = examples * context_length
    if total >= 2**31:
        raise ConfigError(f"examples * context_length is {total}; expected fewer than 2^31 tokens")
    sizes = splits.sizes(total, validation_fraction=validation_fraction, test_fraction=test_fraction, split_seed=split_seed)
    random = np.random.RandomState(split_seed)
    chain = random.permutation(classes)
    fresh = random.random_sample(total) < noise
    fresh[0] = True
    # A token's place in the chain: that of the last one drawn, and one more for each token since.
    since = np.maximum.accumulate(np.where(fresh, np.arange(total), 0))
    place = random.randint(0, classes, total)[since] + np.arange(total) - since
    stream = chain[place % classes].astype(np.uint8 if classes <= 2**8 else np.uint16 if classes <= 2**16 else np.int32)
    train, val, test = np.split(stream, np.cumsum(sizes)[:-1])
    return create_language("synthetic_tokens", train=train, val=val, test=test, window=context_length, num_classes=classes)


def _blocks(examples: int, values: int) -> list[slice]:
    """Returns slices of whole examples, each of about `_BLOCK` values."""
    rows = max(1, _BLOCK // values)
    return [slice(start, min(start + rows, examples)) for start in range(0, examples, rows)]


def _check(**numbers: tuple[int, int]) -> None:
    for name, (value, least) in numbers.items():
        if not least <= value < 2**31:
            raise ConfigError(f"{name} is {value!r}; expected a whole number in [{least}, 2^31)")


def _check_noise(noise: float, most: float) -> None:
    if not 0 <= noise <= most or not np.isfinite(noise):
        raise ConfigError(f"noise is {noise!r}; expected a {'finite number >= 0' if most == np.inf else 'number in [0, 1]'}")
