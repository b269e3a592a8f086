"""What the report has to say of each step: notes, and pictures and tables in panels."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hpjax.recipe.finding import Finding, Table
from hpjax.report import confirmed, confusion, first_steps, importance, interactions, material, searches, timing
from hpjax.report.chart import Chart
from hpjax.report.example import Example
from hpjax.report.hard_text import TokenPredictions, by_position, worst_tokens
from hpjax.report.material import Trials
from hpjax.report.parallel import parallel
from hpjax.report.predictions import predict
from hpjax.report.surface import surface
from hpjax.study.table import columns

if TYPE_CHECKING:
    from hpjax.recipe.recipe import Tuned

MOST_ROWS = 50
"""Of a table of trials on the page; the file has all."""


MARKS = (
    "A dot is a setting: filled, it came to its end, with the standard deviation over its seeds where it has several; "
    "open, it was stopped before. A cross at the foot has diverged, the star is the best."
)


TOKENS = "The tokens that the winner thought least likely, one of each window, behind ▸; before it the text that it saw."
ALL_RIGHT = "No example is taken for something else: there is no worst one."


class Panel(NamedTuple):
    """Pictures and a table that are seen together.

    Attributes:
      name: of its tab.
      charts: pictures.
      table: a table; None for none.
      said: a sentence; empty for none.
      examples: examples that the winner is most wrong about.
    """

    name: str
    charts: tuple[Chart, ...] = ()
    table: Table | None = None
    said: str = ""
    examples: tuple[Example, ...] = ()


class Section(NamedTuple):
    """A step in the report.

    Attributes:
      step: its name.
      title: what it did.
      finding: what it found; None of the section on time.
      panels: what is seen of it.
    """

    step: str
    title: str
    finding: Finding | None
    panels: tuple[Panel, ...]

    @property
    def charts(self) -> list[Chart]:
        """All its pictures."""
        return [chart for panel in self.panels for chart in panel.charts]


TITLES = {
    "initial": "Before the first step",
    "gradient": "Gradient check",
    "overfit": "A few examples by heart",
    "lr": "Learning rate",
    "batch": "Batch size",
    "coarse": "Coarse search",
    "refine": "Refined search",
    "confirm": "Confirmation",
    "curves": "Learning curves",
}


Enough = Callable[[float], bool]
"""Whether there is time for what takes so many units, multiples of the time for which a program compiles."""
IMPORTANCE_UNITS, PREDICTIONS_UNITS = 1.0, 1.5
NO_TIME = "left out, for the budget was over: python -m hpjax.report FOLDER writes this report again with it"


def sections(tuned: "Tuned", studies: dict[str, Trials], enough: Enough = lambda units: True) -> list[Section]:
    """Returns a section for each step that was made, and one on time and cost.

    Args:
      tuned: what the steps found.
      studies: their trials.
      enough: whether there is time for so many units; what there is none for is left out, which the section says.
    """
    first = first_steps.charts(tuned.findings)
    result = []
    for step, finding in tuned.findings.items():
        panels: list[Panel] = []
        if step in first:
            panels = [Panel("Pictures", tuple(first[step]), finding.tables.get("suggestions"))]
        elif step == "confirm" and step in studies:
            panels = list(_confirmed(studies[step], enough))
        elif step in studies:
            panels = list(_searched(studies[step], enough))
        elif step == "curves" and studies:
            panels = list(_losses(studies))
        result.append(Section(step, TITLES.get(step, step), finding, tuple(panels)))
    if tuned.findings:
        panel = Panel("Time", (timing.timing(tuned),), timing.cost(tuned, studies))
        result.append(Section("time", "Time and cost", None, (panel,)))
    return result


def _searched(trials: Trials, enough: Enough) -> Iterator[Panel]:
    found = importance.importance(trials) if enough(IMPORTANCE_UNITS) else importance.Importance({}, NO_TIME)
    if (chart := parallel(trials)) is not None:
        yield Panel("Parallel", (chart,))
    yield Panel("Slices", tuple(searches.slices(trials)), said=MARKS)
    what = [importance.chart(trials.step, found)] if found.shares else []
    said = "" if found.shares else f"Importance: {found.said}."
    if found.shares:
        pairs = interactions.interactions(trials, found.shares)
        what += [interactions.chart(trials.step, pairs)] if pairs.shares else []
        said = "" if pairs.shares else f"Interactions: {pairs.said}."
    yield Panel("Importance", tuple(one for one in (surface(trials, found.shares), *what) if one is not None), said=said)
    if (chart := searches.curves(trials)) is not None:
        yield Panel("Curves", (chart,))
    yield _trials(trials)


def _confirmed(trials: Trials, enough: Enough) -> Iterator[Panel]:
    if (chart := confirmed.side_by_side(trials)) is not None:
        yield Panel("Settings", (chart,), settings_table(trials))
    if (chart := searches.curves(trials)) is not None:
        yield Panel("Curves", (chart,))
    if trials.study is not None and trials.study.kept:
        found = predict(trials.study) if enough(PREDICTIONS_UNITS) else f"no predictions: {NO_TIME}"
        if isinstance(found, str):
            yield Panel("Predictions", said=f"{found}.")
        elif isinstance(found, TokenPredictions):
            yield Panel("Predictions", (by_position(found),), examples=tuple(worst_tokens(found)), said=TOKENS)
        else:
            examples = tuple(confusion.worst(found))
            yield Panel("Predictions", (confusion.matrix(found),), examples=examples, said="" if examples else ALL_RIGHT)
    yield _trials(trials)


def _losses(studies: dict[str, Trials]) -> Iterator[Panel]:
    chart = confirmed.losses(list(studies.values())[-1])
    if chart is not None:
        yield Panel("Losses", (chart,))


def settings_table(trials: Trials) -> Table:
    """Returns a row for each setting that has a value, the best first."""
    score = trials.objective.score
    ranked = sorted(material.finite(trials.settings), key=lambda one: (-score(one.value), one.setting))[:MOST_ROWS]
    return {
        "setting": [one.setting for one in ranked],
        trials.objective.name: [one.value for one in ranked],
        "spread": [one.spread for one in ranked],
        "seeds": [len(one.numbers) for one in ranked],
        **{name: [one.values.get(name) for one in ranked] for name in trials.scales},
    }


def _trials(trials: Trials) -> Panel:
    score = trials.objective.score
    ranked = sorted(trials.records, key=lambda one: (-score(one.objective), one.number))[:MOST_ROWS]
    names: Sequence[str] = list(dict.fromkeys(name for record in trials.records for name in record.values))
    every = columns(ranked, trials.objective, names)
    shown = ("number", "status", trials.objective.name, "best_step", *names, "diverged_at", "seconds")
    table = {name: every["objective" if name == trials.objective.name else name] for name in shown}
    if not any(table["diverged_at"]):
        del table["diverged_at"]
    more = f"The best {len(ranked)} of {len(trials.records)} trials; " if len(ranked) < len(trials.records) else ""
    return Panel("Trials", table=table, said=f"{more}tables/{trials.step}_trials.csv has all of them.".capitalize())
