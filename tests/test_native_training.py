"""Training curves with the native kernels on and off agree, up to what float32 rounding comes to in training."""

import dataclasses
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import conformance
from hpjax import build
from hpjax.batch import Examples
from hpjax.ops import native

if native.missing() is not None and not os.environ.get("HPJAX_REQUIRE_NATIVE"):
    pytest.skip(f"the native kernels are {native.missing()}", allow_module_level=True)

STEPS = 40
RUNS = {
    "mlp, adamw": {"model": "mlp", "hidden_sizes": (32, 16), "optimizer": "adamw", "learning_rate": 0.003},
    "cnn, momentum": {"model": "cnn", "optimizer": "momentum", "learning_rate": 0.02},
    "resnet, momentum": {
        "model": "resnet",
        "depth": 8,
        "channels": (5, 8, 16),
        "optimizer": "momentum",
        "learning_rate": 0.02,
    },
    "mlp, lars": {"model": "mlp", "hidden_sizes": (32,), "optimizer": "lars", "learning_rate": 1.0},
}
LOSS = 1e-6
"""Relative, of one step's loss: a chain of a few sums, each within 2e-7 in float32."""
UPDATE = 2e-5
"""Relative, L2, of one step's change of the weights: the gradient's 2e-6 (`conformance.GRADIENT_BOUND`), and the rounding of
the new weights, 2^-24 of what is a hundred times the change. Measured: 4e-6."""
DECIDED = 1e-2
"""The same of a step in which a pooling, or a relu, decided otherwise: of values that are within a rounding of each other
either may count as the larger, and the gradient goes elsewhere. Measured: 7e-4, in one step of 40."""


class Runs:
    """Trials of one config, alike but for rounding."""

    def __init__(self, **changes):
        small = {"dataset": "digits", "batch_size": 64, "micro_batch_size": 64, "train_steps": STEPS, "log_every": 1}
        plain = {} if changes["model"] == "resnet" else {"dropout_rate": 0.0}
        config = conformance.settings(**{**small, **plain, **changes})
        dataset = build.load(config)
        self.trial = dataclasses.replace(build.trial(config, dataset), data_axis=None)
        self.values = conformance.scalars(config, dataset)
        self.examples = Examples(jnp.asarray(dataset.x), jnp.asarray(dataset.y))
        self.begin = jax.jit(self.trial.init)(self.values, self.examples)

    def program(self, on):
        """Returns the function from a state to the next, compiled, and its text."""

        def tick(state, values, examples):
            with native.scope(on):
                return self.trial.tick(state, values, examples)

        return jax.jit(tick).lower(self.begin, self.values, self.examples).compile()

    def curve(self, program):
        """Returns the losses of all steps, and the states before each of them and after the last."""
        states, losses = [self.begin], []
        for _ in range(STEPS):
            states.append(program(states[-1], self.values, self.examples))
            losses.append(float(states[-1].window["loss"]))
        return np.array(losses), states


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_curves_agree_with_native_on_and_off(changes):
    """Step by step from the same states up to rounding, and the curves by themselves up to what becomes of it."""
    runs = Runs(**changes)
    off, on = runs.program(False), runs.program(True)
    called = [set(re.findall(r'custom_call_target="hpjax_(\w+)"', program.as_text())) for program in (off, on)]
    convolutions = {"conv", "conv_gradient"} if changes["model"] != "mlp" else set()
    norms = (
        {"batch_moments", "batch_norm", "batch_norm_sums", "batch_norm_gradient"} if changes["model"] == "resnet" else set()
    )
    assert called == [set(), {"matmul", "pullback", "update"} | convolutions | norms]

    curve, states = runs.curve(on)
    others = [off(state, runs.values, runs.examples) for state in states[:-1]]
    np.testing.assert_allclose([float(state.window["loss"]) for state in others], curve, rtol=LOSS)
    before, after, expected = (
        np.stack([conformance.flat(state.params) for state in which]) for which in (states[:-1], states[1:], others)
    )
    apart = np.linalg.norm(after - expected, axis=1) / np.linalg.norm(expected - before, axis=1)
    print("the steps furthest apart:", np.sort(apart)[-5:])
    assert np.sort(apart)[-5] < UPDATE and apart.max() < DECIDED

    # By themselves the curves carry every difference on. One decision that fell otherwise was seen to move a loss by 2e-3.
    alone, _ = runs.curve(off)
    print("the curves apart by", np.abs(alone - curve).max())
    assert curve[-1] < 0.8 * curve[0]
    assert np.abs(alone - curve).max() < 0.02 * (curve[0] - curve[-1])
