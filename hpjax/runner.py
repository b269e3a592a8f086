"""`run`: a single run from its config to its result, in a folder, resumed where it was left."""

import contextlib
import importlib.metadata
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpjax import build, devices, flags, inert, processes, resolve, result, zero
from hpjax.build import SingleRun
from hpjax.callbacks import Callbacks
from hpjax.checkpoints import Checkpoints
from hpjax.config import FIELDS, NOT_PART_OF_A_RUN, Config, check_is_config, to_text
from hpjax.data import Dataset
from hpjax.errors import ConfigError, HpjaxError, RunFolderError
from hpjax.interrupt import Interrupt
from hpjax.loop import Loop
from hpjax.ops import native
from hpjax.processes import Alone, opening
from hpjax.progress import ProgressView
from hpjax.resolve import Lengths
from hpjax.result import Result
from hpjax.runfolder import FLAGS, RunFolder

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def run(config: Config, *, leave_at_second: bool = False) -> Result:
    """Trains one trial; the same folder again goes on where it was, or returns the finished result.

    Called in each of several processes that flags or a scheduler say share the run, it returns the same in all of them.

    Args:
      config: the settings.
      leave_at_second: whether a second Ctrl-C or SIGTERM ends the process at once, as a command line's should.

    Returns:
      The result.

    Raises:
      ConfigError, DataError, RunFolderError: bad settings, data or folder; before any training starts. A disk that
        fills up later raises RunFolderError, and the last checkpoint stays good.
      KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM, after the run was saved.
    """
    check_is_config(config)
    if config.dry_run:
        raise ConfigError("dry_run is true; expected hpjax.preview.preview(config), which returns what --dry_run prints")
    with processes.joined(config) as team:
        return _run(config, team, leave_at_second)


def _run(config: Config, team: Alone, leave_at_second: bool) -> Result:
    inert.check_warmup(config)
    config = resolve.resolve(config)
    dataset = build.load(config, streams=True)
    lengths, notes = resolve.lengths(config, dataset.splits["train"][1])
    lost = devices.configure(team.neighbours)
    share = opening.share(team, config)
    micro_batch_size = config.micro_batch_size or config.batch_size
    devices.candidates(config.devices, micro_batch_size, config.eval_batch_size, config.lane_devices, share)
    scalars = resolve.traced(config, lengths)
    build.check_parts(config, dataset, scalars)
    begin = build.initial(config, dataset)
    Callbacks(config.callback)
    opening.check_alike(team, config, dataset)
    if config.run_dir is None:
        config = config.replace(run_dir=f"runs/{config.dataset}_{config.model}-{time.strftime('%Y%m%d-%H%M%S')}")
    with opening.folder(team, config, share) as (folder, config):
        if folder.resumed and result.is_finished(folder):
            part, examples = build.trial(config, dataset), build.examples(dataset)
            checkpoints = opening.checkpoints(team, folder, config)
            return result.finished(folder, config, checkpoints, lambda: build.like(part, scalars, examples), part.evaluated)
        view = ProgressView(lengths.train_steps, config.progress, silent=not team.first)
        for note in (lost, *notes, *(begin.notes if begin and not folder.resumed else ())):
            if note is not None:
                view.say(note)
        with Interrupt(leave_at_second) as interrupt:
            measures = config.devices == "auto" and team.number == 1
            view.say("compiling, and measuring how many devices are fastest" if measures else "compiling")
            single = build.single_run(config, dataset, scalars, begin, share)
            if single.feed is not None:
                view.say(single.feed.described())
                single.held_out("val", 0)
            if single.program.trial.is_shared_out:
                view.say(_shared_out(single))
            _begin(folder, single, dataset.fingerprint(), view, share.processes)
            with failure_noted(folder, team):
                return _train(folder, single, lengths, dataset, interrupt, view, team)


def _train(
    folder: RunFolder,
    single: SingleRun,
    lengths: Lengths,
    dataset: Dataset,
    interrupt: Interrupt,
    view: ProgressView,
    team: Alone,
) -> Result:
    """Trains from the newest checkpoint that is intact, or from the beginning, to the result."""
    config = single.config
    with contextlib.ExitStack() as stack:
        checkpoints = opening.checkpoints(team, folder, config)
        stack.callback(checkpoints.close)
        newest = _newest(checkpoints, view)
        state, record = (None, {}) if newest is None else checkpoints.restore(newest, single.like())
        log = opening.log(team, folder, config, record.get("sizes"))
        stack.callback(log.close)
        objective = build.objective(config)
        if single.feed is not None:
            stack.callback(single.feed.close)
        loop = Loop(single, lengths, objective, dataset.splits, log, checkpoints, team)
        if state is None:
            log.hyperparameters(_settings(config), [objective.name])
        else:
            loop.restore(state, record)
            view.say(f"resumed at step {loop.step} of {lengths.train_steps}")
        with view:
            loop.train(interrupt, view)
        if single.feed is not None:
            view.say(single.feed.rates_of_all().verdict)
        if not loop.finished:
            folder.update_metadata(status="preempted", step=loop.step)
            view.say(f"preempted at step {loop.step} of {lengths.train_steps}; the same command goes on")
            interrupt.leave()
        return result.finish(loop, folder, log)


@contextlib.contextmanager
def failure_noted(folder: RunFolder, team: Alone = processes.ALONE) -> Iterator[None]:
    """Notes in the metadata what ended the run early, in this process or in another one."""

    def note(reason: str) -> None:
        # The folder may be what failed; the error itself is what the person must see.
        with contextlib.suppress(HpjaxError, OSError):
            folder.update_metadata(status="failed", error=reason[:500])

    team.at_end(note)
    try:
        yield
    except Exception as error:
        # Where it is another process's end that made it, this one ends here, and that is noted.
        team.fail(error)
        note(str(error))
        raise
    finally:
        team.at_end(None)


def _begin(folder: RunFolder, single: SingleRun, data: str, view: ProgressView, processes: int) -> None:
    """Writes flags.txt and metadata.json, or compares what a resumed run was made with.

    Raises:
      RunFolderError: the data set has changed since the run was begun.
    """
    facts = folder.metadata()
    if folder.resumed and facts.get("data", data) != data:
        raise RunFolderError("the data set has changed since this run was begun; expected the same data or a new name")
    identity = devices.identity(int(single.config.lane_width), int(single.config.devices), single.config.native, processes)
    view.say(native.described(single.config.native, single.config.compute_dtype))
    if single.note is not None:
        view.say(single.note)
    before = facts.get("identity")
    if folder.resumed and before is not None:
        changed = list(devices.differences(before, identity))
        if changed:
            view.warn(
                f"this run was begun elsewhere ({'; '.join(changed)}): from here on its numbers may differ by rounding"
            )
    else:
        folder.write(FLAGS, flags.to_flagfile(single.config, _header(single.config)))
    folder.update_metadata(
        status="running",
        command=sys.argv,
        identity=identity,
        data=data,
        devices=[str(device) for device in single.program.mesh.devices.flat],
        versions=versions(),
        python=sys.version.split()[0],
        git_revision=git_revision(),
        seeds={"seed": single.config.seed, "data_seed": single.config.data_seed},
    )
    view.say(f"run folder: {folder.path}")


def _shared_out(single: SingleRun) -> str:
    whole = single.like().optimizer
    kept, full = (zero.bytes_of(whole, shards) / 1e6 for shards in (single.program.layout.data_devices, 1))
    return f"optimizer's state: {kept:.4g} MB on each device, {full:.4g} MB if each had all of it"


def _header(config: Config) -> list[str]:
    return [
        f"{config.model} on {config.dataset}, resolved; to repeat this run:",
        "python -m hpjax.train --flagfile=THIS_FILE --run_dir=NEW_FOLDER",
    ]


def _newest(checkpoints: Checkpoints, view: ProgressView) -> int | None:
    """Returns the tick of the newest usable checkpoint; deletes those after it, and says so."""
    tick = None
    for tick, problem in checkpoints.newest_first():
        if problem is None:
            return tick
        view.warn(f"checkpoint {tick} cannot be used: {problem}; looking for the one before it")
        checkpoints.delete(tick)
    if tick is not None:
        view.warn("no checkpoint can be used: the run starts anew")
    return None


def _settings(config: Config) -> dict[str, Any]:
    """Returns the settings as TensorBoard shows them."""
    values = {name: getattr(config, name) for name in FIELDS if name not in NOT_PART_OF_A_RUN}
    given = {name: value for name, value in values.items() if value is not None}
    # TensorBoard takes no infinity.
    numbers = {name for name, value in given.items() if isinstance(value, (int, float)) and math.isfinite(value)}
    return {name: value if name in numbers else to_text(name, value) for name, value in given.items()}


def versions() -> dict[str, str]:
    """Returns the versions of the packages that make the numbers."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def git_revision() -> str | None:
    """Returns the revision of the code, where it is a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
