"""Settings of the schedulers."""

import dataclasses

from hpjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SchedulerSettings:
    """Settings of all schedulers; each uses those that it names.

    Attributes:
      eta: of how many units one goes on at a rung.
      min_evaluations: the first rung.
      grace: the median rule's first evaluations, at which it stops nothing.
      min_units: other units that the median rule needs for a decision.

    Raises:
      ConfigError: a value out of its range.
    """

    eta: int = 3
    min_evaluations: int = 1
    grace: int = 1
    min_units: int = 5

    def __post_init__(self) -> None:
        for name, least in (("eta", 2), ("min_evaluations", 1), ("grace", 0), ("min_units", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} is {value}; expected a whole number >= {least}")
