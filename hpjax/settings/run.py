"""Settings of evaluation, logs, checkpoints, devices, folder and screen."""

import dataclasses

from hpjax.settings.fields import AT_LEAST_1, NOT_NEGATIVE, Length, choice, counted, setting


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Settings of evaluation, logs, checkpoints, devices, folder and screen; None leaves one to the part that uses it."""

    objective: str | None = setting(
        None, "split/metric:max or :min that 'best' means (default: val/accuracy:max or val/loss:min)", main=True
    )
    objective_value: str = setting(
        "best", "value over the run: best, last, or smoothed (mean of the last 5)", choice("best", "last", "smoothed")
    )
    eval_every: Length = setting(Length("1epochs"), "length between evaluations", main=True)
    eval_batch_size: int = setting(512, "examples an evaluation batch", AT_LEAST_1)
    log_every: Length = setting(Length("50"), "length between log points", main=True)
    checkpoint_every: Length | None = setting(None, "length between checkpoints (default: eval_every)", main=True)
    keep_newest: int = setting(2, "checkpoints to resume from that are kept", AT_LEAST_1)
    keep_best: int = setting(
        1, "checkpoints with the best objective that are kept; of a study, trials whose parameters are", AT_LEAST_1
    )
    early_stopping_patience: int | None = setting(
        None, "evaluations without improvement after which the run stops (default: never)", AT_LEAST_1
    )
    early_stopping_min_delta: float = setting(0.0, "by how much the objective must improve to count", NOT_NEGATIVE)
    early_stopping_min_steps: Length = setting(Length("0"), "length before which early stopping does not stop")
    callback: tuple[str, ...] = setting((), "functions shown each log point: package.module:name, separated by commas")

    devices: str = setting("auto", "devices that share a batch: auto or a number", counted("auto"), main=True)
    shard_optimizer_state: bool = setting(
        False, "devices that share a batch share the optimizer's state out too, instead of each having all of it (ZeRO-1)"
    )
    lane_width: str = setting(
        "auto",
        "lanes that run together under vmap: a number, or auto (1 on a CPU and in a single run, else a study measures it)",
        counted("auto"),
    )
    lane_devices: int = setting(
        1,
        "devices that lanes are spread over; a single run trains on the first, as the study did that it repeats",
        AT_LEAST_1,
    )
    parallel: str = setting(
        "shard_map", "what maps the devices: shard_map or pmap (same bits)", choice("shard_map", "pmap"), main=True
    )
    native: str = setting(
        "auto", "native kernels on a CPU: auto (where they are built), on or off", choice("auto", "on", "off")
    )

    dry_run: bool = setting(
        False, "only say what the run would be: mesh, shapes, memory, lengths, time; nothing is written", main=True
    )
    run_dir: str | None = setting(None, "the run's folder (default: runs/DATASET_MODEL-TIME)", main=True)
    resume: bool = setting(True, "go on in a folder that holds this run; false refuses such a folder", main=True)
    overwrite: bool = setting(False, "start anew in a folder that holds a run, deleting it", main=True)
    tensorboard: bool = setting(True, "write TensorBoard events")
    progress: bool = setting(True, "show progress")
