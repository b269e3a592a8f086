"""Step 4: which learning rates bring the loss down, with the chosen optimizer and with others."""

import math
from collections.abc import Mapping

import numpy as np

from hpjax.recipe.context import Context
from hpjax.recipe.finding import Finding, Note, Table
from hpjax.recipe.initial import chances
from hpjax.recipe.other_optimizers import better_than, compared, compared_with
from hpjax.recipe.range_test import HIGH, LOOKS, LOW, RangeTest, end, finite, range_test, table

PER_DECADE, OTHERS_PER_DECADE = 2, 1
LEAST_STEPS, MOST_STEPS = 50, 200
OWN = 0.3
"""Share of the best rate's gain below which the configured rate is remarked."""
NOTHING = 0.98
"""Share of the best constant's loss above which the validation loss says that nothing was learned."""
OWN_SHARE = 0.5
"""Share of the step's time that the chosen optimizer may take, where there is time for others."""
FOR_OTHERS, EACH_OTHER = 8.0, 3.0
"""Units of time below which only the chosen optimizer is tried, and that each other one takes at least."""


def finder(context: Context) -> Finding:
    """Returns the loss after a short training at each rate, and what follows: rates that learn, the best, the largest.

    The suggestion is the constant rate that ends lowest; beside it stand the steepest place of the ramp and a tenth of the
    rate at its minimum, which are what the range test is usually read for.
    """
    config = context.config
    epoch = -(-context.dataset.splits["train"][1] // config.batch_size)
    every = max(min(MOST_STEPS, max(epoch, LEAST_STEPS)) // LOOKS, 1)
    own_rate = float(config.learning_rate or LOW)
    # The others are left out where there is little time.
    share = OWN_SHARE if context.time > FOR_OTHERS * context.unit else 1.0
    until = context.clock.used + share * context.time
    own = range_test(context, config, PER_DECADE, every, lambda: context.clock.used > until, (own_rate,))
    ends = own.ends()
    facts = own.facts()
    facts["trial_steps_per_second"] = own.trial_steps_per_second
    facts |= {"own": own_rate, "own_loss": end(own.curves[-1])}
    facts["val_loss"] = own.val[int(np.argmin(ends))] if own.val else math.nan
    facts["constant"] = chances(context)[1]
    tables: dict[str, Table] = {
        "rates": {"learning_rate": own.rates, "loss": finite(ends)},
        "ramp": {"learning_rate": own.ramp, "loss": own.along},
    }
    if not facts["gain"] > 0.01 * abs(facts["before"]):
        seen = f"no rate from {LOW:g} to {HIGH:g} brings the loss down: {facts['before']:.4g} to {facts['loss']:.4g}"
        remedy = "look at the steps before this one; another optimizer; normalisation layers"
        return Finding("lr", (Note("learning_rate", "failed", seen, remedy),), stops=True, tables=tables, facts=facts)
    tests = {config.optimizer: own, **_others(context, every)}
    if len(tests) > 1:
        tables |= {"optimizers": table(tests, False), "ramps": table(tests, True), "suggestions": compared(tests)}
    return _finding(facts, tables, tests)


def _others(context: Context, every: int) -> dict[str, RangeTest]:
    """Returns the tests of other optimizers, as many as there is time for."""
    found: dict[str, RangeTest] = {}
    wanted = list(compared_with(context.config).items())
    # Where there is little time, fewer of them rather than all of them too short.
    if math.isfinite(context.time):
        wanted = wanted[: int(context.time / (EACH_OTHER * context.unit))]
    for i, (name, config) in enumerate(wanted):
        # Its program is compiled first, and the ramp is as long as one of the trials.
        share = context.time / (len(wanted) - i)
        until = context.clock.used + 0.8 * share
        found[name] = range_test(context, config, OTHERS_PER_DECADE, every, lambda until=until: context.clock.used > until)  # type: ignore[misc]
    return found


def worth_trying(facts: Mapping[str, float]) -> tuple[float, float]:
    """Returns the lowest and the highest rate that a search should try: a little beyond those that learn well."""
    return facts["lowest_worth"] / 3, min(facts["highest_worth"] * 3, facts["largest_stable"])


def _finding(facts: dict[str, float], tables: dict[str, Table], tests: Mapping[str, RangeTest]) -> Finding:
    best, before, loss = facts["best"], facts["before"], facts["loss"]
    optimizer = next(iter(tests))
    figures = f"{optimizer}: {best:.2g} is best, loss {before:.3g} to {loss:.3g} in {facts['steps']:.0f} steps"
    useful = f"rates from {facts['lowest_useful']:.2g} to {facts['highest_useful']:.2g} learn"
    if math.isfinite(facts["unstable"]):
        useful += f", from {facts['unstable']:.2g} on the loss ends above its start"
    ramp = f"the ramp is steepest at {facts['steepest']:.2g}, a tenth of its minimum is {facts['minimum_tenth']:.2g}"
    notes = [Note("learning_rate", "ok", figures), Note("useful_rates", "ok", useful), Note("ramp", "ok", ramp)]
    if facts["highest_useful"] / facts["lowest_useful"] < 10:
        notes.append(
            Note(
                "narrow_rates",
                "warning",
                f"less than a decade of rates learns: {useful}",
                "warmup, gradient clipping (--clip_norm=1) or normalisation layers widen it",
            )
        )
    notes += [note for note in (_of_own(facts), _of_labels(facts), better_than(tests)) if note is not None]
    low, high = worth_trying(facts)
    advice = f"the search takes rates from {low:.2g} to {high:.2g}"
    return Finding("lr", tuple(notes), settings={"learning_rate": f"{best:.3g}"}, advice=advice, tables=tables, facts=facts)


def _of_own(facts: Mapping[str, float]) -> Note | None:
    """Returns what is to be said of the rate that the config has."""
    own, loss, best = facts["own"], facts["own_loss"], facts["best"]
    if facts["before"] - loss > OWN * facts["gain"]:
        return None
    word, remedy = ("high", "lower it, or add warmup") if own > best else ("low", "raise it")
    seen = f"the configured rate, {own:.2g}, is too {word}: loss {loss:.3g} where {best:.2g} comes to {facts['loss']:.3g}"
    return Note("configured_rate", "warning", seen, remedy)


def _of_labels(facts: Mapping[str, float]) -> Note | None:
    """Returns a warning where training on the inputs is worth nothing on others."""
    val, constant = facts["val_loss"], facts["constant"]
    if not val > NOTHING * constant:
        return None
    seen = f"the validation loss, {val:.3g} after {facts['steps']:.0f} steps, is no better than a constant's, {constant:.3g}"
    remedy = "check that labels belong to their inputs (shuffled?), in both splits; else a larger model or longer training"
    return Note("labels", "warning", seen, remedy)
