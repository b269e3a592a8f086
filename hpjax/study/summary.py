"""What a study has come to, as text: the winner, whether it can be told from the second, and how the study ran."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hpjax.objective import Objective
from hpjax.runfolder import EVENTS, PARAMS
from hpjax.study import table
from hpjax.study.axes import text_of
from hpjax.study.folder import BEST, JOURNAL, PICTURES, TABLE
from hpjax.study.records import SettingSummary, TrialRecord

CONFIDENCE = 0.95

_FILES = {
    TABLE: "one row a trial",
    JOURNAL: "for optuna.load_study and optuna-dashboard",
    BEST: "python -m hpjax.train --flagfile=THIS trains the winner again",
    PARAMS: "the best trials' parameters: --init_from=THE STUDY begins with the winner's",
    PICTURES: "pictures",
    EVENTS: "tensorboard --logdir, with the HParams tab",
}


class Difference(NamedTuple):
    """By how much one setting's mean is better than another's, with Welch's interval.

    Attributes:
      value: the difference of the means; positive: the first is better.
      low: the interval's lower end; NaN where a setting has one trial.
      high: its upper end.
    """

    value: float
    low: float
    high: float


def text(
    records: Sequence[TrialRecord],
    summaries: Sequence[SettingSummary],
    objective: Objective,
    facts: Mapping[str, Any],
    path: Path,
) -> str:
    """Returns a few lines on a study that has ended.

    Args:
      records: its trials.
      summaries: its hyperparameter settings.
      objective: what best means.
      facts: what else is known, each where there is one: seconds, occupancy and late (shares), edges (names with their
        ends), repeats (whether the winner, trained again, gave the same bits), test (numbers over the test split).
      path: its folder.
    """
    best = table.best(summaries, objective)
    lines = [] if best is None else list(_winner(records, summaries, objective, facts, best))
    if best is None:
        lines.append("no setting has a value: every trial diverged or was not evaluated")
    lines.append(_counts(records, summaries, facts))
    if facts.get("repeats") is False:
        lines.append("warning: the winner, trained again by itself, did not give the same bits")
    there = {name: what for name, what in _FILES.items() if (Path(path) / name).exists() and (best or name != PARAMS)}
    width = max(map(len, there), default=0)
    lines.append(f"{path}:" if there else str(path))
    lines += [f"  {name:<{width}}  {what}" for name, what in there.items()]
    return "\n".join(lines)


def difference(first: Sequence[float], second: Sequence[float], objective: Objective) -> Difference:
    """Returns by how much the first trials' mean is better than the second's, with Welch's interval of 95 %.

    The trials are taken as independent (Welch 1947); the degrees of freedom are Satterthwaite's.

    Args:
      first: objectives of the trials of one setting, all finite.
      second: likewise of another.
      objective: says what is better.
    """
    from scipy.special import stdtrit

    means = [math.fsum(values) / len(values) for values in (first, second)]
    value = (means[0] - means[1]) * (1 if objective.maximise else -1)
    if min(len(first), len(second)) < 2:
        return Difference(value, math.nan, math.nan)
    parts = [
        math.fsum((one - mean) ** 2 for one in values) / (len(values) - 1) / len(values)
        for values, mean in zip((first, second), means, strict=True)
    ]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Difference(value, value, value)
    shares = [part / sum(parts) for part in parts]
    freedom = 1 / sum(share**2 / (len(values) - 1) for share, values in zip(shares, (first, second), strict=True))
    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    return Difference(value, value - reach, value + reach)


def _winner(
    records: Sequence[TrialRecord],
    summaries: Sequence[SettingSummary],
    objective: Objective,
    facts: Mapping[str, Any],
    best: SettingSummary,
) -> Iterator[str]:
    by_number = {record.number: record for record in records}
    yield f"best of {len(summaries):,} settings: setting {best.setting}, {_value(best, by_number, objective)}"
    if best.status != "done":
        yield f"  not at its end ({best.status}): no setting with a value has all its trials done"
    width = max(map(len, best.values), default=0)
    for name, value in best.values.items():
        yield f"  {name:<{width}}  {text_of(name, value)}"
    second = table.best([one for one in summaries if one.setting != best.setting], objective)
    if second is not None and second.status == best.status:
        yield f"second: setting {second.setting}, {_value(second, by_number, objective)}"
        first, other = ([by_number[n].objective for n in one.numbers] for one in (best, second))
        gap = objective.score(best.value) - objective.score(second.value)
        yield f"  {_told(gap, difference(first, other, objective))}"
    if facts.get("edges"):
        yield f"at the edge of what was searched: {', '.join(facts['edges'])}; better values may lie beyond"
    if facts.get("test"):
        numbers = ", ".join(f"{name} {text_of(name, value)}" for name, value in facts["test"].items())
        yield f"test split, read once with the winner: {numbers}"


def _value(one: SettingSummary, by_number: Mapping[int, TrialRecord], objective: Objective) -> str:
    """Returns a setting's value with its spread: `best val/accuracy 0.9712, std 0.0031 over 4 trials (0.968 to 0.975)`."""
    words = f"{objective.value} {objective.name} {one.value:.4g}"
    if len(one.numbers) < 2:
        return f"{words} (1 trial)"
    values = [by_number[number].objective for number in one.numbers]
    ends = f"{min(values):.4g} to {max(values):.4g}"
    return f"{words}, standard deviation {one.spread:.2g} over {len(values)} trials ({ends})"


def _told(gap: float, found: Difference) -> str:
    """Returns whether two settings can be told apart.

    Args:
      gap: the difference of what counts, means or medians.
      found: that of the means, with its interval.
    """
    if math.isnan(found.low):
        return f"better by {gap:.2g}; with one seed the noise is unknown: vary seed=range(n) to learn it"
    ends = f"95 % interval of the difference: {found.low:.2g} to {found.high:.2g}"
    words = f"better by {gap:.2g}"
    if not math.isclose(gap, found.value, rel_tol=1e-9, abs_tol=1e-15):
        words += f" (medians; the means differ by {found.value:.2g})"
    if found.low > 0:
        return f"{words}, beyond seed noise ({ends})"
    return f"{words}, within seed noise: these seeds cannot tell the two apart ({ends})"


def _counts(records: Sequence[TrialRecord], summaries: Sequence[SettingSummary], facts: Mapping[str, Any]) -> str:
    counts = Counter(record.status for record in records)
    order = ["done", "stopped", "diverged", *sorted(counts.keys() - {"done", "stopped", "diverged"})]
    kinds = ", ".join(f"{counts[status]:,} {status}" for status in order if counts[status])
    words = [f"{len(records):,} trial{'' if len(records) == 1 else 's'}{': ' if kinds else ''}{kinds}"]
    seconds, occupancy, late = (facts.get(name) for name in ("seconds", "occupancy", "late"))
    if seconds:
        words.append(f"{seconds:,.1f} s, {len(records) / seconds:,.2f} trials/s")
    if occupancy is not None and math.isfinite(occupancy):
        words.append(f"lanes busy {occupancy:.1%}")
    if late:
        words.append(f"{late:.1%} of it after a decision to stop")
    return "; ".join(words)
