"""A model, no measurement: what sharing a batch over 8 to 1,024 accelerators would cost at published link speeds.

The time of a sum of B bytes over p devices is 2 (p - 1) / p B / bandwidth + 2 log2(p) latency, as by halving and
doubling: within a host's eight devices at their own links' bandwidth, then among hosts, each device with its part of the
array, at the network's. No sum overlaps the backward pass, though XLA lets it: this is the least efficiency that the links
allow.

Sources: the vendors' data sheets (bandwidth in one direction; peak of dense bfloat16). Assumed: the share of the peak that a
step reaches, and the latencies.
"""

import math
from typing import NamedTuple

OF_PEAK, LATENCY_WITHIN, LATENCY_BETWEEN = 0.4, 5e-6, 20e-6
"""Share of the peak rate that forward and backward reach; seconds of one round within a host and between hosts. Assumed."""
ACCELERATORS = (8, 64, 256, 1024)
WIRE = 4
"""Bytes of a gradient's number: float32, as hpjax sums it."""


class Machine(NamedTuple):
    """Accelerators and their links.

    Attributes:
      name: what it is.
      peak: operations a second of one, dense bfloat16.
      together: accelerators that share the inner links.
      within: bytes a second of an accelerator's inner links, in one direction.
      between: likewise of its share of the network between hosts.
    """

    name: str
    peak: float
    together: int
    within: float
    between: float


class Work(NamedTuple):
    """A step of training on one accelerator: name, parameters, operations of forward and backward."""

    name: str
    parameters: float
    operations: float


MACHINES = (
    Machine("A100, NVLink 3 (300 GB/s), HDR InfiniBand (25 GB/s each)", 312e12, 8, 300e9, 25e9),
    Machine("H100, NVLink 4 (450 GB/s), NDR InfiniBand (50 GB/s each)", 989e12, 8, 450e9, 50e9),
    Machine("A100, NVLink 3, hosts of 8 on 100-gigabit Ethernet (1.6 GB/s each)", 312e12, 8, 300e9, 12.5e9 / 8),
    Machine("TPU v4, torus (300 GB/s)", 275e12, 4096, 300e9, 300e9),
)
WORKS = (
    # 4.1e9 multiplications and additions forward a picture of 224 x 224; backward twice that.
    Work("ResNet-50, 128 pictures each", 25.6e6, 128 * 3 * 2 * 4.1e9),
    Work("transformer of 1e9 parameters, 8,192 tokens each", 1e9, 8192 * 6 * 1e9),
)


def seconds_of_sum(machine: Machine, devices: int, size: float) -> float:
    """Returns the modelled seconds of a sum of so many bytes over so many devices."""
    inner = min(devices, machine.together)
    outer = devices // inner
    within = 2 * (inner - 1) / inner * size / machine.within + 2 * math.log2(inner) * LATENCY_WITHIN
    between = 2 * (outer - 1) / outer * size / inner / machine.between + 2 * math.log2(outer) * LATENCY_BETWEEN
    return within + (between if outer > 1 else 0.0)


def efficiency(machine: Machine, work: Work, devices: int) -> float:
    """Returns the modelled share of an accelerator's rate alone that it keeps among so many."""
    step = work.operations / (OF_PEAK * machine.peak)
    return step / (step + seconds_of_sum(machine, devices, work.parameters * WIRE))


def table() -> str:
    """Returns the efficiencies as Markdown."""
    lines = [f"| a model | step alone | {' | '.join(map(str, ACCELERATORS))} |", "| --- " * (len(ACCELERATORS) + 2) + "|"]
    for work in WORKS:
        for machine in MACHINES:
            shares = " | ".join(f"{efficiency(machine, work, devices):.2f}" for devices in ACCELERATORS)
            step = 1e3 * work.operations / (OF_PEAK * machine.peak)
            lines.append(f"| {work.name}: {machine.name} | {step:.3g} ms | {shares} |")
    return "\n".join(lines)
