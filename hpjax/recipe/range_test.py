"""A learning rate range test of one optimizer: constant rates side by side, one ramp through all of them, what they say."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hpjax.config import Config
from hpjax.recipe.bench import Bench, Curve
from hpjax.recipe.context import Context, plain
from hpjax.recipe.rates import spread

LOW, HIGH = 1e-5, 10.0
LOOKS, LEAST_LOOKS = 10, 2
"""How often each run is looked at, and below which number of looks a deadline does not end it."""
VALIDATED = 1024
"""Validation examples that tell whether anything was learned; of a text fewer, for each has many tokens."""
WORSE = 1.0
"""A rate is unstable where its loss ends above this share of the loss at the start."""
USEFUL = 0.1
"""Share of the best rate's gain that a rate must bring to count as one that learns."""
WORTH = 0.5
"""Likewise, for a search to go there: what is slower here is too slow for runs that are not much longer."""


class RangeTest(NamedTuple):
    """What a range test gave.

    Attributes:
      optimizer: its name.
      rates: constant learning rates, growing.
      curves: how a trial went at each, and at the further rates that were asked for.
      ramp: learning rates of the ramp's steps.
      along: the training loss at each.
      every: steps from one look to the next.
      val: loss over the validation split of each constant rate's trial, where it was asked for.
      trial_steps_per_second: of all devices together; NaN where a single look does not tell.
    """

    optimizer: str
    rates: list[float]
    curves: list[Curve]
    ramp: list[float]
    along: list[float]
    every: int
    val: list[float]
    trial_steps_per_second: float

    @property
    def looks(self) -> int:
        """Looks that were made."""
        return len(self.curves[0].losses)

    @property
    def steps(self) -> int:
        """Steps of each constant rate's trial."""
        return self.looks * self.every

    def ends(self, looks: int | None = None) -> list[float]:
        """Returns the loss of each constant rate after so many looks (default: in the end); infinite where it diverged."""
        return [end(curve, looks) for curve in self.curves[: len(self.rates)]]

    @property
    def before(self) -> float:
        """The mean training loss up to the first look, of a rate that hardly changes anything."""
        return next((curve.losses[0] for curve in self.curves if math.isfinite(curve.losses[0])), math.nan)

    def facts(self) -> dict[str, float]:
        """Returns what `read` finds in it, and the number of steps."""
        return read(self.rates, self.ends(), self.before, self.ramp, self.along) | {"steps": self.steps}


def range_test(
    context: Context, config: Config, per_decade: int, every: int, late: Callable[[], bool], own: Sequence[float] = ()
) -> RangeTest:
    """Trains short trials at many rates, and one along a ramp.

    Args:
      context: the recipe.
      config: a resolved config, of any optimizer.
      per_decade: constant rates in each decade.
      every: steps between two looks.
      late: whether there is no more time: the trials end at the next look, and the ramp is as much shorter.
      own: further rates; the validation loss is measured where there are some.

    Source: Smith, Cyclical Learning Rates for Training Neural Networks (2017), section 3.3, for the ramp.
    """
    rates = spread(LOW, HIGH, round(math.log10(HIGH / LOW) * per_decade) + 1)
    base = plain(config, every * LOOKS, log_every=f"{every}steps")
    bench = Bench(base, context.dataset, len(rates) + len(own))
    configs = [base.replace(learning_rate=rate) for rate in (*rates, *own)]
    states, curves = bench.run(configs, every, LOOKS, lambda looks: looks >= LEAST_LOOKS and late())
    looks, seconds = len(curves[0].losses), curves[0].seconds[-1]
    made = (looks * every - 1) * sum(not curve.diverged for curve in curves)
    measured = own and context.dataset.splits["val"][1]
    most = VALIDATED if context.dataset.window is None else VALIDATED // 4
    val = [row["loss"] for row in bench.measure(states, "val", most)] if measured else []
    steps = looks * every
    growth = HIGH / LOW
    ramp = base.replace(
        schedule="exponential", gamma=growth, decay_steps=f"{max(steps - 1, 1)}steps", learning_rate=LOW, log_every="1steps"
    )
    _, (along,) = bench.run([ramp], 1, steps)
    return RangeTest(
        config.optimizer,
        rates,
        curves,
        [LOW * growth ** (t / max(steps - 1, 1)) for t in range(steps)],
        along.losses,
        every,
        val,
        made / seconds if seconds and made else math.nan,
    )


def read(
    rates: Sequence[float], ends: Sequence[float], before: float, ramp: Sequence[float], losses: Sequence[float]
) -> dict[str, float]:
    """Returns what the losses say: the best rate, those that learn, the largest stable one, and the ramp's two readings.

    Args:
      rates: constant learning rates, growing.
      ends: the loss that each ended with; infinite where it diverged.
      before: the loss at the start.
      ramp: learning rates of a ramp.
      losses: the training loss at each.
    """
    best = int(np.argmin(ends))
    gain = before - ends[best]
    learns = [rate for rate, end in zip(rates, ends, strict=True) if before - end > USEFUL * gain > 0]
    worth = [rate for rate, end in zip(rates, ends, strict=True) if before - end > WORTH * gain > 0]
    unstable = [rate for rate, end in zip(rates, ends, strict=True) if rate > rates[best] and end > WORSE * before * 1.02]
    # Beyond the first unstable one a trial may be so far off that its loss stands still.
    stable = [rate for rate in rates if rate < min(unstable, default=math.inf)]
    smooth = _smoothed(losses)
    finite = np.isfinite(smooth)
    lowest = int(np.nanargmin(np.where(finite, smooth, np.nan))) if finite.any() else 0
    slope = np.gradient(smooth[: lowest + 1], np.log(np.asarray(ramp[: lowest + 1]))) if lowest >= 2 else np.array([0.0])
    return {
        "before": before,
        "best": rates[best],
        "loss": ends[best],
        "gain": gain,
        "lowest_useful": min(learns, default=math.nan),
        "lowest_worth": min(worth, default=math.nan),
        "highest_worth": max(worth, default=math.nan),
        "highest_useful": max(learns, default=math.nan),
        "largest_stable": max(stable, default=math.nan),
        "unstable": min(unstable, default=math.nan),
        "steepest": float(ramp[int(np.argmin(slope))]) if lowest >= 2 else math.nan,
        "minimum_tenth": float(ramp[lowest]) / 10,
    }


def end(curve: Curve, looks: int | None = None) -> float:
    """Returns a curve's loss after so many looks (default: the last); infinite where it diverged before."""
    loss = curve.losses[-1 if looks is None else looks - 1]
    return loss if math.isfinite(loss) else math.inf


def finite(ends: Sequence[float]) -> list[float]:
    """Returns losses as a table holds them, NaN for infinite ones."""
    return [one if math.isfinite(one) else math.nan for one in ends]


def table(tests: Mapping[str, RangeTest], ramps: bool) -> dict[str, list]:
    """Returns `optimizer`, `learning_rate` and `loss` of all constant rates, or of all ramps."""
    rows = [
        (name, rate, loss)
        for name, one in tests.items()
        for rate, loss in (zip(one.ramp, one.along, strict=True) if ramps else zip(one.rates, one.ends(), strict=True))
    ]
    rate_and_loss = {"learning_rate": [row[1] for row in rows], "loss": finite([row[2] for row in rows])}
    return {"optimizer": [row[0] for row in rows], **rate_and_loss}


def _smoothed(losses: Sequence[float], beta: float = 0.9) -> np.ndarray:
    """Returns exponential means without the bias towards the start."""
    mean, smooth = 0.0, []
    for i, loss in enumerate(losses, 1):
        mean = beta * mean + (1 - beta) * loss
        smooth.append(mean / (1 - beta**i))
    return np.array(smooth)
