"""The registry of schedules, and how an entry reads its settings, traced or plain."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hpjax.config import FIELDS
from hpjax.registry import Registry, Scalar
from hpjax.settings.fields import choices

Schedule = Callable[..., jax.Array]
SCHEDULES: Registry[Schedule] = Registry("schedule")
"""Functions `(step, total_steps, *, settings) -> float32 factor of the peak`, traced in every argument.

A third positional parameter is filled by `factors`: `momentum` (bool: give the factor of the momentum instead, for a
schedule that cycles it) or `reduction` (float32: what `observe` has made of the validation metric so far).
"""


def number(value: Scalar) -> jax.Array:
    """Returns a float setting as float32."""
    return jnp.asarray(value, jnp.float32)


def whole(value: Scalar | None) -> jax.Array:
    """Returns a length, count or bool as int32; -1 for None."""
    return jnp.asarray(-1 if value is None else value, jnp.int32)


def word(setting: str, value: Any) -> jax.Array:
    """Returns the int32 place of a choice among the setting's words; a place stays as it is."""
    words = choices(FIELDS[setting].metadata["domain"])
    return jnp.int32(words.index(value)) if isinstance(value, str) else jnp.asarray(value, jnp.int32)


def fraction(part: jax.Array, total: jax.Array) -> jax.Array:
    """Returns int32 `part` / int32 `total` as float32; 0 where the total is 0."""
    return part.astype(jnp.float32) / jnp.maximum(total, 1).astype(jnp.float32)


def blend(start: jax.Array, end: jax.Array, done: jax.Array, left: jax.Array) -> jax.Array:
    """Returns `start * left + end * done`, where done + left = 1.

    Both shares are asked for because one minus the other has no digits left where it is small.
    """
    return start * left + end * done


def half_cosine(share: jax.Array) -> jax.Array:
    """Returns (1 - cos(pi share)) / 2 without the cancellation near share = 0."""
    return jnp.sin(jnp.float32(jnp.pi / 2) * share) ** 2


def after(step: jax.Array) -> jax.Array:
    """Returns int32 step + 1 that does not overflow."""
    return jnp.minimum(step, jnp.int32(2**31 - 2)) + 1
