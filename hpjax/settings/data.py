"""Settings of the data set and its splits."""

import dataclasses

from hpjax.settings.fields import (
    AT_LEAST_0,
    AT_LEAST_1,
    AT_LEAST_2,
    FRACTION,
    NOT_NEGATIVE,
    SEED,
    SHARE,
    Domain,
    choice,
    setting,
)

WORKERS: Domain = (lambda v: 0 <= v <= 256, "a whole number in [0, 256]")
"""Each is a process: a number that was meant for something else would fill the memory."""


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Settings of the data set and its splits; None leaves one to the part that uses it."""

    dataset: str = setting("digits", "data set: a registered name or package.module:function", main=True)
    data_dir: str | None = setting(None, "folder of the data set's files (default: $HPJAX_DATA_DIR)", main=True)
    validation_fraction: float | None = setting(None, "share of the examples held out to choose by", FRACTION)
    test_fraction: float | None = setting(None, "share of the examples held out to be read once at the end", FRACTION)
    split_seed: int | None = setting(None, "seed of the split, and of synthetic data", SEED)
    task: str | None = setting(
        None, "what data of one's own are for", choice("classification", "regression", "multilabel", "language")
    )
    data_file: str | None = setting(
        None, "a file or folder of one's own data; if not found, looked for in data_dir", main=True
    )
    target: str | None = setting(None, "column of a csv file to predict (default: the last)")
    text_file: str | None = setting(None, "a text; if not found, looked for in data_dir (default: input.txt)")
    tokens: str | None = setting(None, "what a text's tokens are", choice("characters", "bytes"))
    context_length: int | None = setting(None, "tokens that a language model sees at a time", AT_LEAST_1)
    examples: int | None = setting(None, "examples of synthetic data, all splits together", AT_LEAST_1)
    features: int | None = setting(None, "features of a synthetic example", AT_LEAST_1)
    classes: int | None = setting(None, "classes of synthetic data, or size of a synthetic vocabulary", AT_LEAST_2)
    noise: float | None = setting(None, "noise of synthetic data, 0 for none", NOT_NEGATIVE)
    image_size: int | None = setting(None, "height and width of pictures, in pixels", AT_LEAST_1)
    cifar_labels: str | None = setting(None, "CIFAR-100's labels: fine (100) or coarse (20)", choice("fine", "coarse"))
    bad_files: str | None = setting(
        None, "what to do about pictures that cannot be read: refuse or skip", choice("refuse", "skip")
    )
    cache_dir: str | None = setting(None, "folder of decoded pictures (default: hpjax in the user's cache folder)")
    stream: str | None = setting(
        None,
        "pictures decoded from the disk while a single run needs them: on, off (all in memory), or auto (by size)",
        choice("auto", "on", "off"),
        main=True,
    )
    input_workers: int | None = setting(
        None, "processes that decode streamed pictures; 0: threads (default: by the number of cores)", WORKERS
    )
    augment: tuple[str, ...] = setting(
        (), "augmentations of training images, in order (flip,crop,cutout) or none", main=True
    )
    flip_probability: float | None = setting(None, "probability that flip mirrors an image", SHARE)
    crop_padding: int | None = setting(None, "pixels of zeros that crop adds to each side", AT_LEAST_0)
    cutout_size: int | None = setting(None, "pixels a side of cutout's square", AT_LEAST_0)
    mixup_alpha: float | None = setting(None, "alpha of mixup's beta distribution (default: no mixup)", NOT_NEGATIVE)
