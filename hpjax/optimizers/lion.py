"""Lion: the sign of an interpolated momentum."""

import optax

from hpjax.optimizers.registry import OPTIMIZERS
from hpjax.registry import Scalar


@OPTIMIZERS.register
def lion(learning_rate: Scalar = 1e-4, *, beta1: Scalar = 0.9, beta2: Scalar = 0.99) -> optax.GradientTransformation:
    """Lion: `w = w - learning_rate sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g`.

    Args:
      learning_rate: scalar of this update; a tenth to a third of AdamW's.
      beta1: scalar in [0, 1), the momentum's share of the step.
      beta2: scalar in [0, 1), decay of the mean of gradients.

    Returns:
      The transformation; its state is one mean a parameter and a count.

    Source: Chen et al., Symbolic Discovery of Optimization Algorithms (2023), program 1.
    """
    return optax.chain(optax.scale_by_lion(beta1, beta2), optax.scale_by_learning_rate(learning_rate))
