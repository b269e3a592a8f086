"""What every test module shares: fake devices, strict promotion, fresh random inputs, the oracle torch."""

import os
import secrets

import jax
import numpy as np
import pytest

# Before any backend starts: device layouts are tested on eight devices of one CPU.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

SEED_VARIABLE = "HPJAX_TEST_SEED"


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fresh seed; a failure shows the seed, and the variable HPJAX_TEST_SEED repeats it."""
    seed = int(os.environ.get(SEED_VARIABLE) or secrets.randbits(32))
    print(f"repeat these random inputs with {SEED_VARIABLE}={seed}")
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def torch():
    """PyTorch, one thread; without it the tests that ask for it skip, the others run."""
    module = pytest.importorskip("torch", reason="needs the oracle torch (pip install .[oracles])")
    module.set_num_threads(1)
    return module
