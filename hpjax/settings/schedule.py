"""Settings of schedules."""

import dataclasses

from hpjax.settings.fields import AT_LEAST_0, AT_LEAST_1, NOT_NEGATIVE, POSITIVE, SHARE, Length, choice, setting


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """Settings of schedules; None leaves one to the part that uses it."""

    schedule: str = setting(
        "constant", "learning-rate schedule: a name, name(setting=value) or name(...):LENGTH, ...", main=True
    )
    warmup: Length = setting(Length("0"), "length of the learning rate's warmup, part of the run", main=True)
    warmup_shape: str = setting("linear", "how warmup rises", choice("linear", "cosine", "exponential"))
    warmup_start_factor: float = setting(0.0, "where warmup starts, as a factor of the peak", NOT_NEGATIVE)
    schedule_steps: Length | None = setting(
        None, "length of run that warmup and schedules were written for (default: this run's)"
    )
    rescale_schedule: bool = setting(True, "stretch warmup and schedules where schedule_steps is not this run's length")
    weight_decay_schedule: str | None = setting(None, "schedule of the weight decay, as --schedule (default: constant)")
    momentum_schedule: str | None = setting(None, "schedule of the momentum or beta1, as --schedule (default: constant)")
    batch_size_schedule: str | None = setting(None, "schedule of the batch size, as --schedule (default: constant)")
    momentum_low: float | None = setting(
        None, "lowest momentum or beta1, at the peak learning rate of a cycle (default: not cycled)", SHARE
    )
    start_factor: float | None = setting(None, "where a schedule starts, as a factor of the peak", NOT_NEGATIVE)
    end_factor: float | None = setting(None, "where a schedule ends, as a factor of the peak", NOT_NEGATIVE)
    min_factor: float | None = setting(None, "the lowest that plateau goes, as a factor of the peak", NOT_NEGATIVE)
    max_factor: float | None = setting(None, "the highest that plateau goes where gamma is above 1, likewise", POSITIVE)
    gamma: float | None = setting(None, "what a drop, or decay_steps of exponential, multiplies by", POSITIVE)
    step_size: Length | None = setting(None, "length between two drops of the step schedule")
    milestones: tuple[Length, ...] | None = setting(None, "when the multistep schedule drops: 30%,60%,80%")
    decay_steps: Length | None = setting(None, "length that gamma (exponential) or decay_rate (inverse_time) is for")
    decay_rate: float | None = setting(None, "rate of the inverse_time schedule", NOT_NEGATIVE)
    staircase: bool | None = setting(None, "whether exponential and inverse_time fall in steps of decay_steps")
    power: float | None = setting(None, "power of the polynomial schedule", POSITIVE)
    rex_beta: float | None = setting(None, "rex falls late for a small one, linearly for 1", POSITIVE)
    decay_length: Length | None = setting(None, "length of wsd's last part, in which it falls (default: a fifth)")
    decay_shape: str | None = setting(None, "how wsd falls: sqrt is 1 - sqrt(x)", choice("linear", "sqrt", "cosine"))
    ramp_steps: Length | None = setting(None, "length over which inverse_sqrt and noam rise")
    noam_width: int | None = setting(None, "noam's d_model, the width of the model", AT_LEAST_1)
    cycle_length: Length | None = setting(None, "length of the first cycle of cosine_restarts")
    cycle_mult: int | None = setting(None, "how much longer each cycle of cosine_restarts is", AT_LEAST_1)
    cycle_decay: float | None = setting(None, "how much lower each cycle of cosine_restarts starts", POSITIVE)
    step_size_up: Length | None = setting(None, "length of a rise of the cyclic schedule")
    step_size_down: Length | None = setting(None, "length of a fall of the cyclic schedule (default: step_size_up)")
    cycle_mode: str | None = setting(None, "how cyclic's height changes", choice("triangular", "triangular2", "exp_range"))
    pct_start: float | None = setting(None, "share of onecycle in which it rises", SHARE)
    div_factor: float | None = setting(None, "onecycle starts at 1 / div_factor", POSITIVE)
    final_div_factor: float | None = setting(None, "onecycle ends at its start / final_div_factor", POSITIVE)
    three_phase: bool | None = setting(None, "whether onecycle falls to its start before it falls to its end")
    anneal: str | None = setting(None, "how onecycle rises and falls", choice("cosine", "linear"))
    plateau_patience: int | None = setting(None, "evaluations without a better metric that plateau bears", AT_LEAST_0)
    plateau_threshold: float | None = setting(None, "by how much a metric must be better for plateau", NOT_NEGATIVE)
    plateau_threshold_mode: str | None = setting(
        None, "whether plateau_threshold is a share of the best metric", choice("relative", "absolute")
    )
    plateau_cooldown: int | None = setting(None, "evaluations after a drop that plateau does not count", AT_LEAST_0)
    plateau_epsilon: float | None = setting(None, "smallest drop that plateau makes, as a factor of the peak", NOT_NEGATIVE)
