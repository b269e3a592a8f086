"""Settings of the optimizer."""

import dataclasses
import math

from hpjax.settings.fields import AT_LEAST_1, FRACTION, NOT_NEGATIVE, POSITIVE, Domain, choice, setting

LIMIT: Domain = (lambda v: v == math.inf or POSITIVE[0](v), "a number > 0 (float32: 1.2e-38 to 3.4e38), or inf for none")
FEW: Domain = (lambda v: 1 <= v <= 30, "a whole number in [1, 30]")
DTYPES = ("float32", "bfloat16")
EXPONENT: Domain = (lambda v: -1 <= v <= 0, "a number in [-1, 0]")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Settings of the optimizer; None leaves one to the part that uses it."""

    optimizer: str = setting("momentum", "optimizer: a registered name, optax:NAME or package.module:function", main=True)
    learning_rate: float | None = setting(None, "peak learning rate (default: the optimizer's)", POSITIVE, main=True)
    lr_scaling: str = setting(
        "none",
        "how learning_rate, that of base_batch_size, grows with batch_size: linear (SGD), sqrt (Adam)",
        choice("none", "linear", "sqrt"),
    )
    base_batch_size: int | None = setting(None, "examples of the batch that learning_rate is for (default: 256)", AT_LEAST_1)
    momentum: float | None = setting(None, "momentum", FRACTION, main=True)
    nesterov: bool | None = setting(None, "muon with Nesterov's momentum")
    beta1: float | None = setting(
        None, "decay of the mean of gradients (schedule_free: share of the average; lion: of the momentum)", FRACTION
    )
    beta2: float | None = setting(None, "decay of the mean of squared gradients (lion: of the mean of gradients)", FRACTION)
    beta2_decay: float | None = setting(None, "adafactor's moments decay by 1 - t^beta2_decay", EXPONENT)
    momentum_decay: float | None = setting(None, "how fast nadam's momentum grows to beta1", NOT_NEGATIVE)
    epsilon: float | None = setting(None, "added to a denominator", POSITIVE)
    centered: bool | None = setting(None, "rmsprop by the variance of gradients")
    initial_accumulator: float | None = setting(None, "what adagrad's sums of squares start from", NOT_NEGATIVE)
    parameter_floor: float | None = setting(
        None, "least RMS of a parameter that adafactor's steps are relative to", POSITIVE
    )
    update_clip: float | None = setting(None, "largest RMS of adafactor's steps before the learning rate", LIMIT)
    trust_coefficient: float | None = setting(None, "LARS' eta", POSITIVE)
    newton_schulz_steps: int | None = setting(None, "iterations of muon's orthogonalisation", FEW)
    muon_scale: str | None = setting(
        None, "how muon's steps depend on a matrix's shape", choice("original", "match_rms_adamw")
    )
    optax_form: bool | None = setting(None, "Optax's variant of amsgrad, nadam, muon, lars or lamb")
    moment_dtype: str | None = setting(
        None,
        "what moments and momentum are kept in: float32, or bfloat16 (half the memory), rounded stochastically",
        choice(*DTYPES),
    )
    weight_decay: float | None = setting(None, "decoupled weight decay, times the learning rate", NOT_NEGATIVE, main=True)
    l1: float | None = setting(None, "L1 regularisation, times the weights' signs added to the gradient", NOT_NEGATIVE)
    l2: float | None = setting(None, "L2 regularisation, times the weights added to the gradient", NOT_NEGATIVE)
    clip_value: float | None = setting(None, "largest absolute value of a gradient's element", LIMIT)
    clip_layer_norm: float | None = setting(None, "largest norm of each parameter's gradient", LIMIT)
    clip_norm: float | None = setting(None, "largest global norm of the gradient", LIMIT)
    decay_rules: tuple[str, ...] = setting(
        (), "multipliers of decay, L1 and L2 by parameter path, the first match holds: norm|bias=0,.*=1 (default: matrices)"
    )
    learning_rate_rules: tuple[str, ...] = setting(
        (), "multipliers of the learning rate by parameter path, the first match holds: head=10,.*=1"
    )
    freeze: tuple[str, ...] = setting(
        (), "parameters that are not trained: regular expressions, found anywhere in their paths"
    )
    ema_decay: float | None = setting(
        None, "evaluate an exponential moving average of the parameters, of this decay", FRACTION
    )
    sam_rho: float | None = setting(None, "sharpness-aware minimisation: length of the step uphill", NOT_NEGATIVE)
