"""The published data sets: their files, where they are had, and their checksums.

Sizes and SHA-256 are those that the TensorFlow Datasets project records for the same addresses (its folder
`url_checksums`). The MD5 of the CIFAR archives on their own page, and those in torchvision, are of the same files.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hpjax.errors import DataError


class File(NamedTuple):
    """One file as it is published: its name, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


class Published(NamedTuple):
    """The files of a data set.

    Attributes:
      title: what people call it.
      address: what their names are put behind, with its slash at the end.
      files: all of them.
      use: the flags that train with them.
    """

    title: str
    address: str
    files: tuple[File, ...]
    use: str


CATALOGUE: dict[str, Published] = {
    "cifar10": Published(
        "CIFAR-10",
        "https://www.cs.toronto.edu/~kriz/",
        (File("cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),),
        "--dataset=cifar10",
    ),
    "cifar100": Published(
        "CIFAR-100",
        "https://www.cs.toronto.edu/~kriz/",
        (File("cifar-100-binary.tar.gz", 168513733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),),
        "--dataset=cifar100",
    ),
    "fashion_mnist": Published(
        "Fashion-MNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            File("train-images-idx3-ubyte.gz", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            File("train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            File("t10k-images-idx3-ubyte.gz", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            File("t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
        "--dataset=fashion_mnist",
    ),
    "mnist": Published(
        "MNIST",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        (
            File("train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            File("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            File("t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            File("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
        "--dataset=mnist",
    ),
    "tinyshakespeare": Published(
        "Tiny Shakespeare",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
        (File("input.txt", 1115394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),),
        "--dataset=text",
    ),
}


def where_had(name: str, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Returns the end of a message about missing files: how they are called, where they are, what fetches them."""
    published = CATALOGUE[name]
    files = ", ".join(file.name for file in published.files)
    return (
        f"{published.title} is published as {files} at {published.address}; "
        f"'python -m hpjax.data --fetch={name} --data_dir={data_dir or 'DIR'}' downloads it"
    )


def folders(name: str, data_dir: str | os.PathLike[str] | None, below: Sequence[str]) -> list[Path]:
    """Returns the folders in which a published data set is looked for: the data folder and some below it.

    Args:
      name: the data set.
      data_dir: the data folder; None takes the environment's HPJAX_DATA_DIR.
      below: paths of folders below it.

    Raises:
      DataError: there is no data folder.
    """
    given = data_dir or os.environ.get("HPJAX_DATA_DIR")
    if not given:
        raise DataError(
            f"dataset '{name}' needs its folder: give --data_dir or the environment variable HPJAX_DATA_DIR; "
            f"{where_had(name)}"
        )
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise DataError(f"dataset '{name}': data_dir '{folder}' is no folder; {where_had(name, folder)}")
    return [folder, *(folder / path for path in below)]


def listed(paths: Sequence[Path]) -> str:
    """Returns paths for a message: 'a', 'b' or 'c'."""
    *first, last = (f"'{path}'" for path in paths)
    return f"{', '.join(first)} or {last}" if first else last
