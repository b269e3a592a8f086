"""The logs, as TensorBoard and a JSON reader see them, and as a resumed run finds them."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing import data_provider, event_accumulator, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups, metadata

import hpjax
import whole_runs as runs
from hpjax.errors import RunFolderError
from hpjax.logs import RunLog
from hpjax.runfolder import METRICS, RunFolder

NAMES = {
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "test/loss",
    "test/accuracy",
    "optimizer/learning_rate",
    "norm/gradient",
    "norm/parameters",
    "norm/update",
    "speed/examples_per_second",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "finished"
    hpjax.run(runs.config(folder, learning_rate=0.05, schedule="cosine", warmup="10%"))
    return folder


def points(folder: Path) -> list[tuple[str, int, float | None]]:
    """Name, step and value of everything in metrics.jsonl."""
    parsed = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(name, line["step"], value) for line in parsed for name, value in line.items() if name != "step"]


def test_metrics_jsonl_has_what_the_run_came_to(finished: Path) -> None:
    found = points(finished)
    assert {name for name, _, _ in found} == NAMES
    steps = {name: [step for n, step, _ in found if n == name] for name in NAMES}
    for name in NAMES:
        expected = {"val": [10, 20, 30, 40], "test": [40]}.get(name.split("/")[0], [5, 10, 15, 20, 25, 30, 35, 40])
        assert steps[name] == expected, name
    assert len(found) == len({(name, step) for name, step, _ in found}), "no value is written twice"
    assert RunFolder(finished, None).history() == [
        json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()
    ]


def test_tensorboard_reads_the_same_names_steps_and_values(finished: Path) -> None:
    accumulator = event_accumulator.EventAccumulator(str(finished / "tb"), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    # This is the reader behind TensorBoard's pages; it keeps scalars as tensors of float32.
    found = [
        (tag, event.step, float(event.tensor_proto.float_val[0]))
        for tag in accumulator.Tags()["tensors"]
        for event in accumulator.Tensors(tag)
    ]
    found += [(tag, e.step, e.value) for tag in accumulator.Tags()["scalars"] for e in accumulator.Scalars(tag)]
    assert {tag for tag, _, _ in found} == NAMES
    expected = points(finished)
    assert sorted((tag, step) for tag, step, _ in found) == sorted((name, step) for name, step, _ in expected)
    values = {(name, step): value for name, step, value in expected}
    for tag, step, value in found:
        # A float32, written in full in both; the speed alone is a float64.
        assert value == pytest.approx(values[tag, step], rel=6e-8 if tag.startswith("speed/") else 0), (tag, step)


def test_tensorboard_can_be_turned_off(tmp_path: Path) -> None:
    hpjax.run(runs.config(tmp_path / "run", tensorboard=False))
    assert not (tmp_path / "run" / "tb").exists()
    assert {name for name, _, _ in points(tmp_path / "run")} == NAMES


# HParams.


def test_hparams_are_read_back_by_tensorboards_parser(finished: Path) -> None:
    accumulator = event_accumulator.EventAccumulator(str(finished / "tb"))
    accumulator.Reload()
    contents = accumulator.PluginTagToContent("hparams")
    experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG])
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    assert [info.name.tag for info in experiment.metric_infos] == ["val/accuracy"]
    assert {info.name for info in experiment.hparam_infos} == set(start.hparams)
    assert start.hparams["learning_rate"].number_value == 0.05
    assert start.hparams["batch_size"].number_value == 64
    assert start.hparams["hidden_sizes"].string_value == "16"
    assert start.hparams["schedule"].string_value == "cosine"
    assert start.hparams["tensorboard"].bool_value is True
    assert "run_dir" not in start.hparams


def test_tensorboards_hparams_page_shows_runs_with_settings_and_objective(tmp_path: Path, finished: Path) -> None:
    (tmp_path / "a").symlink_to(finished)
    hpjax.run(runs.config(tmp_path / "b", learning_rate=0.3))
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(tmp_path))
    multiplexer.AddRun(str(finished / "tb"), "a/tb")
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(tmp_path))
    context, request_context = backend_context.Context(FakeContext(provider)), RequestContext()
    limit = 100
    experiment = get_experiment.Handler(
        request_context, context, "", api_pb2.GetExperimentRequest(hparams_limit=limit)
    ).run()
    assert "learning_rate" in {info.name for info in experiment.hparam_infos}
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_RUNNING],
    )
    for info in experiment.metric_infos:
        request.col_params.add(metric=info.name)
    groups = list_session_groups.Handler(request_context, context, "", request).run().session_groups
    shown = {}
    for group in groups:
        (value,) = [v.value for v in group.metric_values if v.name.tag == "val/accuracy"]
        shown[group.hparams["learning_rate"].number_value] = value
    last = {
        rate: [v for n, _, v in points(folder) if n == "val/accuracy"][-1]
        for rate, folder in ((0.05, finished), (0.3, tmp_path / "b"))
    }
    assert shown == last


class FakeContext:
    """As much of TensorBoard's context as the HParams page asks for."""

    def __init__(self, provider: Any):
        self.data_provider = provider
        self.multiplexer = None
        self.flags = None


# NaN, sizes, torn ends.


def open_log(folder: Path, sizes: dict[str, int] | None = None) -> RunLog:
    folder.mkdir(exist_ok=True)
    return RunLog(folder, tensorboard=True, sizes=sizes)


def test_values_that_are_not_finite_are_null_in_json_and_themselves_in_tensorboard(tmp_path: Path) -> None:
    log = open_log(tmp_path / "run")
    log.write(1, **{"train/loss": math.nan, "norm/gradient": math.inf, "train/accuracy": 0.5})
    log.close()
    text = (tmp_path / "run" / "metrics.jsonl").read_text()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    line = json.loads(text, parse_constant=refuse)
    assert line == {"step": 1, "train/loss": None, "norm/gradient": None, "train/accuracy": 0.5}
    found = {tag: value for tag, _, value in runs.scalars(tmp_path / "run")}
    assert math.isnan(found["train/loss"])
    assert found["norm/gradient"] == math.inf
    assert found["train/accuracy"] == 0.5


def test_a_line_is_readable_as_soon_as_it_is_written(tmp_path: Path) -> None:
    log = open_log(tmp_path / "run")
    for step in (1, 2, 3):
        log.write(step, **{"train/loss": 1.0 / step})
        assert [point["step"] for point in RunFolder(tmp_path / "run", None).history()] == list(range(1, step + 1))
        assert [s for _, s, _ in runs.scalars(tmp_path / "run")] == list(range(1, step + 1))
    log.close()


@pytest.mark.parametrize("torn", [b"", b'{"step": 4, "train/lo', b'{"step": 4, "train/loss": 0.1}\n{"step', b"\x00" * 40])
def test_a_resumed_log_is_cut_back_to_the_checkpoint(tmp_path: Path, torn: bytes) -> None:
    log = open_log(tmp_path / "run")
    log.hyperparameters({"learning_rate": 0.1}, ["val/accuracy"])
    log.write(1, **{"train/loss": 1.0})
    log.write(2, **{"train/loss": 0.5})
    sizes = log.sizes()
    for name, size in sizes.items():
        assert (tmp_path / "run" / name).stat().st_size == size
    log.write(3, **{"train/loss": 0.25})
    log.close()
    for path in (tmp_path / "run" / name for name in sizes):
        with path.open("ab") as file:
            file.write(torn)

    log = open_log(tmp_path / "run", sizes)
    assert log.sizes() == sizes
    log.write(3, **{"train/loss": 0.75})
    log.close()
    assert runs.lines(tmp_path / "run") == [{"step": s, "train/loss": v} for s, v in ((1, 1.0), (2, 0.5), (3, 0.75))]
    assert runs.scalars(tmp_path / "run") == [("train/loss", 1, 1.0), ("train/loss", 2, 0.5), ("train/loss", 3, 0.75)]
    assert len(list((tmp_path / "run" / "tb").iterdir())) == 1


def test_without_a_checkpoint_the_log_begins_anew(tmp_path: Path) -> None:
    log = open_log(tmp_path / "run")
    log.write(1, **{"train/loss": 1.0})
    log.close()
    log = open_log(tmp_path / "run")
    log.write(1, **{"train/loss": 2.0})
    log.close()
    assert runs.lines(tmp_path / "run") == [{"step": 1, "train/loss": 2.0}]
    assert runs.scalars(tmp_path / "run") == [("train/loss", 1, 2.0)]


@pytest.mark.parametrize("lost", ["deleted", "shortened"])
def test_a_log_that_lost_lines_is_refused(tmp_path: Path, lost: str) -> None:
    """Cut back, it would be filled with zeros; begun anew, it would lack its beginning. Events are only a copy of it."""
    log = open_log(tmp_path / "run")
    log.write(1, **{"train/loss": 1.0})
    sizes = log.sizes()
    log.close()
    for name in sizes:
        path = tmp_path / "run" / name
        before = path.read_bytes()
        if lost == "deleted":
            path.unlink()
        else:
            path.write_bytes(before[:-3])
        if name == METRICS:
            with pytest.raises(RunFolderError, match=f"{path.name}' is shorter than the run left it; expected --overwrite"):
                open_log(tmp_path / "run", sizes)
            path.write_bytes(before)
        else:
            open_log(tmp_path / "run", sizes).close()
            assert runs.scalars(tmp_path / "run") == []
    assert runs.lines(tmp_path / "run") == [{"step": 1, "train/loss": 1.0}]


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = open_log(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(RunFolderError, match=r"^cannot write to '.*run': the disk is full$"):
        patch.setattr(os, "fsync", full)
        log.sizes()
    log.close()
