"""Looking inside a trial, on demand: norms and histograms of its layers, its gradient noise scale, its sharpness.

While a run trains by `--inspect=norms,sharpness`; afterwards by `of_run`, or `python -m hpjax.inspection --run_dir=RUN`.
`settings` says what there is to look at; `measure` is what the lane program maps; the rest are functions of arrays.
"""

from typing import TYPE_CHECKING, Any

from hpjax.inspection.settings import INSPECTIONS as INSPECTIONS
from hpjax.inspection.settings import Inspections as Inspections
from hpjax.inspection.settings import chosen as chosen
from hpjax.inspection.settings import filled as filled

if TYPE_CHECKING:
    from hpjax.inspection.finished import of_run as of_run


def __getattr__(name: str) -> Any:
    # Loaded when first used: it needs the modules that need this one.
    if name != "of_run":
        raise AttributeError(f"module 'hpjax.inspection' has no attribute '{name}'")
    from hpjax.inspection.finished import of_run

    return of_run
