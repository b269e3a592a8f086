"""Scale and shift with which a training split has mean 0 and standard deviation 1."""

import numpy as np

from hpjax.errors import DataError

Scale = float | tuple[float, ...]

# Values that are float64 at a time while the variance is summed; all of ImageNet would take a terabyte.
_BLOCK = 2**20


def scale_and_shift(x: np.ndarray, per_channel: bool) -> tuple[Scale, Scale]:
    """Returns (scale, shift) with which `scale * x + shift` has mean 0 and standard deviation 1.

    Args:
      x: [examples, ...], at least one example.
      per_channel: a scale and a shift for each index of the last axis of more than one; else one for all values.

    Returns:
      Floats, or tuples of them. A constant is only moved to 0.

    Raises:
      DataError: values too large, or too close to each other, for float32.
    """
    if x.dtype == np.uint8:
        return of_counts(counts(x, per_channel), per_channel and x.ndim > 1)
    axes = tuple(range(x.ndim - 1)) if per_channel and x.ndim > 1 else tuple(range(x.ndim))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _of(x, axes)


def counts(x: np.ndarray, per_channel: bool) -> np.ndarray:
    """Returns how often each value of bytes comes, which may be added up part by part: int64 [channels or 1, 256].

    Args:
      x: uint8 [examples, ...].
      per_channel: see `scale_and_shift`.
    """
    channels = x.shape[-1] if per_channel and x.ndim > 1 else 1
    found = np.zeros((channels, 256), np.int64)
    flat = x.reshape(-1, channels)
    for start in range(0, len(flat), _BLOCK):
        for channel in range(channels):
            found[channel] += np.bincount(flat[start : start + _BLOCK, channel], minlength=256)
    return found


def of_counts(found: np.ndarray, per_channel: bool) -> tuple[Scale, Scale]:
    """Returns what `scale_and_shift` does, of what `counts` gave: the same bits however the parts were cut."""
    values, total = np.arange(256), found.sum(axis=1)
    mean = (found * values).sum(axis=1) / total
    deviation = np.sqrt((found * (values - mean[:, None]) ** 2).sum(axis=1) / total)
    deviation = np.where((found > 0).sum(axis=1) == 1, 1.0, deviation)
    scale, shift = (1.0 / deviation).tolist(), (-mean / deviation).tolist()
    return (tuple(scale), tuple(shift)) if per_channel else (scale[0], shift[0])


def _of(x: np.ndarray, axes: tuple[int, ...]) -> tuple[Scale, Scale]:
    mean = np.asarray(x.mean(axis=axes, dtype=np.float64))
    squares = np.zeros_like(mean)
    rows = max(1, _BLOCK * len(x) // x.size)
    for start in range(0, len(x), rows):
        squares += ((x[start : start + rows] - mean) ** 2).sum(axis=axes)
    deviation = np.sqrt(squares * mean.size / x.size)
    # A rounded mean leaves a constant with a tiny deviation that is not 0: where it may be one, ask the values themselves.
    if (deviation <= 1e-9 * np.abs(mean)).any():
        deviation = np.where(x.min(axis=axes) == x.max(axis=axes), 1.0, deviation)
    scale, shift = 1.0 / deviation, -mean / deviation
    if not (np.isfinite(scale.astype(np.float32)) & np.isfinite(shift.astype(np.float32)) & (scale != 0)).all():
        raise DataError(f"values from {x.min():.3g} to {x.max():.3g} cannot be standardised in float32; scale them first")
    if scale.ndim == 0:
        return float(scale), float(shift)
    return tuple(scale.tolist()), tuple(shift.tolist())
