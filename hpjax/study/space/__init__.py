"""What a study varies: the language of `--vary`, and the space that it says."""

from hpjax.study.space.leaves import Leaf
from hpjax.study.space.points import read_points
from hpjax.study.space.settings import NOT_VARIED, REPLICATED
from hpjax.study.space.space import Space

__all__ = ["NOT_VARIED", "REPLICATED", "Leaf", "Space", "read_points"]
