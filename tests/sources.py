"""Small files for the data sets that read some: a function of an empty folder that fills it and returns the settings."""

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from made_pictures import Cifar

COUNTS = {"train": 60, "t10k": 20}


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_arrays():
    random = np.random.default_rng(0)
    arrays = {}
    for stem, count in COUNTS.items():
        arrays[f"{stem}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{stem}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    return arrays


def write_mnist(folder: Path) -> dict[str, Any]:
    for name, array in mnist_arrays().items():
        (folder / name).write_bytes(idx(array))
    return {"data_dir": folder}


def write_text(folder: Path) -> dict[str, Any]:
    (folder / "input.txt").write_text("To be, or not to be: that is the question.\n" * 40)
    return {"data_dir": folder}


def write_npz(folder: Path) -> dict[str, Any]:
    random = np.random.default_rng(0)
    np.savez(folder / "mine.npz", x=random.normal(size=(60, 4)), y=np.arange(60) % 3)
    return {"data_file": folder / "mine.npz", "data_dir": None}


def write_csv(folder: Path) -> dict[str, Any]:
    rows = (f"{i},{(i * 7) % 11},{'odd' if i % 2 else 'even'}" for i in range(50))
    (folder / "mine.csv").write_text("\n".join(["first,second,kind", *rows]) + "\n")
    return {"data_file": folder / "mine.csv", "data_dir": None}


def write_cifar(name: str, folder: Path) -> dict[str, Any]:
    Cifar(name, np.random.default_rng(0)).write("binary", folder)
    return {"data_dir": folder}


def write_image_folder(folder: Path) -> dict[str, Any]:
    random = np.random.default_rng(0)
    for i in range(60):
        path = folder / "mine" / f"class {i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return {"data_file": folder / "mine", "data_dir": None, "cache_dir": folder / "cache"}


SOURCES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "mnist": write_mnist,
    "fashion_mnist": write_mnist,
    "cifar10": partial(write_cifar, "cifar10"),
    "cifar100": partial(write_cifar, "cifar100"),
    "image_folder": write_image_folder,
    "text": write_text,
    "npz": write_npz,
    "csv": write_csv,
}
