"""Settings of the loss, the batch and the length of training."""

import dataclasses

from hpjax.settings.fields import (
    AT_LEAST_0,
    AT_LEAST_1,
    AT_LEAST_2,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    Length,
    choice,
    setting,
)


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Settings of the loss, the batch and the length of training; None leaves one to the part that uses it."""

    loss: str | None = setting(None, "loss: a registered name or package.module:function (default: the task's)", main=True)
    label_smoothing: float | None = setting(None, "the uniform distribution's share of the target", FRACTION)
    focal_gamma: float | None = setting(None, "focal losses: power of 1 - probability that they weigh by", NOT_NEGATIVE)
    huber_delta: float | None = setting(None, "huber: error from which it grows linearly (standardised targets)", POSITIVE)
    metrics: tuple[str, ...] | None = setting(
        None, "metrics measured beside the loss, by name (default: the task's)", main=True
    )
    batch_size: int = setting(128, "examples an optimizer step", AT_LEAST_1, main=True)
    micro_batch_size: int | None = setting(
        None, "examples a forward pass; divides batch_size (default: batch_size)", AT_LEAST_1, main=True
    )
    ghost_batch_norm: bool = setting(
        False, "batch norm by the examples of each device, where several share a batch, not by the whole micro-batch"
    )
    compute_dtype: str = setting(
        "float32",
        "what dense layers and convolutions multiply: float32, or bfloat16 with float32 sums; parameters are float32",
        choice("float32", "bfloat16"),
    )
    train_steps: Length = setting(Length("10epochs"), "length of the run: 500, 3epochs, 40000examples", main=True)
    init_from: str | None = setting(
        None,
        "folder of a run, a study (its winner) or a checkpoint with whose parameters to begin, where names and shapes fit",
    )
    seed: int = setting(0, "seed of initial parameters and dropout", SEED, main=True)
    data_seed: int | None = setting(
        None, "seed of the order of the data (default: seed, with share_batches 0)", SEED, main=True
    )
    share_batches: bool = setting(
        False, "one order of the data for all trials: lanes that run together under vmap read a batch once"
    )
    folds: int | None = setting(
        None,
        "cross-validation: parts that training and validation examples are cut into, one of them the validation split",
        AT_LEAST_2,
    )
    fold: int = setting(0, "which of the folds is the validation split", AT_LEAST_0)
    preset: str | None = setting(
        None,
        "published settings for large batches, by batch_size, where they are not given: lars_imagenet",
        choice("lars_imagenet"),
    )
    set: tuple[str, ...] = setting((), "settings of a part of your own that are no flags: name=value,name=value")
