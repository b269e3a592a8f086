"""Pictures in files to one array of bytes, by several threads."""

import collections
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

from hpjax.data.notes import Progress
from hpjax.errors import DataError

Read = Callable[[], bytes]
"""Returns a file's content."""

# 32 x 32 JPEGs took 0.70 s in one thread and 0.86 s in two (12,000 of them, 2 cores), for most of the work on one that
# small is Python's own; on 500 x 400 two threads were 2.7 times as fast as one. Processes win 0.3 s on the small ones and
# lose on the large ones, and a process that has started JAX is not safe to fork.
SMALL = 8192
_CHUNK = 64
_ORIENTATION = 0x0112


def decode(content: bytes, size: int | None) -> np.ndarray:
    """Returns the picture that a file holds.

    Gray and CMYK become RGB, what is transparent its colour without the transparency, 16-bit gray its upper 8 bits; of an
    animation the first picture counts. A picture that its EXIF says is turned is turned back.

    Args:
      content: the file.
      size: pixels a side: the shorter side is resized to it and the middle cut out; None leaves the picture as it is.

    Returns:
      uint8 [height, width, 3].

    Raises:
      Exception: whatever a damaged file makes Pillow raise.
    """
    with Image.open(io.BytesIO(content)) as opened:
        opened.load()
        image = _upright(opened)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers; expected 8 or 16 bits a channel")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert("RGB")
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:
        # Damaged EXIF says nothing about the picture.
        return image
    return ImageOps.exif_transpose(image) if turned else image


def decode_all(
    names: Sequence[str], reads: Iterator[Read], places: Sequence[int], size: int | None, mean_bytes: float
) -> tuple[np.ndarray, dict[str, str]]:
    """Decodes many pictures.

    Args:
      names: of the files, for messages.
      reads: a function for each file that returns its content; taken in this order, called by any thread.
      places: where in the result each picture goes, a permutation.
      size: see `decode`.
      mean_bytes: size of a file on average.

    Returns:
      uint8 [pictures, height, width, 3], what could not be read being zeros, and the reasons by name for those.

    Raises:
      DataError: no picture can be read, or their sizes differ.
    """
    bad: dict[str, str] = {}
    x: np.ndarray | None = None
    first = ""
    # On one worker too, so that there is one way to go.
    workers = 1 if mean_bytes < SMALL else min(os.cpu_count() or 1, 16)
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(workers) as pool,
        Progress("decoding pictures", len(names), "pictures") as progress,
    ):
        # Pillow warns of odd metadata and of very large pictures; neither says that a picture cannot be used.
        warnings.simplefilter("ignore")
        for i, result in zip(range(len(names)), _in_order(pool, reads, size, ahead=2 * workers), strict=True):
            progress.update(i)
            if isinstance(result, str):
                bad[names[i]] = result
                continue
            if x is None:
                x, first = np.zeros((len(names), *result.shape), np.uint8), names[i]
            if result.shape != x.shape[1:]:
                raise DataError(
                    f"dataset 'image_folder': picture '{first}' is {sides(x[0])}, '{names[i]}' {sides(result)}; "
                    "expected pictures of one size, or --image_size=PIXELS to make them so"
                )
            x[places[i]] = result
    if x is None:
        raise DataError(f"dataset 'image_folder': none of {len(names)} pictures can be read: {some_of(bad)}")
    return x, bad


def some_of(bad: dict[str, str], most: int = 3) -> str:
    """Returns the first few of the files that cannot be read, with reasons."""
    shown = [f"'{name}' ({reason})" for name, reason in list(bad.items())[:most]]
    more = f" and {len(bad) - most} more" if len(bad) > most else ""
    return ", ".join(shown) + more


def _in_order(pool: ThreadPoolExecutor, reads: Iterator[Read], size: int | None, ahead: int) -> Iterator[np.ndarray | str]:
    """Yields each file's picture, or why there is none, with a few chunks of them under way."""

    def several(chunk: list[Read]) -> list[np.ndarray | str]:
        return [picture(read, size) for read in chunk]

    under_way: collections.deque[Future[list[np.ndarray | str]]] = collections.deque()
    for chunk in _chunks(reads):
        under_way.append(pool.submit(several, chunk))
        if len(under_way) > ahead:
            yield from under_way.popleft().result()
    for future in under_way:
        yield from future.result()


def _chunks(reads: Iterator[Read]) -> Iterator[list[Read]]:
    chunk: list[Read] = []
    for read in reads:
        chunk.append(read)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def picture(read: Read, size: int | None) -> np.ndarray | str:
    """Returns a file's picture, see `decode`, or a few words that say why there is none."""
    try:
        return decode(read(), size)
    except MemoryError:
        raise
    except OSError as error:
        unknown = isinstance(error, Image.UnidentifiedImageError)
        return "no picture" if unknown else (error.strerror or str(error)).lower()
    except Exception as error:
        return " ".join(str(error).split()) or type(error).__name__


def sides(image: np.ndarray) -> str:
    """Returns a picture's width and height for a message."""
    return f"{image.shape[1]} x {image.shape[0]}"
