"""Reads the pickles that CIFAR is published as, and nothing else: no pickle can run code here."""

import pickle
from io import BytesIO
from typing import Any

import numpy as np


class _Dtype:
    """Stands for numpy.dtype; only unsigned bytes."""

    def __init__(self, kind: Any, *_: Any):
        if kind not in ("u1", b"u1", "uint8", b"uint8"):
            raise pickle.UnpicklingError(f"it has an array of {kind!r}; expected unsigned bytes")

    def __setstate__(self, state: Any) -> None:
        """Leaves the state alone: a byte has no order of bytes."""


class _Array:
    """Stands for numpy.ndarray: keeps what the pickle says of the array."""

    def __init__(self) -> None:
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, bytearray)):
            raise pickle.UnpicklingError("it has an array of something else than unsigned bytes")
        return np.frombuffer(bytes(data), np.uint8).reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it has bytes as {encoding!r}; expected 'latin1'")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    # How Python 3 writes bytes in the protocol of Python 2.
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; expected arrays, lists and texts only") from None


def read(content: bytes) -> dict[str, Any]:
    """Returns the dictionary that a pickle holds: arrays of unsigned bytes, lists, numbers, texts and bytes.

    Args:
      content: the pickle, of Python 2 or 3.

    Returns:
      The dictionary, its keys as texts, its arrays as NumPy's.

    Raises:
      ValueError: it is damaged, no dictionary, or holds anything else.
    """
    try:
        found = _Reader(BytesIO(content), encoding="bytes").load()
        if not isinstance(found, dict):
            raise pickle.UnpicklingError(f"it holds a {type(found).__name__}; expected a dictionary")
        return {_text(key): value.array() if isinstance(value, _Array) else value for key, value in found.items()}
    except Exception as error:
        # A damaged pickle raises nearly anything.
        raise ValueError(str(error) or type(error).__name__) from None


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)
