"""From the parts of a text to segments: who rules when, in steps, with settings that are numbers."""

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from hpjax import durations
from hpjax.errors import ConfigError
from hpjax.schedules.forms import MOST_MILESTONES, WARMUP, forms, is_length, number_of
from hpjax.schedules.text import Part

INT32_MAX = 2**31 - 1


class Segment(NamedTuple):
    """A schedule and its place in the run.

    Attributes:
      name: its name in `SCHEDULES`, or `WARMUP`.
      start: its first step.
      length: the steps it has, its `total_steps`.
      settings: numbers by name, lengths in steps; None where a setting may be absent.
      momentum: whether it gives the momentum's factor.
    """

    name: str
    start: int
    length: int
    settings: dict[str, Any]
    momentum: bool = False


@dataclasses.dataclass(frozen=True)
class Clock:
    """What turns lengths into steps.

    Attributes:
      batch_size: examples a step; None where epochs and examples have no meaning.
      epoch_examples: examples in an epoch.
      whole: steps that the schedules were written for, of which `%` is a share.
      stretch: what all lengths are multiplied by in the end.
    """

    batch_size: int | None
    epoch_examples: int
    whole: int
    stretch: Fraction = Fraction(1)

    def steps(self, setting: str, text: str) -> int:
        """Returns a length in steps, not stretched; raises ConfigError where it is no length, or 2^31 or more."""
        try:
            unit = durations.parse(text).unit
            if self.batch_size is None and unit in ("epochs", "examples"):
                raise ConfigError(f"'{text}': {unit} have no meaning here; expected steps or %")
            batch = self.batch_size or 1
            steps = durations.to_steps(text, batch_size=batch, epoch_examples=self.epoch_examples, whole=self.whole)
        except ConfigError as error:
            raise ConfigError(f"{setting}: {error}") from None
        if steps > INT32_MAX:
            raise ConfigError(f"{setting} is {text}, {steps} steps; expected fewer than 2^31")
        return steps

    def stretched(self, steps: int) -> int:
        """Returns steps of the schedules' clock as steps of the run, to the nearest whole."""
        return min(int(steps * self.stretch + Fraction(1, 2)), INT32_MAX)


def plan(quantity: str, parts: Sequence[Part], clock: Clock, warmup: Segment | None = None) -> tuple[Segment, ...]:
    """Returns the segments of one quantity.

    Args:
      quantity: the flag that the parts are of, for messages.
      parts: complete parts.
      clock: what turns lengths into steps.
      warmup: the segment before them, its length not stretched.

    Raises:
      ConfigError: lengths that are too long or 0, or too many values.
    """
    segments = []
    start = 0
    if warmup is not None and warmup.length:
        start = warmup.length
        segments.append(warmup._replace(length=clock.stretched(start)))
    for i, part in enumerate(parts):
        rest = clock.whole - start
        length = max(rest, 0) if part.length is None else clock.steps(quantity, part.length)
        # A warmup may be as long as the run, and leave nothing for the schedule after it.
        if length < 1 and (len(parts) > 1 or part.length is not None):
            what = f"leave none of the {clock.whole} steps for it" if part.length is None else f"is {part.length}, 0 steps"
            what = f"the parts before '{part.name}' {what}" if part.length is None else f"the length of '{part.name}' {what}"
            raise ConfigError(f"{quantity}: {what}; expected at least one step")
        if length > rest:
            before = f"and those before it end at step {start + length}" if i or start else f"is {length} steps"
            raise ConfigError(
                f"{quantity}: '{part.name}:{part.length}' {before}; expected at most the schedule's {clock.whole} steps"
            )
        settings = {setting: _number(part.name, setting, value, clock) for setting, value in part.settings.items()}
        begin, end = clock.stretched(start), clock.stretched(start + length)
        segments.append(Segment(part.name, begin, end - begin, settings))
        start += length
    return tuple(segments)


def momentum_plan(segments: Sequence[Segment], highest: Mapping[str, float]) -> tuple[Segment, ...]:
    """Returns the momentum's segments where the learning rate's cycle it, else none.

    Args:
      segments: the learning rate's.
      highest: the optimizer's momentum by the name of its setting, empty if it has none.

    Raises:
      ConfigError: there is no momentum to cycle, or its lowest value is above its highest.
    """
    if all(segment.settings.get("momentum_low") is None for segment in segments):
        return ()
    if not highest:
        raise ConfigError("momentum_low is set; expected an optimizer with momentum or beta1 to cycle")
    (name, high), *_ = highest.items()
    result = []
    for segment in segments:
        low = segment.settings.get("momentum_low")
        if low is None:
            result.append(Segment("constant", segment.start, segment.length, {"start_factor": 1.0}))
            continue
        if low > high:
            raise ConfigError(f"momentum_low is {low}; expected at most {name}, {high}")
        ratio = low / high if high else 1.0
        result.append(segment._replace(settings={**segment.settings, "momentum_low": ratio}, momentum=True))
    return tuple(result)


def warmup_segment(length: int, shape: str, start_factor: float) -> Segment:
    """Returns the learning rate's warmup; raises ConfigError where an exponential one would rise from 0."""
    if shape == "exponential" and not start_factor and length:
        raise ConfigError("warmup_start_factor is 0; expected a number > 0 for warmup_shape 'exponential'")
    settings = {"warmup_shape": number_of("warmup_shape", shape), "warmup_start_factor": start_factor}
    return Segment(WARMUP, 0, length, settings)


def _number(name: str, setting: str, value: Any, clock: Clock) -> Any:
    if value is None:
        return None
    if forms(name)[setting] == "ints":
        if len(value) > MOST_MILESTONES:
            raise ConfigError(f"{setting} has {len(value)} values; expected at most {MOST_MILESTONES}")
        return [clock.stretched(clock.steps(setting, str(one))) for one in value]
    if not is_length(setting):
        return number_of(setting, value)
    steps = clock.steps(setting, str(value))
    if steps < 1:
        raise ConfigError(f"{setting} is {value}; expected at least one step")
    if forms(name)[setting] == "precise":
        return float(steps * clock.stretch)
    return max(clock.stretched(steps), 1)
