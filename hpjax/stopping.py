"""Early stopping: a run that has not improved for some evaluations ends."""

import dataclasses
from collections.abc import Sequence

from hpjax.objective import Evaluation, Objective


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """When a run stops early.

    Attributes:
      patience: evaluations in a row without improvement after which it stops; None never does.
      min_delta: by how much the objective must get better to count as improved.
      min_ticks: ticks before which it does not stop.
    """

    patience: int | None = None
    min_delta: float = 0.0
    min_ticks: int = 0

    def stops_at(self, objective: Objective, evaluations: Sequence[Evaluation]) -> int | None:
        """Returns the tick of the evaluation at which the run stops, or None; NaN is no improvement."""
        if self.patience is None:
            return None
        best, waited = -float("inf"), 0
        for evaluation in evaluations:
            score = objective.score(evaluation.value)
            improved = score > best + self.min_delta if best > -float("inf") else score > best
            best, waited = (score, 0) if improved else (best, waited + 1)
            if waited >= self.patience and evaluation.tick >= self.min_ticks:
                return evaluation.tick
        return None
