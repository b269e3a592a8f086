"""What hpjax and its peers are timed at; each function runs in a process of its own and returns a rate."""

import itertools
import time
from collections.abc import Callable

import numpy as np

TRIALS = 64
TRIAL_STEPS = 500
SECONDS = 5.0


def digits_hpjax(threads: int) -> dict[str, float]:
    """64 lanes: a 64-128-128-10 perceptron on digits, batch 128, 500 Adam steps, cosine, random rates; trials/s."""
    import jax

    from hpjax import build, devices, resolve
    from hpjax.config import Config
    from hpjax.lanes import LaneProgram, Layout
    from hpjax.trial import Examples

    devices.configure()
    base = Config(optimizer="adamw", schedule="cosine", train_steps=str(TRIAL_STEPS), test_fraction=0.0)
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


def cnn_hpjax(lanes: int) -> dict[str, float]:
    """conv16-pool-conv32-pool-fc64 on 28x28, batch 64, momentum 0: one run (0) or so many lanes; trial-steps/s."""
    import jax

    from hpjax import build, devices, resolve
    from hpjax.config import Config
    from hpjax.data.dataset import create
    from hpjax.lanes import LaneProgram, Layout
    from hpjax.trial import Examples

    devices.configure()
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (4096, 28, 28, 1)).astype(np.uint8), rng.integers(0, 10, 4096).astype(np.int32)
    dataset = create("random", train=(x, y), num_classes=10)
    config = resolve.resolve(
        Config(model="cnn", batch_size=64, momentum=0.0, train_steps="1000000", schedule="constant", learning_rate=0.01)
    )
    scalars = resolve.traced(config, resolve.lengths(config, len(x))[0])

    def rate(layout: Layout) -> float:
        program = LaneProgram(build.trial(config, dataset), layout)
        examples = program.put_examples(Examples(dataset.x, dataset.y))
        values = program.put_values([scalars] * layout.lanes)
        states = program.init(values, examples)

        def ticks(number: int) -> None:
            nonlocal states
            states, report = program.chunk(states, values, examples, number)
            jax.block_until_ready(report)

        return _rate(ticks) * layout.lanes

    if lanes:
        return {"rate": rate(Layout(lanes=lanes, lane_devices=min(lanes, jax.device_count())))}
    return {"rate": max(rate(Layout(data_devices=number)) for number in {1, jax.device_count()})}


def cnn_torch(threads: int) -> dict[str, float]:
    """The same network and batch as a PyTorch module in channels-last form; steps/s."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)

    def block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(inputs, outputs, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2)

    layers = (*block(1, 16), *block(16, 32), nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10))
    model = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.rand(64, 1, 28, 28).to(memory_format=torch.channels_last)
    y = torch.randint(10, (64,))

    def ticks(number: int) -> None:
        for _ in range(number):
            sgd.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(x), y).backward()
            sgd.step()

    return {"rate": _rate(ticks)}


def _rate(ticks: Callable[[int], None]) -> float:
    """Returns ticks/s over about `SECONDS`, after a warm-up."""
    ticks(3)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        ticks(20)
        done += 20
    return done / (time.perf_counter() - began)
