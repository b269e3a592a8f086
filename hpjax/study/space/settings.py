"""Which settings a study may vary, and their values from what an expression came to."""

from collections.abc import Sequence
from typing import Any, get_origin

from hpjax.config import FIELDS, PROCESSES, convert, converted, kind, optional
from hpjax.errors import ConfigError, did_you_mean
from hpjax.settings.fields import AT_LEAST_0, choices
from hpjax.study.space.source import Refused, Source

REPLICATED = ("seed", "data_seed", "fold")
"""Settings that repeat a hyperparameter setting: each of their values is run for every one."""

_SAME_DATA = "all trials of a study have the same data"
_SAME_MEASURE = "all trials of a study are measured alike"
_PLACE = "it says where or how to run, not what"
NOT_VARIED: dict[str, str] = {
    **dict.fromkeys(("dataset", "data_dir", "data_file", "text_file", "cache_dir", "task", "target", "tokens"), _SAME_DATA),
    **dict.fromkeys(("validation_fraction", "test_fraction", "folds", "cifar_labels", "bad_files"), _SAME_DATA),
    "share_batches": _SAME_DATA,
    **dict.fromkeys(("objective", "objective_value", "metrics", "eval_every", "eval_batch_size"), _SAME_MEASURE),
    **dict.fromkeys(("log_every", "checkpoint_every", "keep_newest", "keep_best", "callback"), _SAME_MEASURE),
    **dict.fromkeys(("inspect", "inspect_every", "inspect_examples"), _SAME_MEASURE),
    **dict.fromkeys(("sharpness_iterations", "sharpness_values"), _SAME_MEASURE),
    **dict.fromkeys(("dry_run", "run_dir", "resume", "overwrite", "tensorboard", "progress"), _PLACE),
    **dict.fromkeys(
        ("devices", "lane_width", "lane_devices", "parallel", "native", "shard_optimizer_state", *PROCESSES), _PLACE
    ),
}
"""Settings that cannot be varied, and why."""


def known() -> tuple[str, ...]:
    """Returns the names of the settings that may be varied."""
    return tuple(name for name in dict.fromkeys((*FIELDS, *REPLICATED)) if name not in NOT_VARIED)


def kind_of(name: str) -> Any:
    """Returns a setting's type without None."""
    return kind(name) if name in FIELDS else int


def is_number(name: str) -> bool:
    """Returns whether a setting is a number."""
    return kind_of(name) in (int, float)


def typed(name: str, value: Any) -> Any:
    """Returns a setting's value as `Config` holds it.

    Args:
      name: the setting.
      value: what an expression came to: a number, a text, true, false or None for the word none.

    Raises:
      ConfigError: it has another type or is out of the setting's domain.
    """
    if name not in FIELDS:
        return converted(name, value, int, AT_LEAST_0)
    wanted, domain = kind_of(name), FIELDS[name].metadata["domain"]
    several = get_origin(wanted) is tuple
    if value is None:
        # `none` is a value of some settings, and empties a list; else it takes the setting away.
        if several or "none" in choices(domain):
            return convert(name, "none")
        if not optional(name):
            raise ConfigError(f"{name} is none; expected {domain[1] if domain else 'a value'}")
        return None
    if is_number(name) and isinstance(value, str):
        raise ConfigError(f"{name} is '{value}'; expected a number")
    if isinstance(value, float) and wanted is not float and value.is_integer():
        value = int(value)
    return convert(name, str(value) if several and not isinstance(value, (str, tuple)) else value)


def check_name(source: Source, before: Sequence[str]) -> None:
    """Raises ConfigError if a text's setting cannot be varied, is unknown or is one of those `before`."""
    name, at = source.name, source.text.index(source.name) + 1
    if name in NOT_VARIED:
        raise source.error(Refused(at, f"'{name}' cannot be varied", f"expected the flag --{name}: {NOT_VARIED[name]}"))
    if name not in known():
        near = did_you_mean(name, known()).removeprefix("; ") or "expected a setting: --helpfull lists them"
        raise source.error(Refused(at, f"setting '{name}' is unknown", near))
    if name in before:
        raise source.error(Refused(at, f"'{name}' is varied twice", "expected one text for each setting"))
