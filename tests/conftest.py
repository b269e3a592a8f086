"""What every test module shares: fake devices, strict promotion, fresh random inputs, the oracle torch, quick compiling."""

import ctypes
import os
import platform
import secrets
from collections.abc import Iterator

import jax
import numpy as np
import pytest

# Before any backend starts: device layouts are tested on eight devices of one CPU.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

UNOPTIMISED = "JAX_DISABLE_MOST_OPTIMIZATIONS"
OPTIMISED = {
    f"test_{name}"
    for name in (
        *(
            "identity",
            "lanes",
            "share_batches",
            "study_engine",
            "study_mesh",
            "resume",
            "trial",
            "order",
            "processes_studies",
        ),
        *("ops", "native", "bf16", "native_blocks", "native_batch_norm", "native_training", "norms", "losses", "metrics"),
        *("schedules", "schedules_registered", "schedules_create"),
        *("schedules_plateau", "optimizers", "optimizers_conformance", "optimizers_parts", "sequence_models"),
    )
}
"""Modules whose subject a compiler's optimisations could break: bits and numerics. They are compiled as a user's programs
are; the others without most optimisations, in half the time, unless HPJAX_TEST_OPTIMISED is set."""


@pytest.fixture(autouse=True, scope="module")
def optimisations(request: pytest.FixtureRequest) -> Iterator[None]:
    """Says how JAX compiles, here and in the commands that tests start."""
    quick = request.module.__name__ not in OPTIMISED and not os.environ.get("HPJAX_TEST_OPTIMISED")
    if jax.config.read("jax_disable_most_optimizations") != quick:
        jax.config.update("jax_disable_most_optimizations", quick)
        # What a function was compiled to does not ask how.
        jax.clear_caches()
    os.environ[UNOPTIMISED] = "1" if quick else "0"
    yield
    os.environ.pop(UNOPTIMISED)


M_PERTURB = -6
"""Of glibc's malloc.h: what `mallopt` changes for malloc to fill memory with."""


@pytest.fixture
def poisoned() -> Iterator[bool]:
    """Fills memory with bytes 0xff, NaN in any float, before XLA hands it to a handler: what is not written is seen.

    Yields whether it does, which takes glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        yield False
        return
    libc = ctypes.CDLL(None)
    # Malloc fills with the low byte of 0xff ^ value, and 0 means no filling.
    libc.mallopt(M_PERTURB, 0x100)
    yield True
    libc.mallopt(M_PERTURB, 0)


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
