"""Settings of looking inside while a run trains."""

import dataclasses

from hpjax.settings.fields import AT_LEAST_1, Length, setting


@dataclasses.dataclass(frozen=True)
class InspectionSettings:
    """Settings of looking inside; None leaves one to the part that uses it."""

    inspect: tuple[str, ...] = setting(
        (),
        "what to look at inside, separated by commas: norms, histograms, noise_scale, sharpness",
        main=True,
    )
    inspect_every: Length | None = setting(None, "length between looks inside (default: eval_every)")
    inspect_examples: int | None = setting(
        None, "training examples that noise_scale and sharpness are measured on (default: 1024)", AT_LEAST_1
    )
    sharpness_iterations: int | None = setting(
        None, "Lanczos iterations: each a Hessian-vector product, and a vector kept in memory (default: 32)", AT_LEAST_1
    )
    sharpness_values: int | None = setting(None, "largest Hessian eigenvalues to log (default: 1)", AT_LEAST_1)
