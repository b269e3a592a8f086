"""The traced table of a trial's schedules: one shape whatever they are, so that any may be lanes of one program."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hpjax.errors import ConfigError
from hpjax.registry import Scalar
from hpjax.schedules import plateau
from hpjax.schedules.forms import call, columns, entry, kinds, read, write
from hpjax.schedules.plan import Segment
from hpjax.schedules.plateau import Plateau
from hpjax.schedules.registry import SCHEDULES
from hpjax.schedules.text import MOST_PARTS

QUANTITIES = ("learning_rate", "weight_decay", "momentum", "batch_size")
"""What follows a schedule, in the order of `factors`."""

OBSERVING = ("learning_rate", "batch_size")
"""Those that may follow `plateau`: a trial remembers one."""

INTS, FLOATS = "schedule_ints", "schedule_floats"
"""The table's two arrays: int32 and float32 [quantities, segments, columns]."""

_SEGMENTS = MOST_PARTS + 1
_KIND, _START, _LENGTH, _MOMENTUM, _COUNT, _SETTINGS = range(6)
_ONE = (Segment("constant", 0, 1, {"start_factor": 1.0}),)


def pack(plans: Mapping[str, Sequence[Segment]]) -> dict[str, np.ndarray]:
    """Returns the table of a trial's schedules.

    Args:
      plans: segments by quantity; a quantity that is absent or has none stays as it is.

    Returns:
      `schedule_ints` int32 and `schedule_floats` float32 [quantities, segments, columns]: the kind, start, length and
      settings of every segment, the last one repeated to a fixed number.

    Raises:
      ConfigError: plateau for another quantity than the learning rate or the batch size, or twice.
    """
    extra = plugins(segment.name for segments in plans.values() for segment in segments)
    ints = np.zeros((len(QUANTITIES), _SEGMENTS, _SETTINGS + columns("int", "ints", plugins=extra)), np.int32)
    floats = np.zeros((len(QUANTITIES), _SEGMENTS, columns("float", "precise", plugins=extra)), np.float32)
    scheduled = [quantity for quantity in QUANTITIES if plans.get(quantity)]
    for i, quantity in enumerate(QUANTITIES):
        segments = plans.get(quantity) or _ONE
        plateaus = sum(segment.name == "plateau" for segment in segments)
        if plateaus and quantity not in OBSERVING:
            raise ConfigError(f"{quantity}_schedule has 'plateau', which is for the learning rate or the batch size")
        if plateaus and quantity == "batch_size" and any(s.name == "plateau" for s in plans.get("learning_rate") or ()):
            raise ConfigError("schedule and batch_size_schedule both have 'plateau'; expected it in one of them")
        if plateaus > 1:
            raise ConfigError(f"schedule has {plateaus} parts 'plateau'; expected one")
        for j, segment in enumerate(segments):
            head = (kinds(extra).index(segment.name), segment.start, segment.length, segment.momentum)
            ints[i, j, :_COUNT] = head
            write(segment.name, segment.settings, ints[i, j, _SETTINGS:], floats[i, j])
        last = len(segments) - 1
        ints[i, last:], floats[i, last:] = ints[i, last], floats[i, last]
    # The learning rate is always looked up; what comes after the last scheduled quantity is not.
    ints[:, :, _COUNT] = 1 + max([QUANTITIES.index(quantity) for quantity in scheduled], default=0)
    return {INTS: ints, FLOATS: floats}


def plugins(names: Iterable[str]) -> tuple[str, ...]:
    """Returns those of some schedules' names that are no registered ones, in their order in a program."""
    return tuple(sorted({name for name in names if name not in kinds()}))


def check_plugin(name: str) -> None:
    """Refuses a schedule of one's own that does not give one number a step.

    Raises:
      ConfigError: it gives something else. What it raises itself comes through.
    """
    step = jax.ShapeDtypeStruct((), jnp.int32)
    ints = jax.ShapeDtypeStruct((columns("int", "ints", plugins=(name,)),), jnp.int32)
    floats = jax.ShapeDtypeStruct((columns("float", "precise", plugins=(name,)),), jnp.float32)
    SCHEDULES.check_call(name, "step", "total_steps")

    def value(step: jax.Array, total_steps: jax.Array, ints: jax.Array, floats: jax.Array) -> jax.Array:
        given = SCHEDULES.get(name)(step, total_steps, **read(name, ints, floats))
        if not isinstance(given, (bool, int, float, np.generic, np.ndarray, jax.Array)):
            raise ConfigError(f"schedule '{name}' gives a {type(given).__name__} for a step; expected one number, ()")
        return jnp.asarray(given)

    given = jax.eval_shape(value, step, step, ints, floats)
    if given.shape != ():
        raise ConfigError(f"schedule '{name}' gives {given.shape} for a step; expected one number, ()")


def factors(
    times: jax.Array, values: Mapping[str, jax.Array], reduction: Scalar = 1.0, extra: Sequence[str] = ()
) -> jax.Array:
    """Returns the factor of each quantity at its own time.

    Args:
      times: int32 [quantities], 0-based steps, in the order of `QUANTITIES`.
      values: what `pack` gave, by name; other names are ignored. All may be traced.
      reduction: float32 scalar, `Plateau.reduction` of the trial.
      extra: the program's plug-ins, from `plugins`.

    Returns:
      float32 [quantities], factors of the peak learning rate, the weight decay, the momentum and the batch size.
    """
    ints, floats = jnp.asarray(values[INTS]), jnp.asarray(values[FLOATS])
    # The functions are part of what was traced: a schedule registered since then, or another under a plug-in's name, is new.
    known = tuple((name, _Identity(entry(name))) for name in kinds(extra))
    return _factors(jnp.asarray(times, jnp.int32), ints, floats, jnp.asarray(reduction, jnp.float32), known)


class _Identity:
    """A function compared by identity, for a plug-in may be an object that cannot be hashed."""

    def __init__(self, function: Callable[..., jax.Array]):
        self.function = function

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.function is other.function

    def __hash__(self) -> int:
        return id(self.function)


# Traced once for all the programs of a process, and all the places in them: it is a large part of their tracing.
@functools.partial(jax.jit, static_argnames="known")
def _factors(
    times: jax.Array, ints: jax.Array, floats: jax.Array, reduction: jax.Array, known: tuple[tuple[str, _Identity], ...]
) -> jax.Array:
    def branch(name: str) -> Callable[..., jax.Array]:
        def factor(step: jax.Array, row: jax.Array, floats: jax.Array, reduction: jax.Array) -> jax.Array:
            settings = read(name, row[_SETTINGS:], floats)
            return call(name, step, row[_LENGTH], settings, momentum=row[_MOMENTUM], reduction=reduction)

        return factor

    branches = [branch(name) for name, _ in known]

    def body(i: jax.Array, result: jax.Array) -> jax.Array:
        segment = jnp.sum(times[i] >= ints[i, 1:, _START], dtype=jnp.int32)
        row = ints[i, segment]
        factor = lax.switch(row[_KIND], branches, times[i] - row[_START], row, floats[i, segment], reduction)
        return result.at[i].set(factor)

    # One switch in a loop: the branches are compiled once, not for every quantity.
    return lax.fori_loop(0, ints[0, 0, _COUNT], body, jnp.ones(len(QUANTITIES), jnp.float32))


def observe(state: Plateau, metric: Scalar, maximise: bool, values: Mapping[str, jax.Array]) -> Plateau:
    """Returns the state of the plateau schedule after an evaluation; it stays where the trial has no such schedule.

    Every evaluation counts, those during a warmup or an earlier part too.

    Args:
      state: the state before.
      metric: float32 scalar, the objective's metric on the validation split; NaN is no improvement.
      maximise: whether a higher metric is better.
      values: what `pack` gave, by name.
    """
    rows = np.array([QUANTITIES.index(quantity) for quantity in OBSERVING])
    ints, floats = (jnp.concatenate([jnp.asarray(values[name])[row] for row in rows]) for name in (INTS, FLOATS))
    is_plateau = ints[:, _KIND] == kinds().index("plateau")
    row = jnp.argmax(is_plateau)
    new = plateau.observed(
        state, jnp.asarray(metric, jnp.float32), maximise, **read("plateau", ints[row, _SETTINGS:], floats[row])
    )
    return jax.tree.map(lambda a, b: jnp.where(is_plateau.any(), a, b), new, state)
