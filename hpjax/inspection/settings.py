"""What may be looked at, and the settings that each takes."""

import dataclasses
from typing import Any

from hpjax.config import Config
from hpjax.errors import ConfigError, unknown

DEFAULTS = {"inspect_examples": 1024, "sharpness_iterations": 32, "sharpness_values": 1}

INSPECTIONS: dict[str, tuple[str, ...]] = {
    "norms": (),
    "histograms": (),
    "noise_scale": ("inspect_examples",),
    "sharpness": ("inspect_examples", "sharpness_iterations", "sharpness_values"),
}
"""Each with the settings that it uses."""


@dataclasses.dataclass(frozen=True)
class Inspections:
    """What is asked for: the static part of looking inside.

    Attributes:
      names: names in `INSPECTIONS`.
      examples: training examples for the noise scale and the Hessian.
      iterations: of Lanczos.
      values: eigenvalues.
    """

    names: tuple[str, ...]
    examples: int = DEFAULTS["inspect_examples"]
    iterations: int = DEFAULTS["sharpness_iterations"]
    values: int = DEFAULTS["sharpness_values"]


def filled(config: Config) -> dict[str, Any]:
    """Returns what looking inside leaves open in a config, filled in.

    Raises:
      ConfigError: an unknown name, a setting that nothing asked for uses, or more eigenvalues than iterations.
    """
    for name in config.inspect:
        if name not in INSPECTIONS:
            raise unknown("inspect", name, INSPECTIONS)
    used = {setting for name in config.inspect for setting in INSPECTIONS[name]}
    if config.inspect:
        used.add("inspect_every")
    asked = ",".join(config.inspect) or "none"
    for setting in ("inspect_every", *DEFAULTS):
        if getattr(config, setting) is not None and setting not in used:
            raise ConfigError(
                f"{setting} is not used by inspect '{asked}'; settings it uses: {', '.join(sorted(used)) or 'none'}"
            )
    result = {s: d if getattr(config, s) is None else getattr(config, s) for s, d in DEFAULTS.items() if s in used}
    if config.inspect:
        result["inspect_every"] = config.inspect_every or config.eval_every
    if "sharpness_values" in result and result["sharpness_values"] > result["sharpness_iterations"]:
        raise ConfigError(
            f"sharpness_values is {result['sharpness_values']}; expected at most sharpness_iterations, "
            f"{result['sharpness_iterations']}"
        )
    return result


def chosen(config: Config) -> Inspections:
    """Returns the static part of a config's looking inside; what is left open has its default."""
    values = [default if getattr(config, name) is None else getattr(config, name) for name, default in DEFAULTS.items()]
    return Inspections(config.inspect, *values)
