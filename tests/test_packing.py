"""Trees as rows of words: every bit comes back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpjax import packing

TYPES = ["float32", "int32", "uint32", "bfloat16", "float16", "uint8", "int8", "bool", "int16"]


def a_tree(rng: np.random.Generator) -> dict[str, np.ndarray]:
    shapes = [(), (3,), (2, 0), (4, 5)]
    tree = {}
    for name in TYPES:
        for shape in shapes:
            dtype = jnp.dtype(name)
            raw = rng.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8)
            # All bit patterns, NaNs with their payloads too; a bool has two.
            tree[f"{name}{shape}"] = raw[..., 0] > 127 if name == "bool" else raw.view(dtype)[..., 0]
    return tree


def test_every_bit_comes_back() -> None:
    tree = a_tree(np.random.default_rng())
    row = jax.jit(packing.pack)(tree)
    assert row.shape == (packing.words(tree),)
    back = jax.jit(lambda row: packing.unpack(row, tree))(row)
    for name, value in tree.items():
        assert back[name].dtype == value.dtype and back[name].shape == value.shape
        assert np.asarray(back[name]).tobytes() == value.tobytes(), name


@pytest.mark.parametrize("name", ["float64", "int64"])
def test_eight_bytes_are_two_words(name: str) -> None:
    with jax.enable_x64(True):
        value = np.random.default_rng().standard_normal((3, 2)).view("int64").view(name)
        row = packing.pack({"value": value})
        assert row.shape == (12,)
        back = packing.unpack(row, {"value": value})["value"]
        assert back.dtype == value.dtype and np.asarray(back).tobytes() == value.tobytes()
