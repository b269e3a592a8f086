"""Pictures that stay on the disk: each is read and decoded when it is asked for."""

import dataclasses
import os
import tarfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpjax.data.decode import picture, sides
from hpjax.data.picture_files import Found
from hpjax.errors import DataError


class Pictures:
    """The pictures of a folder, or of a tar file that is not packed; it may be sent to other processes.

    Attributes:
      root: the folder or the file.
      names: their paths in it, bytes [pictures].
      shape: height, width and channels of every one, decoded.
      mean_bytes: size of a file on average.
    """

    def __init__(self, root: Path, found: Found, image_size: int | None):
        """Finds the pictures' shape.

        Args:
          root: the folder or the tar file.
          found: what lies in it.
          image_size: see `decode.decode`.

        Raises:
          DataError: no picture can be read, or the tar file is packed.
        """
        self.root, self.image_size = root, image_size
        self.names = np.array([os.fsencode(path) for path in found.pictures])
        self._starts = np.array(found.starts, np.int64)
        self._sizes = np.array(found.sizes, np.int64)
        self.mean_bytes = float(self._sizes.mean()) if len(self) else 0.0
        self._file: int | None = None
        if root.is_file() and _packed(root):
            raise DataError(
                f"file '{root}' is packed; expected a plain tar file or a folder to stream pictures from: unpack it, "
                "or give --stream=off"
            )
        # Pillow warns of odd metadata and of very large pictures; neither says that a picture cannot be used.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        self.shape = self._shape()

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        warnings.filterwarnings("ignore", module=r"PIL\.")

    def name(self, number: int) -> str:
        """Returns a picture's path below the root."""
        return os.fsdecode(self.names[number])

    def content(self, number: int) -> bytes:
        """Returns a picture's file; raises OSError."""
        if not len(self._starts):
            return (self.root / self.name(number)).read_bytes()
        if self._file is None:
            self._file = os.open(self.root, os.O_RDONLY)
        return os.pread(self._file, int(self._sizes[number]), int(self._starts[number]))

    def decoded(self, numbers: Sequence[int] | np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """Returns pictures, uint8 [numbers, height, width, 3], zeros for what cannot be read; and by place why not.

        Raises:
          DataError: a picture is of another size than the others.
        """
        x, bad = np.zeros((len(numbers), *self.shape), np.uint8), {}
        for place, number in enumerate(numbers):
            found = picture(lambda: self.content(number), self.image_size)  # noqa: B023
            if isinstance(found, str):
                bad[place] = found
            elif found.shape != self.shape:
                raise DataError(
                    f"dataset 'image_folder': picture '{self.name(number)}' is {sides(found)}, others {sides(x[0])}; "
                    "expected pictures of one size, or --image_size=PIXELS to make them so"
                )
            else:
                x[place] = found
        return x, bad

    def _shape(self) -> tuple[int, int, int]:
        if self.image_size is not None:
            return self.image_size, self.image_size, 3
        found: np.ndarray | str = ""
        for number in range(len(self)):
            found = picture(lambda: self.content(number), None)  # noqa: B023
            if not isinstance(found, str):
                return found.shape[0], found.shape[1], found.shape[2]
        raise DataError(f"dataset 'image_folder': none of {len(self)} pictures can be read: '{self.name(0)}' ({found})")


def _packed(root: Path) -> bool:
    try:
        with tarfile.open(root, "r:"):
            return False
    except tarfile.ReadError:
        return True


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed:
    """The inputs of a data set that are pictures on the disk.

    Attributes:
      pictures: all there are.
      numbers: int64 [examples], which picture is each example's.
      digest: hash of the data set, that of the same one in memory.
      workers: processes that decode, see `streaming.blocks`.
    """

    pictures: Pictures
    numbers: np.ndarray
    digest: str
    workers: int | None = None
