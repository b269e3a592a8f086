"""Gradient descent, plain and with momentum."""

import optax

from hpjax.optimizers.kept import kept_in
from hpjax.optimizers.registry import OPTIMIZERS
from hpjax.registry import Scalar


@OPTIMIZERS.register
def momentum(
    learning_rate: Scalar = 0.1, *, momentum: Scalar = 0.9, moment_dtype: str = "float32"
) -> optax.GradientTransformation:
    """SGD with heavy-ball momentum: `v = momentum v + g; w = w - learning_rate v`.

    Args:
      learning_rate: scalar of this update.
      momentum: scalar in [0, 1).
      moment_dtype: what the buffer is kept in: float32, or bfloat16 rounded stochastically.

    Returns:
      The transformation; its state is one buffer a parameter.

    Source: Polyak (1964) in the form of torch.optim.SGD.
    """
    descent = optax.chain(optax.trace(momentum), optax.scale_by_learning_rate(learning_rate))  # type: ignore[arg-type]
    return kept_in(moment_dtype, descent)


@OPTIMIZERS.register
def nesterov(
    learning_rate: Scalar = 0.1, *, momentum: Scalar = 0.9, moment_dtype: str = "float32"
) -> optax.GradientTransformation:
    """SGD with Nesterov's momentum: `v = momentum v + g; w = w - learning_rate (g + momentum v)`.

    Args:
      learning_rate: scalar of this update.
      momentum: scalar in [0, 1).
      moment_dtype: what the buffer is kept in: float32, or bfloat16 rounded stochastically.

    Returns:
      The transformation; its state is one buffer a parameter.

    Source: Sutskever et al., On the importance of initialization and momentum (2013), as in torch.optim.SGD.
    """
    descent = optax.chain(
        optax.trace(momentum, nesterov=True),  # type: ignore[arg-type]
        optax.scale_by_learning_rate(learning_rate),
    )
    return kept_in(moment_dtype, descent)


@OPTIMIZERS.register
def sgd(learning_rate: Scalar = 0.05) -> optax.GradientTransformation:
    """Gradient descent: `w = w - learning_rate g`.

    Args:
      learning_rate: scalar of this update.

    Returns:
      The transformation; it has no state.

    Source: Robbins and Monro (1951), as in torch.optim.SGD.
    """
    return optax.scale_by_learning_rate(learning_rate)
