"""What hpjax and its peers are timed at; each function runs in a process of its own and returns a rate.

`bf16` is `--compute_dtype=bfloat16` here and bfloat16 autocast of PyTorch.
"""

import itertools
import math
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import convolutions, updates

TRIALS = 64
TRIAL_STEPS = 500
LONG = {"steps": 540, "eval_every": "20"}
SECONDS = 5.0
DTYPES = ("float32", "bfloat16")


def digits_hpjax(threads: int, bf16: bool = False) -> dict[str, float]:
    """64 lanes: a 64-128-128-10 perceptron on digits, batch 128, 500 Adam steps, cosine, random rates; trials/s."""
    import jax

    from hpjax import build, devices, resolve
    from hpjax.batch import Examples
    from hpjax.config import Config
    from hpjax.lanes import LaneProgram
    from hpjax.placement import Layout

    devices.configure()
    base = Config(optimizer="adamw", schedule="cosine", train_steps=str(TRIAL_STEPS), test_fraction=0.0)
    base = base.replace(compute_dtype=DTYPES[bf16])
    dataset = build.load(resolve.resolve(base))
    rates = np.exp(np.random.default_rng(0).uniform(np.log(1e-4), np.log(1e-1), TRIALS))
    configs = [resolve.resolve(base.replace(learning_rate=float(rate), seed=i)) for i, rate in enumerate(rates)]
    scalars = [resolve.traced(c, resolve.lengths(c, dataset.splits["train"][1])[0]) for c in configs]
    began = time.perf_counter()
    program = LaneProgram(build.trial(configs[0], dataset), Layout(lanes=TRIALS, lane_devices=jax.device_count()))
    examples, values = program.put_examples(Examples(dataset.x, dataset.y)), program.put_values(scalars)

    def study() -> np.ndarray:
        states, _ = program.chunk(program.init(values, examples), values, examples, TRIAL_STEPS)
        return np.asarray(program.evaluate(states, examples, *dataset.splits["val"])["accuracy"])

    study()
    with_compile = time.perf_counter() - began
    began = time.perf_counter()
    best = study().max()
    seconds = time.perf_counter() - began
    return {"rate": TRIALS / seconds, "rate_with_compile": TRIALS / with_compile, "best": float(best)}


def study(trials: int, **settings: Any) -> dict[str, float]:
    """A whole study of that perceptron, from its settings to its last picture, compiling included; trials/s."""
    from hpjax import Config, run_sweep

    steps = str(settings.pop("steps", TRIAL_STEPS))
    base = Config(
        optimizer="adamw", schedule="cosine", train_steps=steps, test_fraction=0.0, log_every=steps, progress=False
    ).replace(eval_every=settings.pop("eval_every", steps), compute_dtype=DTYPES[settings.pop("bf16", False)])
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        vary = {"learning_rate": "log(1e-4,1e-1)"}
        done = run_sweep(base, vary, trials=trials, sampler="random", study=f"{folder}/study", **settings)
        seconds = time.perf_counter() - began
    figures = {"rate": trials / seconds, "seconds": seconds, "best": done.best.value if done.best else math.nan}
    figures["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures | {name: done.facts[name] for name in ("occupancy", "late", "steps")}


def study_hpjax(trials: int, bf16: bool = False) -> dict[str, float]:
    """A study that trains every trial to its end; trials/s."""
    return study(trials, bf16=bf16)


def study_every(trials: int) -> dict[str, float]:
    """The same with 540 steps and 27 evaluations a trial; trials/s."""
    return study(trials, **LONG)


def study_asha(trials: int) -> dict[str, float]:
    """The same as `study_every` with ASHA's stopping rule, eta 3; trials/s."""
    return study(trials, **LONG, scheduler="asha")


def study_promotion(trials: int) -> dict[str, float]:
    """The same with ASHA's promotion rule; trials/s."""
    return study(trials, **LONG, scheduler="asha_promotion")


def study_vmap(trials: int) -> dict[str, float]:
    """The same trials by hand, jax.vmap over 32 lanes of an Optax loop, compiling included; trials/s."""
    import jax
    import jax.numpy as jnp
    import optax
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    lanes = 32
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split((pixels / 16).astype("float32"), labels, test_size=0.2, stratify=labels, random_state=0)
    train_x, val_x, train_y, val_y = map(jnp.asarray, parts)
    sizes = (64, 128, 128, 10)

    def logits(params: Any, x: jax.Array) -> jax.Array:
        for kernel, bias in params[:-1]:
            x = jax.nn.relu(x @ kernel + bias)
        return x @ params[-1][0] + params[-1][1]

    def trial(rate: jax.Array, seed: jax.Array) -> jax.Array:
        key = jax.random.key(seed)
        keys = jax.random.split(key, len(sizes))
        shapes = itertools.pairwise(sizes)
        params = [(jax.random.normal(k, (i, o)) / i**0.5, jnp.zeros(o)) for k, (i, o) in zip(keys, shapes, strict=False)]
        adam = optax.scale_by_adam()

        def step(carry: Any, number: jax.Array) -> Any:
            params, state = carry
            batch = jax.random.randint(jax.random.fold_in(key, number), (128,), 0, len(train_x))

            def loss(params: Any) -> jax.Array:
                found = logits(params, train_x[batch])
                return optax.softmax_cross_entropy_with_integer_labels(found, train_y[batch]).mean()

            updates, state = adam.update(jax.grad(loss)(params), state)
            factor = rate * 0.5 * (1.0 + jnp.cos(jnp.pi * number / TRIAL_STEPS))
            return (jax.tree.map(lambda p, u: p - factor * u, params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, adam.init(params)), jnp.arange(TRIAL_STEPS))
        return (logits(params, val_x).argmax(axis=1) == val_y).mean()

    began = time.perf_counter()
    run = jax.jit(jax.vmap(trial))
    rng, best = np.random.default_rng(0), 0.0
    for first in range(0, trials, lanes):
        rates = np.exp(rng.uniform(np.log(1e-4), np.log(1e-1), lanes)).astype(np.float32)
        best = max(best, float(run(rates, np.arange(first, first + lanes)).max()))
    return {"rate": trials / (time.perf_counter() - began), "best": best}


def digits_optuna(threads: int) -> dict[str, float]:
    """The same study with Optuna's random search over a PyTorch module, a trial at a time; trials/s."""
    import optuna
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split((pixels / 16).astype("float32"), labels, test_size=0.2, stratify=labels, random_state=0)
    train_x, val_x, train_y, val_y = map(torch.from_numpy, parts)

    def objective(trial: "optuna.Trial") -> float:
        torch.manual_seed(trial.number)
        sizes = (64, 128, 128, 10)
        layers: list[torch.nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        adam = torch.optim.Adam(model.parameters(), lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, TRIAL_STEPS)
        for _ in range(TRIAL_STEPS):
            batch = torch.randint(len(train_x), (128,))
            loss = torch.nn.functional.cross_entropy(model(train_x[batch]), train_y[batch])
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            schedule.step()
        with torch.no_grad():
            return (model(val_x).argmax(dim=1) == val_y).float().mean().item()

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=1)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        study.optimize(objective, n_trials=1)
        done += 1
    return {"rate": done / (time.perf_counter() - began), "best": study.best_value}


def cnn_hpjax(lanes: int, bf16: bool = False) -> dict[str, float]:
    """conv16-pool-conv32-pool-fc64 on 28x28, batch 64, momentum 0; trial-steps/s, see `_hpjax`."""
    settings = {"model": "cnn", "batch_size": 64, "momentum": 0.0, "learning_rate": 0.01}
    return _hpjax(lanes, _pictures(28, 1), bf16, **settings)


def cnn_torch(threads: int, bf16: bool = False) -> dict[str, float]:
    """The same network and batch as a PyTorch module in channels-last form; steps/s."""
    import torch

    from benchmarks import peers

    torch.set_num_threads(threads)
    model = peers.cnn()
    return _torch(model, *_torch_pictures(64, 28, 1), torch.optim.SGD(model.parameters(), lr=0.01), bf16)


def resnet_hpjax(lanes: int, bf16: bool = False) -> dict[str, float]:
    """ResNet-20 on 32x32 colours, batch 128, momentum 0.9; trial-steps/s, see `_hpjax`."""
    settings = {"model": "resnet", "depth": 20, "batch_size": 128, "momentum": 0.9, "learning_rate": 0.1}
    return _hpjax(lanes, _pictures(32, 3), bf16, at_once=4, **settings)


def resnet_torch(threads: int, bf16: bool = False) -> dict[str, float]:
    """The same network and batch as a PyTorch module in channels-last form; steps/s."""
    import torch

    from benchmarks import peers

    torch.set_num_threads(threads)
    model = peers.resnet20()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return _torch(model, *_torch_pictures(128, 32, 3), optimizer, bf16, at_once=4)


def transformer_hpjax(lanes: int, bf16: bool = False) -> dict[str, float]:
    """4 blocks of 128 features and 4 heads, context 64, vocabulary 65, batch 12, AdamW; trial-steps/s, see `_hpjax`."""
    from hpjax.data.dataset import create_language

    stream = np.random.default_rng(0).integers(0, 65, 100_000).astype(np.uint8)
    dataset = create_language("random", train=stream, window=64, num_classes=65)
    settings = {"model": "transformer", "batch_size": 12, "optimizer": "adamw", "learning_rate": 1e-3}
    return _hpjax(lanes, dataset, bf16, **settings)


def transformer_torch(threads: int, bf16: bool = False) -> dict[str, float]:
    """The same network and batch as a PyTorch module with its fused attention and its fused AdamW; steps/s."""
    import torch

    from benchmarks import peers

    torch.set_num_threads(threads)
    model, tokens = peers.Transformer(), torch.randint(0, 65, (12, 64))
    return _torch(model, tokens, tokens, torch.optim.AdamW(model.parameters(), fused=True), bf16)


def update_momentum_hpjax(threads: int) -> dict[str, float]:
    """SGD with momentum over ResNet-50's tensors by so many threads; steps/s."""
    return updates.hpjax_step("momentum", threads)


def update_momentum_torch(threads: int) -> dict[str, float]:
    """The same by `torch.optim.SGD(fused=True)`; steps/s."""
    return updates.torch_step("momentum", threads)


def update_adamw_hpjax(threads: int) -> dict[str, float]:
    """AdamW over the same tensors; steps/s."""
    return updates.hpjax_step("adamw", threads)


def update_adamw_bfloat16(threads: int) -> dict[str, float]:
    """The same with its moments in bfloat16; steps/s."""
    return updates.hpjax_step("adamw", threads, "bfloat16")


def update_adamw_torch(threads: int) -> dict[str, float]:
    """The same by `torch.optim.AdamW(fused=True)`; steps/s."""
    return updates.torch_step("adamw", threads)


def update_lars_hpjax(threads: int) -> dict[str, float]:
    """LARS over the same tensors; steps/s."""
    return updates.hpjax_step("lars", threads)


def update_lars_optax(_: int) -> dict[str, float]:
    """The same by `optax.lars`; steps/s."""
    return updates.optax_step("lars")


def update_lamb_hpjax(threads: int) -> dict[str, float]:
    """LAMB over the same tensors; steps/s."""
    return updates.hpjax_step("lamb", threads)


def update_lamb_optax(_: int) -> dict[str, float]:
    """The same by `optax.lamb`; steps/s."""
    return updates.optax_step("lamb")


def conv_forward_hpjax(_: int) -> dict[str, float]:
    """A 3 x 3 convolution from 16 to 32 channels with bias and relu, on one core; GF/s."""
    return convolutions.hpjax_conv("forward")


def conv_to_input_hpjax(_: int) -> dict[str, float]:
    """Its gradient with respect to the pictures; GF/s."""
    return convolutions.hpjax_conv("to_input")


def conv_to_kernel_hpjax(_: int) -> dict[str, float]:
    """Its gradients with respect to kernel and bias; GF/s."""
    return convolutions.hpjax_conv("to_kernel")


def product_numpy(_: int) -> dict[str, float]:
    """A product of two matrices of 1,024 x 1,024 by NumPy's BLAS on one core; GF/s."""
    return convolutions.numpy_product()


def product_torch(_: int) -> dict[str, float]:
    """The same by PyTorch; GF/s."""
    return convolutions.torch_product()


def _pictures(edge: int, channels: int) -> Any:
    from hpjax.data.dataset import create

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (4096, edge, edge, channels)).astype(np.uint8), rng.integers(0, 10, 4096).astype(np.int32)
    return create("random", train=(x, y), num_classes=10)


def _torch_pictures(batch: int, edge: int, channels: int) -> tuple[Any, Any]:
    import torch

    x = torch.rand(batch, channels, edge, edge).contiguous(memory_format=torch.channels_last)
    return x, torch.randint(10, (batch,))


def _hpjax(lanes: int, dataset: Any, bf16: bool, at_once: int = 20, **settings: Any) -> dict[str, float]:
    """Returns trial-steps/s of so many lanes over the devices; 0: of one run, on one device or all, whichever is faster."""
    import jax

    from hpjax import build, devices, resolve
    from hpjax.batch import Examples
    from hpjax.config import Config
    from hpjax.lanes import LaneProgram
    from hpjax.placement import Layout

    devices.configure()
    config = resolve.resolve(Config(train_steps="1000000", schedule="constant", compute_dtype=DTYPES[bf16], **settings))
    scalars = resolve.traced(config, resolve.lengths(config, dataset.splits["train"][1])[0])

    def rate(layout: Layout) -> float:
        program = LaneProgram(build.trial(config, dataset), layout)
        examples = program.put_examples(Examples(dataset.x, dataset.y))
        values = program.put_values([scalars] * layout.lanes)
        states = program.init(values, examples)

        def ticks(number: int) -> None:
            nonlocal states
            states, report = program.chunk(states, values, examples, number)
            jax.block_until_ready(report)

        return _rate(ticks, at_once) * layout.lanes

    if lanes:
        return {"rate": rate(Layout(lanes=lanes, lane_devices=min(lanes, jax.device_count())))}
    by_devices = {number: rate(Layout(data_devices=number)) for number in sorted({1, jax.device_count()})}
    return {"rate": max(by_devices.values()), **{f"{number}_devices": each for number, each in by_devices.items()}}


def _torch(model: Any, x: Any, y: Any, optimizer: Any, bf16: bool, at_once: int = 20) -> dict[str, float]:
    """Returns steps/s of a PyTorch module."""
    import torch
    from torch.nn.functional import cross_entropy

    def ticks(number: int) -> None:
        for _ in range(number):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = cross_entropy(model(x).flatten(0, -2), y.flatten())
            loss.backward()
            optimizer.step()

    return {"rate": _rate(ticks, at_once)}


def _rate(ticks: Callable[[int], None], at_once: int) -> float:
    """Returns ticks/s over about `SECONDS`, after a warm-up."""
    ticks(3)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        ticks(at_once)
        done += at_once
    return done / (time.perf_counter() - began)
