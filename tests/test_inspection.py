"""The mathematics of looking inside, against float64 NumPy, SciPy, dense Hessians and TensorBoard's own histograms."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg
from flax import linen as nn
from tensorboardX.summary import make_histogram

from hpjax.inspection.histograms import LIMITS, Histogram, histogram, proto
from hpjax.inspection.lanczos import hessian_product, lanczos
from hpjax.inspection.layers import activations, by_path, norms
from hpjax.inspection.noise import noise_scale, two_sizes
from hpjax.models.dropout import Dropout


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def test_norms_are_numpys(rng: np.random.Generator) -> None:
    x = rng.normal(size=(7, 30)) * (rng.random((7, 30)) > 0.3)
    found = jax.jit(norms)(jnp.asarray(x, jnp.float32))
    expected = (np.linalg.norm(x), np.sqrt(np.mean(x**2)), np.abs(x).max(), np.mean(x == 0))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_norms_of_narrow_floats_are_taken_in_float32() -> None:
    found = norms(jnp.full(4096, 300.0, jnp.float16))
    assert found.norm.dtype == jnp.float32
    np.testing.assert_allclose(found.norm, 300 * 64)


def test_paths_are_those_of_parameters() -> None:
    tree = {"Dense_0": {"kernel": jnp.ones(2), "bias": jnp.ones(1)}, "scale": jnp.ones(3), "empty": jnp.ones((0, 2))}
    assert {path: leaf.shape for path, leaf in by_path(tree).items()} == {
        "Dense_0/kernel": (2,),
        "Dense_0/bias": (1,),
        "scale": (3,),
    }


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return nn.Dense(3, name="dense")(x), x * 2.0


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, training: Any = None) -> jax.Array:
        inner = Inner(name="inner")
        y, twice = inner(x)
        y = nn.relu(Dropout(name="dropout")(y, training))
        return y.sum(axis=1, keepdims=True) + twice + inner(x * 0.5)[1]


def test_activations_of_every_module_by_its_path(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)
    variables = Outer().init(jax.random.key(0), x)
    found = activations(Outer(), variables, x)
    assert found.keys() == {"output", "inner/dense/0", "inner/dense/1", *(f"inner/{i}" for i in range(4))}
    dense = variables["params"]["inner"]["dense"]
    np.testing.assert_allclose(found["inner/dense/0"], x @ dense["kernel"] + dense["bias"].reshape(1, -1), rtol=1e-5)
    np.testing.assert_array_equal(found["inner/1"], 2.0 * x)
    np.testing.assert_array_equal(found["output"], Outer().apply(variables, x))


def numpys(found: Histogram) -> Histogram:
    return Histogram(*map(np.asarray, found))


def test_histogram_counts_as_numpy_and_tensorboardx_do(rng: np.random.Generator) -> None:
    x = (rng.normal(size=5000) * 10.0 ** rng.uniform(-9, 3, 5000)).astype(np.float32)
    x[:40] = 0.0
    found = numpys(jax.jit(histogram)(x.reshape(50, 100)))
    limits = LIMITS.astype(np.float32)
    expected, _ = np.histogram(x, np.concatenate([[-np.inf], limits.astype(np.float64)]))
    np.testing.assert_array_equal(found.counts, expected)
    theirs, ours = make_histogram(x.astype(np.float64), limits.astype(np.float64)), proto(found)
    assert list(ours.bucket) == list(theirs.bucket)
    np.testing.assert_allclose(list(ours.bucket_limit), list(theirs.bucket_limit), rtol=1e-7)
    assert (ours.num, ours.min, ours.max) == (theirs.num, theirs.min, theirs.max)
    np.testing.assert_allclose([ours.sum, ours.sum_squares], [x.sum(dtype=float), (x.astype(float) ** 2).sum()], rtol=1e-4)


def test_histogram_of_what_is_not_finite_or_very_large() -> None:
    x = jnp.asarray([np.nan, np.inf, -np.inf, -3e38, 3e30, 1e-30, -1e-30, 1e-45], jnp.float32)
    ours = proto(numpys(histogram(x)))
    assert (ours.num, ours.min, ours.max) == (5, np.float32(-3e38), np.float32(3e30))
    assert sum(ours.bucket) == 5
    assert np.all(np.diff(ours.bucket_limit) > 0)
    nothing = proto(numpys(histogram(jnp.asarray([np.nan, np.inf], jnp.float32))))
    assert (nothing.num, list(nothing.bucket)) == (0, [])


def test_noise_scale_is_the_formula_and_its_jackknife(rng: np.random.Generator) -> None:
    n, b = 12, 8
    g = rng.normal(size=(n, 20)) + 0.4
    with jax.enable_x64(True):
        found = jax.jit(lambda: noise_scale(lambda i: {"w": jnp.asarray(g)[i]}, n, b))()

    def reference(g: np.ndarray) -> tuple[float, float]:
        """tr(Sigma) from the sample covariance, and |G|^2 as the mean product of two different batches' gradients."""
        products = g @ g.T
        pairs = products[~np.eye(len(g), dtype=bool)].mean()
        return b * np.cov(g.T).trace(), pairs

    noise, gradient = reference(g)
    np.testing.assert_allclose([found.noise, found.gradient], [noise, gradient], rtol=1e-12)
    np.testing.assert_allclose(found.scale, noise / gradient, rtol=1e-12)
    without = np.array([np.divide(*reference(np.delete(g, i, 0))) for i in range(n)])
    np.testing.assert_allclose(found.error, np.sqrt((n - 1) * without.var()), rtol=1e-10)


def test_noise_scale_of_two_sizes_by_hand() -> None:
    # |G|^2 = 3 and tr(Sigma) = 40: batches of 10 have 3 + 4, of 20 have 3 + 2.
    np.testing.assert_allclose(two_sizes(jnp.float32(7), jnp.float32(5), 10.0, 20.0), (40.0, 3.0), rtol=1e-6)


def test_noise_scale_comes_out_right_where_it_is_known(rng: np.random.Generator) -> None:
    """Linear regression y = x.w* + noise at w: one example's gradient x (x.d - noise) has known mean and covariance."""
    size, batches, b, sigma = 10, 400, 16, 2.0
    d = rng.normal(size=size)
    # With x ~ N(0, 1): G = d, E|g|^2 = E|x|^2 (x.d)^2 + sigma^2 E|x|^2 = (size + 2) |d|^2 + size sigma^2.
    true = ((size + 2) * d @ d + size * sigma**2 - d @ d) / (d @ d)

    @functools.partial(jax.jit, static_argnums=1)
    @functools.partial(jax.vmap, in_axes=(0, None))
    def estimate(key: jax.Array, direction: tuple[float, ...]) -> Any:
        w = jnp.asarray(direction, jnp.float32)

        def gradient(i: jax.Array) -> jax.Array:
            kx, ke = jax.random.split(jax.random.fold_in(key, i))
            x = jax.random.normal(kx, (b, size))
            return (x @ w - sigma * jax.random.normal(ke, (b,))) @ x / b

        return noise_scale(gradient, batches, b)

    found = estimate(jax.random.split(jax.random.key(rng.integers(2**32)), 200), tuple(d))
    deviation = (np.asarray(found.scale) - true) / np.asarray(found.error)
    # 200 standardised estimates: their mean has an error of 0.07, their spread of 0.05.
    assert abs(deviation.mean()) < 0.5, deviation.mean()
    assert 0.75 < deviation.std() < 1.3, deviation.std()


def test_noise_scale_that_is_lost_in_noise_is_infinite() -> None:
    g = jnp.asarray([[1.0], [-1.0], [1.0], [-1.0]])
    found = noise_scale(lambda i: g[i], 4, 2)
    assert np.isinf(found.scale) and np.isinf(found.error) and found.gradient < 0
    with pytest.raises(ValueError, match="at least 4"):
        noise_scale(lambda i: g[i], 3, 2)


def symmetric(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    return (q * values) @ q.T


@functools.partial(jax.jit, static_argnums=(2, 3))
def eigenvalues(matrix: jax.Array, key: jax.Array, iterations: int, top_k: int) -> Any:
    half = matrix.shape[0] // 2

    def product(v: dict[str, jax.Array]) -> dict[str, jax.Array]:
        w = matrix @ jnp.concatenate([v["a"], v["b"].ravel()])
        return {"a": w[:half], "b": w[half:].reshape(-1, 1)}

    like = {"a": jnp.zeros(half, matrix.dtype), "b": jnp.zeros((matrix.shape[0] - half, 1), matrix.dtype)}
    return lanczos(product, like, key, iterations, top_k)


SPECTRA = {
    "spread": lambda rng: rng.normal(size=60),
    "clusters": lambda rng: np.concatenate(
        [10 + 1e-4 * rng.normal(size=3), 5 + 1e-6 * rng.normal(size=20), -rng.random(37)]
    ),
    "negative": lambda rng: -1 - rng.random(60) ** 2,
    "one_large": lambda rng: np.concatenate([[1e4], 1e-3 * rng.random(59)]),
}


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_lanczos_finds_what_scipy_finds(rng: np.random.Generator, spectrum: str) -> None:
    matrix = symmetric(rng, SPECTRA[spectrum](rng))
    matrix = (matrix + matrix.T) / 2
    expected = np.sort(scipy.sparse.linalg.eigsh(matrix, k=3, which="LA", return_eigenvectors=False))[::-1]
    scale = np.abs(np.linalg.eigvalsh(matrix)).max()
    key = jax.random.key(rng.integers(2**32))
    with jax.enable_x64(True):
        found = eigenvalues(jnp.asarray(matrix), key, 60, 3)
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-12 * scale)
    single = eigenvalues(jnp.asarray(matrix, jnp.float32), key, 60, 3)
    # Measured: at most 1.2e-6 of the largest.
    np.testing.assert_allclose(single.values, expected, rtol=0, atol=5e-6 * scale)
    # Fewer iterations: an eigenvalue lies as near as the residual says.
    with jax.enable_x64(True):
        early = eigenvalues(jnp.asarray(matrix), key, 12, 3)
    distance = np.abs(np.asarray(early.values)[:, None] - np.linalg.eigvalsh(matrix)[None, :]).min(axis=1)
    assert np.all(distance <= np.asarray(early.errors) + 1e-12 * scale)


MULTIPLE = {
    "identity": (np.ones(20), [1.0, 1.0, 1.0]),
    "zero": (np.zeros(20), [0.0, 0.0, 0.0]),
    "low_rank": (np.r_[7.0, 7.0, -3.0, np.zeros(17)], [7.0, 7.0, 0.0]),
    "two_values": (np.r_[np.full(10, 2.0), np.full(10, -2.0)], [2.0, 2.0, 2.0]),
}


@pytest.mark.parametrize("case", MULTIPLE)
def test_lanczos_goes_on_where_its_space_is_invariant(rng: np.random.Generator, case: str) -> None:
    values, expected = MULTIPLE[case]
    matrix = jnp.asarray(symmetric(rng, values), jnp.float32)
    found = eigenvalues(matrix, jax.random.key(rng.integers(2**32)), 20, 3)
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=2e-5)
    assert np.isfinite(found.errors).all()


def test_lanczos_takes_no_more_iterations_than_dimensions() -> None:
    found = eigenvalues(jnp.diag(jnp.asarray([3.0, 1.0])), jax.random.key(0), 32, 4)
    np.testing.assert_allclose(found.values, [3.0, 1.0], rtol=1e-6)
    with pytest.raises(ValueError, match="top_k is 5"):
        lanczos(lambda v: v, jnp.ones(8), jax.random.key(0), 4, 5)


def test_lanczos_lets_nan_through() -> None:
    found = eigenvalues(jnp.full((4, 4), jnp.nan), jax.random.key(0), 4, 1)
    assert np.isnan(found.values).all()


def small_loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    hidden = jnp.tanh(x @ params["first"])
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(hidden @ params["second"]), y[:, None], axis=1))


def test_sharpness_of_a_small_model_is_its_dense_hessians(rng: np.random.Generator) -> None:
    shapes = {"first": (4, 5), "second": (5, 3)}
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    x, y = rng.normal(size=(32, 4)), jnp.asarray(rng.integers(0, 3, 32), jnp.int32)

    @functools.partial(jax.jit, static_argnums=1)
    def both(params: Any, iterations: int) -> Any:
        inputs = jnp.asarray(x, params["first"].dtype)
        loss = lambda p: small_loss(p, inputs, y)  # noqa: E731
        flat, unravel = jax.flatten_util.ravel_pytree(params)
        dense = jax.hessian(lambda v: loss(unravel(v)))(flat)
        product = lambda v: hessian_product(loss, params, v)  # noqa: E731
        return lanczos(product, params, jax.random.key(1), iterations, 3).values, dense

    with jax.enable_x64(True):
        found, dense = both({name: jnp.asarray(value) for name, value in arrays.items()}, 35)
    expected = np.linalg.eigvalsh(dense)[::-1][:3]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    single, _ = both({name: jnp.asarray(value, jnp.float32) for name, value in arrays.items()}, 35)
    # Measured: 2e-7 to 1e-6 of the largest.
    np.testing.assert_allclose(single, expected, rtol=0, atol=5e-6 * expected[0])


def test_lanczos_under_vmap_and_map_is_lanczos(rng: np.random.Generator) -> None:
    matrices = np.stack([symmetric(rng, rng.normal(size=12)) for _ in range(3)]).astype(np.float32)
    one = lambda m: eigenvalues(m, jax.random.key(3), 12, 2).values  # noqa: E731
    expected = np.stack([np.linalg.eigvalsh(m)[::-1][:2] for m in matrices])
    np.testing.assert_allclose(jax.vmap(one)(jnp.asarray(matrices)), expected, atol=1e-5)
    np.testing.assert_allclose(jax.lax.map(one, jnp.asarray(matrices)), expected, atol=1e-5)
