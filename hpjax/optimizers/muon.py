"""Muon: orthogonalised momentum for matrices, Adam for the rest."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from hpjax.optimizers.registry import OPTIMIZERS
from hpjax.registry import Scalar

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that Newton-Schulz iterates: steepest at 0, singular values end in about 0.7 to 1.2."""
LEAST_NORM = 1e-7


class MuonState(NamedTuple):
    """Means of gradients."""

    mean: Any


@OPTIMIZERS.register
def muon(
    learning_rate: Scalar = 1e-3,
    *,
    momentum: Scalar = 0.95,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    epsilon: Scalar = 1e-8,
    nesterov: bool = True,
    newton_schulz_steps: int = 5,
    muon_scale: str = "original",
    optax_form: bool = False,
) -> optax.GradientTransformation:
    """Muon: `m = momentum m + (1 - momentum) g; w = w - learning_rate scale orthogonalised(m)` for matrices.

    Kernels are [..., inputs, outputs], as in Flax; those of convolutions count as matrices [inputs, outputs], the other axes
    part of the inputs. torch's weights are the other way round, [outputs, inputs]: transpose them to compare. Parameters of
    fewer than 2 dimensions take Adam with the same learning rate. Computed in the parameters' dtype; torch: in bfloat16.

    Args:
      learning_rate: scalar of this update.
      momentum: scalar in [0, 1).
      beta1: scalar in [0, 1), Adam's decay of the mean of gradients.
      beta2: scalar in [0, 1), Adam's decay of the mean of squared gradients.
      epsilon: scalar >= 0, Adam's, added outside the square root.
      nesterov: whether `momentum m + (1 - momentum) g` is orthogonalised in place of m.
      newton_schulz_steps: iterations of the orthogonalisation, >= 1.
      muon_scale: original, `sqrt(max(1, outputs / inputs))`, or match_rms_adamw, `0.2 sqrt(max(outputs, inputs))`, which
        gives steps as large as AdamW's.
      optax_form: `optax.contrib.muon`, which corrects the mean's bias and takes Adam for all but 2 dimensions.

    Returns:
      The transformation; its state is one mean a matrix, and Adam's for the rest.

    Source: Jordan et al., Muon (2024), as in torch.optim.Muon; match_rms_adamw: Liu et al., Muon is Scalable (2025).
    """
    if optax_form:
        return contrib.muon(
            learning_rate,  # type: ignore[arg-type]
            ns_steps=newton_schulz_steps,
            beta=momentum,
            eps=epsilon,
            nesterov=nesterov,
            adam_b1=beta1,
            adam_b2=beta2,
            consistent_rms=0.2 if muon_scale == "match_rms_adamw" else None,
        )

    def init(params: Any) -> MuonState:
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Any, state: MuonState, params: Any = None) -> tuple[Any, MuonState]:
        mix = lambda m, g: momentum * m + (1 - momentum) * g  # noqa: E731
        mean = jax.tree.map(mix, state.mean, gradients)
        ahead = jax.tree.map(mix, mean, gradients) if nesterov else mean

        def step(m: jax.Array) -> jax.Array:
            matrix = m.reshape(-1, m.shape[-1])
            size = scale(matrix.shape[0], matrix.shape[1], muon_scale)
            return jnp.multiply(learning_rate, -size * orthogonalised(matrix, newton_schulz_steps)).reshape(m.shape)

        return jax.tree.map(step, ahead), MuonState(mean)

    adam = optax.chain(optax.scale_by_adam(beta1, beta2, epsilon), optax.scale_by_learning_rate(learning_rate))
    labels = lambda tree: jax.tree.map(lambda leaf: "matrix" if leaf.ndim > 1 else "other", tree)  # noqa: E731
    return optax.partition({"matrix": optax.GradientTransformation(init, update), "other": adam}, labels)


def orthogonalised(matrix: jax.Array, steps: int) -> jax.Array:
    """Returns a matrix of the same singular vectors whose singular values are all near 1.

    Args:
      matrix: [rows, columns].
      steps: Newton-Schulz iterations.
    """
    a, b, c = COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / jnp.maximum(jnp.linalg.norm(x.ravel()), LEAST_NORM)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


def scale(inputs: int, outputs: int, kind: str) -> float:
    """Returns what an orthogonalised step of a kernel [inputs, outputs] is multiplied by; `kind` as in `muon`."""
    return math.sqrt(max(1, outputs / inputs)) if kind == "original" else 0.2 * math.sqrt(max(outputs, inputs))
