"""A picture of every registered schedule."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from hpjax.config import Config, convert, kind
from hpjax.registry import REQUIRED
from hpjax.resolve import lengths, resolve
from hpjax.schedules import plateau
from hpjax.schedules.curves import Curves, curves
from hpjax.schedules.draw import ACCENT, INK, curve, figure_of, save
from hpjax.schedules.registry import SCHEDULES
from hpjax.schedules.table import observe, pack
from hpjax.settings.fields import Length

STEPS, COLUMNS = 1000, 4

SETTINGS = {
    "multistep": "milestones=40%,65%,85%,gamma=0.4",
    "exponential": "gamma=0.05,decay_steps=100%",
    "inverse_time": "decay_steps=10%",
    "polynomial": "power=2",
    "cosine_restarts": "cycle_length=13%,cycle_mult=2,cycle_decay=0.8",
    "cyclic": "step_size_up=10%,cycle_mode=triangular2,momentum_low=0.6",
    "onecycle": "momentum_low=0.6",
    "step": "step_size=30%,gamma=0.4",
    "wsd": "decay_length=30%",
    "inverse_sqrt": "ramp_steps=10%",
    "noam": "ramp_steps=10%,noam_width=1",
    "plateau": "gamma=0.4,plateau_patience=4",
}
"""Settings that show what a schedule is for; one that is not here has its defaults, and lengths of 20 %."""

RISING = ("inverse_sqrt", "noam", "onecycle", "cyclic")
"""Schedules that begin below the peak: drawn without a warmup."""

FURTHER: list[tuple[str, str, dict[str, Any]]] = [
    (
        "a list of parts",
        "linear:20%, constant:30%, cosine:30%, rex",
        {"schedule": "linear(start_factor=0.1,end_factor=1):20%, constant:30%, cosine:30%, rex", "warmup": "0"},
    ),
    (
        "a learning-rate range test",
        "exponential(start_factor=1e-3,gamma=1e3,decay_steps=100%)",
        {"schedule": "exponential(start_factor=1e-3,gamma=1e3,decay_steps=100%)", "warmup": "0"},
    ),
    ("cosine warmup", "warmup=30%", {"schedule": "wsd", "warmup": "30%", "warmup_shape": "cosine"}),
    (
        "exponential warmup",
        "warmup=30%,warmup_start_factor=0.02",
        {"schedule": "wsd", "warmup": "30%", "warmup_shape": "exponential", "warmup_start_factor": 0.02},
    ),
]


def gallery(path: str) -> None:
    """Writes a picture of every registered schedule in small multiples, then of lists and warmups.

    Args:
      path: a file that ends in .png, .pdf or .svg.

    Raises:
      ConfigError: another ending, or the file cannot be written.
    """
    panels = list(_panels())
    rows = -(-len(panels) // COLUMNS)
    figure, axes = figure_of(rows, COLUMNS, (14.0, 2.5 * rows))
    for axis in axes.ravel()[len(panels) :]:
        axis.set_visible(False)
    for (name, settings, found), axis in zip(panels, axes.ravel(), strict=False):
        curve(axis, found, found.values["learning_rate"], INK)
        if "momentum" in found.values:
            axis.plot(found.steps, found.values["momentum"], color=ACCENT, linewidth=1.1, linestyle=(0, (4, 2)))
        axis.set_title(f"{name}\n", loc="left", fontsize=10, fontweight="bold")
        axis.text(0, 1.035, settings, transform=axis.transAxes, fontsize=7, color="#555555").set_in_layout(False)
        axis.set_ylim(-0.04, 1.09)
        axis.set_yticks([0, 0.5, 1])
        axis.set_xticks([0, STEPS // 2, STEPS])
        axis.tick_params(labelsize=7, labelbottom=True)
    figure.suptitle(
        f"The schedules of hpjax over {STEPS:,} steps, as factors of the peak; grey: warmup; dashed: cycled momentum\n",
        x=0.012,
        ha="left",
        fontsize=12,
    )
    save(figure, path)


def _panels() -> Iterator[tuple[str, str, Curves]]:
    """Returns title, settings and curves of each panel."""
    for name in SCHEDULES.names():
        settings = SETTINGS.get(name) or ",".join(
            f"{setting}={'20%' if kind(setting) is Length else 0.5}"
            for setting, default in SCHEDULES.settings(name).items()
            if default is REQUIRED
        )
        schedule = f"{name}({settings})" if settings else name
        config = _config(schedule=schedule, warmup="0" if name in RISING else "10%")
        found = curves(config)
        if name == "plateau":
            found.values["learning_rate"][:] *= _reductions(config, found.steps)
        # noam's own factor is tiny: its peak is put at 1.
        values = found.values["learning_rate"]
        values /= values.max()
        yield name, settings.replace(",", ", "), found
    for title, settings, changes in FURTHER:
        yield title, settings.replace(",", ", ").replace(",  ", ", "), curves(_config(**changes))


def _config(**settings: Any) -> Config:
    settings = {"train_steps": str(STEPS), "learning_rate": 1.0, "batch_size": 1, **settings}
    return Config(**{name: convert(name, value) for name, value in settings.items()})


def _reductions(config: Config, steps: np.ndarray) -> np.ndarray:
    """Returns plateau's factor at each step, for an error that falls ever more slowly and is looked at every 20 steps."""
    config = resolve(config)
    values = pack(lengths(config, STEPS)[0].schedules)
    state, reductions = plateau.init(), []
    for t in range(STEPS):
        if t % 20 == 0:
            state = observe(state, jnp.float32(max(1 - t / 300, 0.2)), False, values)  # type: ignore[arg-type]
        reductions.append(float(state.reduction))
    return np.array(reductions)[steps]
