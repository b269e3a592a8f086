"""What a kernel starts from, by name (`--init`)."""

from flax import linen as nn

from hpjax import errors

Initializer = nn.initializers.Initializer

INITIALIZERS: dict[str, Initializer] = {
    "lecun_normal": nn.initializers.lecun_normal(),
    "lecun_uniform": nn.initializers.lecun_uniform(),
    "he_normal": nn.initializers.he_normal(),
    "he_uniform": nn.initializers.he_uniform(),
    "glorot_normal": nn.initializers.glorot_normal(),
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "normal": nn.initializers.normal(0.02),
    "truncated_normal": nn.initializers.truncated_normal(0.02),
    "orthogonal": nn.initializers.orthogonal(),
}
"""Variance 1, 2 or 1 over the inputs (LeCun, He) or the mean of inputs and outputs (Glorot); normal ones, the last but two
excepted, are cut at two deviations and scaled up to that variance. `normal` and `truncated_normal` have deviation 0.02."""


def initializer(name: str) -> Initializer:
    """Returns the kernel initialiser called `name`; raises ConfigError for an unknown name.

    Source: LeCun et al., Efficient BackProp (1998); Glorot and Bengio (2010); He et al. (2015); Saxe et al. (2014).
    """
    if name not in INITIALIZERS:
        raise errors.unknown("init", name, INITIALIZERS)
    return INITIALIZERS[name]
