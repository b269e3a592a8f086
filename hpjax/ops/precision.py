"""In what dense layers and convolutions multiply: float32, or operands rounded to bfloat16 and summed in float32."""

import contextlib
import contextvars
from collections.abc import Iterator

DTYPES = ("float32", "bfloat16")
"""The values of the setting `compute_dtype`."""

_ROUNDED: contextvars.ContextVar[bool] = contextvars.ContextVar("rounded", default=False)


@contextlib.contextmanager
def scope(compute_dtype: str) -> Iterator[None]:
    """Programs that are traced inside multiply in one of `DTYPES`. Outside of any scope it is float32."""
    token = _ROUNDED.set(compute_dtype == "bfloat16")
    try:
        yield
    finally:
        _ROUNDED.reset(token)


def rounded() -> bool:
    """Returns whether operands are rounded to bfloat16."""
    return _ROUNDED.get()
