"""Settings of the model and its sizes."""

import dataclasses

from hpjax.settings.fields import AT_LEAST_1, FRACTION, POSITIVE, SHARE, SIZES, choice, setting


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Settings of the model and its sizes; None leaves one to the part that uses it."""

    model: str = setting("mlp", "model: a registered name or package.module:Name", main=True)
    hidden_sizes: tuple[int, ...] | None = setting(
        None, "units of the hidden dense layers (128,64) or none", SIZES, main=True
    )
    channels: tuple[int, ...] | None = setting(None, "channels of each convolution, or of each stage of blocks", SIZES)
    depth: int | None = setting(None, "layers of a residual network, blocks of another", AT_LEAST_1)
    widen_factor: int | None = setting(None, "times the channels of a wide residual network", AT_LEAST_1)
    stem: str | None = setting(None, "how a resnet begins; auto goes by depth", choice("auto", "cifar", "imagenet"))
    norm: str | None = setting(
        None,
        "normalisation layers; frozen_batch never updates its averages",
        choice("batch", "group", "layer", "none", "frozen_batch"),
    )
    norm_momentum: float | None = setting(None, "share of the old value in batch norm's running averages", SHARE)
    norm_epsilon: float | None = setting(None, "added to the variance in a normalisation layer", POSITIVE)
    norm_groups: int | None = setting(None, "most groups of group norm; the most that divide the channels", AT_LEAST_1)
    zero_init_last: bool | None = setting(None, "let each residual block begin as the identity")
    init: str | None = setting(None, "initialiser of the kernels: lecun_normal, he_normal, orthogonal, ...")
    stochastic_depth_rate: float | None = setting(
        None, "probability that the last block is left out; earlier blocks have less", FRACTION
    )
    activation: str | None = setting(None, "activation after each hidden layer")
    dropout_rate: float | None = setting(None, "probability that dropout zeroes an activation", FRACTION, main=True)
    width: int | None = setting(None, "features of a block, units of a recurrent layer", AT_LEAST_1)
    heads: int | None = setting(None, "attention heads; divides width", AT_LEAST_1)
    mlp_ratio: int | None = setting(None, "hidden units of a transformer block for each of its features", AT_LEAST_1)
    tie_embeddings: bool | None = setting(None, "one table for the embedding and the last product")
    patch_size: int | None = setting(None, "edge of a vision transformer's patches, in pixels", AT_LEAST_1)
