"""Where losses are registered, which tasks they are for, and which items count."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from hpjax.errors import ConfigError
from hpjax.registry import Registry

Loss = Callable[..., jax.Array]
"""`(outputs, targets, *, settings) -> float32`, one value an item: [batch], or [batch, time] of sequences."""
F = TypeVar("F", bound=Callable[..., jax.Array])

TASKS = ("classification", "regression", "multilabel", "language")
LOSSES: Registry[Loss] = Registry("loss")
_DEFAULTS = {
    "classification": "cross_entropy",
    "regression": "mse",
    "multilabel": "binary_cross_entropy",
    "language": "cross_entropy",
}


def for_tasks(*tasks: str) -> Callable[[F], F]:
    """Decorator: says which of `TASKS` a loss is for; a loss without it is for all of them."""

    def decorate(loss: F) -> F:
        loss.tasks = tasks  # type: ignore[attr-defined]
        return loss

    return decorate


def tasks(name: str) -> tuple[str, ...]:
    """Returns the tasks that a loss is for."""
    return getattr(LOSSES.get(name), "tasks", TASKS)


def default_for(task: str) -> str:
    """Returns the name of the loss that a task is trained with where none is chosen."""
    return _DEFAULTS[task]


def check(name: str, task: str) -> None:
    """Refuses a loss that a task's targets cannot be given to.

    Raises:
      ConfigError: the name is unknown, or the loss is for other tasks.
    """
    if task not in tasks(name):
        fitting = ", ".join(other for other in LOSSES.names() if task in tasks(other))
        raise ConfigError(f"loss '{name}' is not for {task}, the data set's task; expected one of {fitting}")


def weights(targets: jax.Array) -> jax.Array:
    """Returns how much each item counts in a mean: 0 where it is masked, 1 elsewhere.

    Args:
      targets: int [batch] or [batch, time], masked where < 0; or float [batch, outputs] or [batch, time, classes], where
        nothing is masked. Float [batch] is one output an example.

    Returns:
      float32 [batch] or [batch, time].
    """
    if jnp.issubdtype(targets.dtype, jnp.integer):
        return (targets >= 0).astype(jnp.float32)
    return jnp.ones(targets.shape[: max(targets.ndim - 1, 1)], jnp.float32)
