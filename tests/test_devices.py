"""How many devices a single run takes, and what belongs to its identity."""

import subprocess
import sys
import time

import jax
import pytest

from hpjax import devices
from hpjax.errors import ConfigError


def test_candidates_divide_the_batches():
    assert devices.candidates("4", 64, 512) == [4]
    assert devices.candidates("auto", 64, 512) == [1, 8]
    assert devices.candidates("auto", 12, 512) == [1, 4]
    assert devices.candidates("auto", 7, 512) == [1]


@pytest.mark.parametrize(
    ("number", "micro", "evaluation", "message"),
    [
        ("9", 64, 512, "devices is 9; expected at most the 8"),
        ("8", 12, 512, "devices is 8; expected a divisor of micro_batch_size, 12"),
        ("8", 16, 12, "devices is 8; expected a divisor of eval_batch_size, 12"),
    ],
)
def test_candidates_refuse(number, micro, evaluation, message):
    with pytest.raises(ConfigError, match=message):
        devices.candidates(number, micro, evaluation)


@pytest.mark.parametrize("slow", [1, 2])
def test_fastest_is_measured(slow):
    def runner(number):
        def ticks(count):
            time.sleep(count * (0.004 if number == slow else 0.001))
            return jax.numpy.zeros(())

        return ticks

    best, line = devices.fastest([1, 2], runner)
    assert best == 3 - slow
    assert line.startswith(f"devices: {best} (1 device ")


def test_identity_differences():
    now = devices.identity(1, 2)
    assert list(devices.differences(now, now)) == []
    assert list(devices.differences({**now, "cores": 99}, now)) == [f"cores 99 -> {now['cores']}"]
    assert list(devices.differences({**now, "gone": 1}, now)) == ["gone 1 -> None"]


STARTED_BEFORE = "import jax; jax.devices(); from hpjax import devices; print(devices.configure(), len(jax.devices()))"
STARTED_AFTER = "from hpjax import devices; print(devices.configure()); import jax; print(len(jax.devices()))"
CHOSEN = "from hpjax import devices; print(devices.configure()); import jax; print(len(jax.devices()))"


def output(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PATH": "", **environment}
    ).stdout


@pytest.mark.skipif(devices.cores() < 2, reason="needs two cores")
def test_one_device_a_core_or_a_line_that_says_what_is_lost():
    assert output(STARTED_AFTER).split() == ["None", str(devices.cores())]
    said = output(STARTED_BEFORE)
    assert "JAX was started before hpjax with 1 CPU device(s)" in said
    assert "configure_devices()" in said


def test_the_persons_own_number_of_devices_stays():
    assert output(CHOSEN, JAX_NUM_CPU_DEVICES="3").split() == ["None", "3"]
    assert output(CHOSEN, XLA_FLAGS="--xla_force_host_platform_device_count=5").split() == ["None", "5"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_ENABLE_X64": "1"}, "JAX_ENABLE_X64 is set; expected float32"),
        ({"JAX_PLATFORMS": "nonsense"}, "JAX finds no device (JAX_PLATFORMS is 'nonsense')"),
    ],
)
def test_jax_that_cannot_be_used_is_one_line(environment, message):
    command = [sys.executable, "-m", "hpjax.train", "--train_steps=2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "", **environment})
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_another_default_generator_changes_no_trial():
    code = (
        "import jax; from hpjax.data.order import example_index as f; "
        "print(f(jax.numpy.arange(9, dtype='uint32'), 300, 1).tolist())"
    )
    assert output(code, JAX_DEFAULT_PRNG_IMPL="rbg") == output(code)


@pytest.mark.parametrize(
    ("processes", "local", "number", "expected"),
    [
        (1, 8, 2, (1, 4)),
        (2, 1, 1, (2, 2)),
        (4, 4, 1, (4, 16)),
        (2, 4, 3, (2, 2)),
        (2, 4, 4, (2, 2)),
        (4, 4, 8, (2, 2)),
        (6, 5, 6, (3, 3)),
        (2, 1, 2, (1, 1)),
    ],
)
def test_lanes_take_equal_shares_of_all_processes(processes, local, number, expected):
    share = devices.Share(processes, local)
    step, most = share.lane_devices(number)
    assert (step, most) == expected
    for over in range(step, most + 1, step):
        used = over * number
        assert used % processes == 0 and used // processes <= local
        # No trial has devices of more processes than it must have.
        of = [device // (used // processes) for device in range(used)]
        spanned = {len(set(of[lane * number : (lane + 1) * number])) for lane in range(over)}
        assert spanned == {share.spanned(number)}


@pytest.mark.parametrize("number", [5, 7, 12])
def test_devices_that_processes_cannot_share_out_are_refused(number):
    with pytest.raises(ConfigError, match=f"devices is {number}; expected at most the 4 that each of 4 processes has, or a"):
        devices.Share(4, 4).lane_devices(number)
