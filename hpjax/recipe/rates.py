"""Where a search for the learning rate begins, for each optimizer."""

import numpy as np

STARTING_RANGES: dict[str, tuple[float, float]] = {
    "sgd": (1e-2, 1e-1),
    **dict.fromkeys(("momentum", "nesterov"), (1e-3, 1e-1)),
    **dict.fromkeys(("adam", "adamw", "nadam", "nadamw", "adamax", "radam", "amsgrad", "rmsprop", "adagrad"), (1e-3, 1e-2)),
    "adadelta": (1e-2, 1.0),
    "lion": (1e-4, 1e-3),
    **dict.fromkeys(("lars",), (1e-1, 10.0)),
    **dict.fromkeys(("lamb",), (1e-3, 1e-2)),
}
"""Learning rates from scratch that are usual."""


def spread(low: float, high: float, number: int) -> list[float]:
    """Returns numbers from low to high, equally far apart in their logarithms."""
    return [float(rate) for rate in np.geomspace(low, high, number)]
