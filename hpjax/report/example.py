"""An example of the data that the winner is wrong about, as the page shows it."""

from typing import NamedTuple


class Example(NamedTuple):
    """An example that was taken for something else.

    Attributes:
      picture: a PNG as a data URI; empty where it is no picture.
      values: what it is, where it is no picture.
      words: its label and what it was taken for.
    """

    picture: str
    values: str
    words: str
