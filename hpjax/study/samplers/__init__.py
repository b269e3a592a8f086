"""Samplers by name: which points of the space a study tries."""

from collections.abc import Sequence

from hpjax.study.samplers import grid as grid
from hpjax.study.samplers import halton as halton
from hpjax.study.samplers import random as random
from hpjax.study.samplers import tpe as tpe
from hpjax.study.samplers.base import SAMPLERS as SAMPLERS
from hpjax.study.samplers.base import LeafLike as LeafLike
from hpjax.study.samplers.base import Sampler as Sampler
from hpjax.study.samplers.base import Seen as Seen


def create(name: str, leaves: Sequence[LeafLike], seed: int) -> Sampler:
    """Returns a sampler.

    Args:
      name: its name in `SAMPLERS`, or `package.module:name`.
      leaves: the space's coordinates.
      seed: of the study.

    Raises:
      ConfigError: the name is unknown, or the sampler cannot serve these leaves.
    """
    return SAMPLERS.get(name)(leaves, seed)
