"""Operators against torch in float64, values and gradients, and the layers against Linen's."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hpjax.errors import ConfigError
from hpjax.ops import ACTIVATIONS, Conv, Conv1d, Dense, avg_pool, conv, conv1d, dense, max_pool, native, precision

# The package's attribute of that name is the function.
conv_module = importlib.import_module("hpjax.ops.conv")


def tolerance(terms: int) -> float:
    """Bound of the relative distance of a float32 result whose entries are sums of `terms` products."""
    return max(1e-6, 3e-8 * terms**0.5)


def relative(got, expected, size=None) -> float:
    """Distance as a share of `size`, the norm of `expected` unless it is told.

    A result of one or a few entries may cancel by chance: its own norm says nothing of the error to expect, the root of the
    sum of the squared terms does.
    """
    return np.linalg.norm(np.asarray(got, np.float64) - expected) / (np.linalg.norm(expected) if size is None else size)


def sizes_of_terms(torch, function, arguments, cotangent):
    """Returns the norms of the output and the gradients of a bilinear `function`, had every sum added independent terms."""
    squares, squared_gradients = torch_value_and_gradients(torch, function, [a**2 for a in arguments], cotangent**2)
    return np.sqrt(squares.sum()), [np.sqrt(g.sum()) for g in squared_gradients]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def value_and_gradients(function, arguments, rng):
    """Returns the output, a random cotangent and the gradients of float32 `function` at `arguments`."""
    shape = jax.eval_shape(function, *arguments).shape
    cotangent = normal(rng, shape)

    @jax.jit
    def run(arguments, cotangent):
        output, pullback = jax.vjp(function, *arguments)
        return output, pullback(cotangent)

    output, gradients = run(arguments, cotangent)
    return output, cotangent, gradients


def torch_value_and_gradients(torch, function, arguments, cotangent):
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arguments]
    output = function(*tensors)
    output.backward(torch.tensor(cotangent, dtype=torch.float64))
    return output.detach().numpy(), [t.grad.numpy() for t in tensors]


def torch_conv(torch, stride, padding):
    """Returns conv2d with the operator's axes; SAME pads the odd pixel below and to the right."""

    def total(size: int, kernel: int, step: int) -> int:
        return max((-(-size // step) - 1) * step + kernel - size, 0)

    def function(x, kernel, bias):
        image = x.permute(0, 3, 1, 2)
        if padding == "SAME":
            down = total(x.shape[1], kernel.shape[0], stride[0])
            across = total(x.shape[2], kernel.shape[1], stride[1])
            pads = (across // 2, across - across // 2, down // 2, down - down // 2)
            image = torch.nn.functional.pad(image, pads)
        # One feature or channel alone leaves strides that torch's backward pass refuses.
        kernel = kernel.permute(3, 2, 0, 1).contiguous()
        return torch.nn.functional.conv2d(image.contiguous(), kernel, bias, stride).permute(0, 2, 3, 1)

    return function


def check_conv(torch, rng, x_shape, kernel_shape, stride, padding, form):
    arguments = normal(rng, x_shape), normal(rng, kernel_shape), normal(rng, kernel_shape[3:])
    function = lambda x, k, b: conv(x, k, b, stride=stride, padding=padding, form=form)  # noqa: E731
    output, cotangent, gradients = value_and_gradients(function, arguments, rng)
    theirs = torch_conv(torch, stride, padding)
    expected, expected_gradients = torch_value_and_gradients(torch, theirs, arguments, cotangent)
    size, gradient_sizes = sizes_of_terms(torch, theirs, arguments, cotangent)
    assert output.shape == expected.shape
    assert relative(output, expected, size) < tolerance(np.prod(kernel_shape[:3]))
    places = np.prod(output.shape[:3])
    terms = (np.prod(kernel_shape[:2]) * kernel_shape[3], places, places)
    for gradient, wanted, k, gradient_size in zip(gradients, expected_gradients, terms, gradient_sizes, strict=True):
        assert relative(gradient, wanted, gradient_size) < tolerance(k)


CONVOLUTIONS = [
    # x, kernel, stride
    ((2, 8, 8, 3), (3, 3, 3, 4), (1, 1)),
    ((1, 7, 9, 1), (3, 3, 1, 1), (1, 1)),
    ((3, 7, 5, 2), (3, 3, 2, 5), (2, 2)),
    ((2, 8, 9, 3), (2, 4, 3, 2), (1, 1)),
    ((2, 9, 8, 1), (4, 2, 1, 3), (2, 2)),
    ((2, 5, 6, 4), (1, 1, 4, 3), (1, 1)),
    ((2, 6, 7, 2), (1, 1, 2, 3), (2, 2)),
    ((2, 11, 6, 2), (5, 1, 2, 3), (3, 1)),
    ((4, 5, 5, 2), (5, 5, 2, 3), (1, 2)),
    ((1, 1, 1, 3), (1, 1, 3, 2), (1, 1)),
    ((8, 20, 20, 4), (3, 3, 4, 8), (1, 1)),
]
forms = pytest.mark.parametrize("form", ["slices", "lax"])
paddings = pytest.mark.parametrize("padding", ["SAME", "VALID"])


@forms
@paddings
@pytest.mark.parametrize(("x_shape", "kernel_shape", "stride"), CONVOLUTIONS)
def test_conv_is_torch_conv2d(torch, rng, x_shape, kernel_shape, stride, padding, form):
    check_conv(torch, rng, x_shape, kernel_shape, stride, padding, form)


@forms
def test_conv_of_random_shapes_is_torch_conv2d(torch, rng, form):
    for _ in range(3):
        batch, channels, features = rng.integers(1, 5, 3).tolist()
        kernel_size, size = rng.integers(1, 6, 2).tolist(), rng.integers(5, 13, 2).tolist()
        stride = tuple(rng.integers(1, 4, 2).tolist())
        x_shape, kernel_shape = (batch, *size, channels), (*kernel_size, channels, features)
        padding = str(rng.choice(["SAME", "VALID"]))
        print(x_shape, kernel_shape, stride, padding)
        check_conv(torch, rng, x_shape, kernel_shape, stride, padding, form)


@forms
@pytest.mark.parametrize(
    ("size", "stride", "pad"), [(1, 1, 0), (1, 2, 0), (3, 2, 1), (7, 2, 3)], ids=["1x1", "1x1/2", "3x3/2", "7x7/2"]
)
@pytest.mark.parametrize("examples", [None, 1, 2], ids=["whole", "by one", "by two"])
def test_conv_with_torchs_padding_without_bias(torch, rng, size, stride, pad, examples, form, monkeypatch):
    """The residual networks' convolutions, also a few examples at a time, and their second derivatives."""
    x, kernel = normal(rng, (6, 9, 8, 3)), normal(rng, (size, size, 3, 4))
    rows, columns = ((edge + 2 * pad - size) // stride + 1 for edge in (9, 8))
    if examples is not None:
        monkeypatch.setattr(conv_module, "PATCH_BYTES", examples * rows * columns * size * size * 3 * 4)
    edges = ((pad, pad), (pad, pad))
    ours = lambda x, k: conv(x, k, stride=(stride, stride), padding=edges, form=form)  # noqa: E731
    loops = str(jax.make_jaxpr(ours)(x, kernel)).count("scan[")
    assert loops == (form == "slices" and size > 1 and examples is not None)

    def theirs(x, k):
        k = k.permute(3, 2, 0, 1).contiguous()
        image = x.permute(0, 3, 1, 2).contiguous()
        return torch.nn.functional.conv2d(image, k, None, stride, pad).permute(0, 2, 3, 1)

    output, cotangent, gradients = value_and_gradients(ours, (x, kernel), rng)
    expected, expected_gradients = torch_value_and_gradients(torch, theirs, (x, kernel), cotangent)
    assert relative(output, expected) < tolerance(size * size * 3)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative(gradient, wanted) < tolerance(6 * rows * columns)

    def loss(kernel):
        return (ours(x, kernel) ** 3).sum()

    direction = normal(rng, kernel.shape)
    product = jax.jit(lambda k, d: jax.jvp(jax.grad(loss), (k,), (d,))[1])(kernel, direction)
    tensor = torch.tensor(kernel, dtype=torch.float64)
    _, wanted = torch.autograd.functional.hvp(
        lambda k: (theirs(torch.tensor(x, dtype=torch.float64), k) ** 3).sum(),
        tensor,
        torch.tensor(direction, dtype=torch.float64),
    )
    assert relative(product, wanted.numpy()) < 10 * tolerance(6 * rows * columns)


@forms
@paddings
def test_conv_of_an_image_smaller_than_the_kernel(torch, rng, padding, form):
    if padding == "SAME":
        check_conv(torch, rng, (2, 1, 2, 3), (4, 5, 3, 2), (1, 1), padding, form)
    else:
        with pytest.raises(ValueError, match=r"kernel \(3, 3, 1, 1\) is larger than x \(1, 1, 5, 1\)"):
            conv(jnp.ones((1, 1, 5, 1)), jnp.ones((3, 3, 1, 1)), jnp.ones(1), padding="VALID", form=form)


def test_the_form_is_slices_on_a_cpu():
    x, kernel, bias = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), jnp.ones(1)
    program = str(jax.make_jaxpr(conv)(x, kernel, bias))
    assert ("conv_general_dilated" in program) == (jax.default_backend() != "cpu")


@pytest.mark.parametrize(("x_shape", "outputs"), [((1,), 3), ((4, 7), 5), ((1, 1), 1), ((2, 3, 9), 4), ((64, 1500), 10)])
def test_dense_is_torch_linear(torch, rng, x_shape, outputs):
    arguments = normal(rng, x_shape), normal(rng, (x_shape[-1], outputs)), normal(rng, (outputs,))
    output, cotangent, gradients = value_and_gradients(dense, arguments, rng)
    theirs = lambda x, k, b: torch.nn.functional.linear(x, k.T, b)  # noqa: E731
    expected, expected_gradients = torch_value_and_gradients(torch, theirs, arguments, cotangent)
    size, gradient_sizes = sizes_of_terms(torch, theirs, arguments, cotangent)
    assert relative(output, expected, size) < tolerance(x_shape[-1])
    terms = (outputs, np.prod(x_shape[:-1]), np.prod(x_shape[:-1]))
    for gradient, wanted, k, gradient_size in zip(gradients, expected_gradients, terms, gradient_sizes, strict=True):
        assert relative(gradient, wanted, gradient_size) < tolerance(k)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_follows_the_bias(torch, rng, name):
    functions = {
        "none": lambda x: x,
        "relu": torch.relu,
        "tanh": torch.tanh,
        "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "silu": torch.nn.functional.silu,
    }
    arguments = normal(rng, (6, 5)), normal(rng, (5, 8)), normal(rng, (8,))
    output, cotangent, gradients = value_and_gradients(lambda *a: dense(*a, name), arguments, rng)
    expected, expected_gradients = torch_value_and_gradients(
        torch, lambda x, k, b: functions[name](x @ k + b), arguments, cotangent
    )
    assert relative(output, expected) < 1e-6
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert relative(gradient, expected_gradient) < 1e-6
    x, kernel = arguments[0].reshape(6, 1, 1, 5), arguments[1].reshape(1, 1, 5, 8)
    assert relative(conv(x, kernel, arguments[2], activation=name)[:, 0, 0], expected) < 1e-6


@pytest.mark.parametrize(("shape", "size"), [((2, 8, 8, 3), 2), ((1, 7, 9, 1), 2), ((2, 9, 11, 2), 3), ((3, 4, 5, 2), 1)])
def test_max_pool_is_torch_max_pool2d(torch, rng, shape, size):
    # A permutation has no ties, at which the gradients may differ.
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    output, cotangent, (gradient,) = value_and_gradients(lambda x: max_pool(x, size), (x,), rng)
    expected, (expected_gradient,) = torch_value_and_gradients(
        torch,
        lambda x: torch.nn.functional.max_pool2d(x.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1),
        (x,),
        cotangent,
    )
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(gradient, expected_gradient)


def torch_conv1d(torch, stride, padding, dilation):
    """Returns conv1d with the operator's axes."""

    def function(x, kernel, bias):
        x = torch.nn.functional.pad(x.permute(0, 2, 1), padding)
        kernel = kernel.permute(2, 1, 0).contiguous()
        return torch.nn.functional.conv1d(x.contiguous(), kernel, bias, stride, dilation=dilation).permute(0, 2, 1)

    return function


@forms
@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "stride", "padding", "dilation"),
    [
        ((2, 9, 3), (3, 3, 4), 1, (1, 1), 1),
        ((1, 8, 1), (2, 1, 1), 1, (0, 0), 1),
        ((3, 13, 2), (4, 2, 5), 3, (2, 0), 1),
        ((2, 11, 4), (3, 4, 2), 2, (0, 5), 3),
        ((2, 1, 3), (5, 3, 2), 1, (2, 2), 1),
        ((4, 7, 1), (1, 1, 6), 2, (0, 0), 1),
    ],
)
def test_conv1d_is_torch_conv1d(torch, rng, x_shape, kernel_shape, stride, padding, dilation, form):
    arguments = normal(rng, x_shape), normal(rng, kernel_shape), normal(rng, kernel_shape[2:])
    ours = lambda x, k, b: conv1d(x, k, b, stride=stride, padding=padding, dilation=dilation, form=form)  # noqa: E731
    output, cotangent, gradients = value_and_gradients(ours, arguments, rng)
    theirs = torch_conv1d(torch, stride, padding, dilation)
    expected, expected_gradients = torch_value_and_gradients(torch, theirs, arguments, cotangent)
    size, gradient_sizes = sizes_of_terms(torch, theirs, arguments, cotangent)
    assert output.shape == expected.shape
    assert relative(output, expected, size) < tolerance(np.prod(kernel_shape[:2]))
    places = output.shape[0] * output.shape[1]
    terms = (kernel_shape[0] * kernel_shape[2], places, places)
    for gradient, wanted, k, gradient_size in zip(gradients, expected_gradients, terms, gradient_sizes, strict=True):
        assert relative(gradient, wanted, gradient_size) < tolerance(k)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(("padding", "pads"), [("SAME", (1, 2)), ("VALID", (0, 0))])
def test_conv1d_pads_by_name_and_activates(rng, padding, pads, activation):
    """An odd place more is added behind."""
    x, kernel, bias = normal(rng, (2, 9, 3)), normal(rng, (4, 3, 5)), normal(rng, (5,))
    named = conv1d(x, kernel, bias, padding=padding, activation=activation)
    np.testing.assert_array_equal(named, ACTIVATIONS[activation](conv1d(x, kernel, bias, padding=pads)))
    assert conv1d(x, kernel, stride=2).shape == (2, 5, 5)


@pytest.mark.parametrize(
    ("shape", "size", "stride", "padding"),
    [((2, 8, 7, 3), 3, 2, 1), ((2, 9, 6, 2), 3, 1, 0), ((1, 7, 7, 1), 2, 3, 1)],
)
def test_max_pool_with_stride_and_padding_is_torchs(torch, rng, shape, size, stride, padding):
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    output, cotangent, (gradient,) = value_and_gradients(lambda x: max_pool(x, size, stride, padding), (x,), rng)
    expected, (expected_gradient,) = torch_value_and_gradients(
        torch,
        lambda x: torch.nn.functional.max_pool2d(x.permute(0, 3, 1, 2), size, stride, padding).permute(0, 2, 3, 1),
        (x,),
        cotangent,
    )
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-6)


def test_values_that_tie_share_the_gradient():
    for pool in (lambda x: max_pool(x, 3), lambda x: max_pool(x, 3, 2, 1)):
        gradient = jax.grad(lambda x, pool=pool: pool(x)[:, 0, 0].sum())(jnp.ones((1, 5, 5, 1)))
        assert gradient.sum() == 1


@pytest.mark.parametrize(("shape", "size"), [((2, 8, 8, 3), 2), ((1, 7, 10, 2), 3), ((2, 4, 4, 5), 4)])
def test_avg_pool_is_torch_avg_pool2d(torch, rng, shape, size):
    x = normal(rng, shape)
    output, cotangent, (gradient,) = value_and_gradients(lambda x: avg_pool(x, size), (x,), rng)
    expected, (expected_gradient,) = torch_value_and_gradients(
        torch,
        lambda x: torch.nn.functional.avg_pool2d(x.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1),
        (x,),
        cotangent,
    )
    assert relative(output, expected) < 1e-6
    assert relative(gradient, expected_gradient) < 1e-6


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (Dense(4), nn.Dense(4), (3, 5)),
        (Conv(4), nn.Conv(4, (3, 3)), (2, 6, 5, 3)),
        (Dense(4, use_bias=False), nn.Dense(4, use_bias=False), (3, 5)),
        (
            Conv(4, padding=((2, 1), (0, 1)), use_bias=False),
            nn.Conv(4, (3, 3), padding=((2, 1), (0, 1)), use_bias=False),
            (2, 6, 5, 3),
        ),
        (Conv(4, (2, 3), (2, 1), "VALID"), nn.Conv(4, (2, 3), (2, 1), "VALID"), (2, 6, 5, 3)),
        (Conv1d(4), nn.Conv(4, (3,)), (2, 6, 3)),
        (
            Conv1d(4, 2, 2, (1, 0), 3, use_bias=False),
            nn.Conv(4, (2,), 2, [(1, 0)], kernel_dilation=3, use_bias=False),
            (2, 9, 3),
        ),
    ],
    ids=["Dense", "Conv", "Dense without bias", "Conv padded without bias", "Conv strided", "Conv1d", "Conv1d dilated"],
)
def test_layers_are_linens(rng, ours, theirs, shape):
    """The same parameters, drawn alike from the same key, and the same outputs."""
    x, key = normal(rng, shape), jax.random.key(int(rng.integers(2**32)))
    variables = ours.init(key, x)
    with jax.numpy_rank_promotion("allow"):
        jax.tree.map(np.testing.assert_array_equal, variables, theirs.init(key, x))
        variables = jax.tree.map(lambda leaf: leaf + 0.5, variables)
        expected = theirs.apply(variables, x)
    assert relative(ours.apply(variables, x), np.asarray(expected, np.float64)) < 1e-6


@pytest.mark.parametrize(
    ("x", "kernel", "bias"),
    [
        ((2, 8, 8), (3, 3, 1, 4), (4,)),
        ((2, 8, 8, 2), (3, 3, 1, 4), (4,)),
        ((2, 8, 8, 1), (3, 1, 4), (4,)),
        ((2, 8, 8, 1), (3, 3, 1, 4), (3,)),
        ((2, 8, 8, 1), (3, 3, 1, 4), (1, 4)),
    ],
)
def test_conv_refuses_shapes_that_do_not_fit(x, kernel, bias):
    with pytest.raises(ValueError, match="conv: ") as error:
        conv(jnp.ones(x), jnp.ones(kernel), jnp.ones(bias))
    assert all(str(shape) in str(error.value) for shape in (x, kernel, bias))


@pytest.mark.parametrize(
    ("x", "kernel", "bias"),
    [
        ((8, 2), (3, 2, 4), (4,)),
        ((2, 8, 2), (3, 1, 4), (4,)),
        ((2, 8, 8, 1), (3, 3, 1, 4), (4,)),
        ((2, 8, 1), (3, 1, 4), (3,)),
        ((2, 8, 1), (3, 1, 4), (1, 4)),
    ],
)
def test_conv1d_refuses_shapes_that_do_not_fit(x, kernel, bias):
    with pytest.raises(ValueError, match=r"^conv1d: ") as error:
        conv1d(jnp.ones(x), jnp.ones(kernel), jnp.ones(bias))
    assert all(str(shape) in str(error.value) for shape in (x, kernel, bias))


@pytest.mark.parametrize(
    ("padding", "reason"), [("VALID", "VALID padding adds nothing"), ((1, 0), r"padding \(1, 0\) adds too little")]
)
def test_conv1d_of_a_sequence_shorter_than_the_kernel(padding, reason):
    with pytest.raises(ValueError, match=rf"^conv1d: kernel \(3, 1, 1\) is larger than x \(1, 3, 1\), and {reason}$"):
        conv1d(jnp.ones((1, 3, 1)), jnp.ones((3, 1, 1)), padding=padding, dilation=2)


@pytest.mark.parametrize(
    ("x", "kernel", "bias"),
    [((), (3, 4), (4,)), ((2, 3), (4, 5), (5,)), ((2, 3), (3,), ()), ((2, 3), (3, 4), (3,)), ((2, 3), (3, 4), (1, 4))],
)
def test_dense_refuses_shapes_that_do_not_fit(x, kernel, bias):
    with pytest.raises(ValueError, match="dense: ") as error:
        dense(jnp.ones(x), jnp.ones(kernel), jnp.ones(bias))
    assert all(str(shape) in str(error.value) for shape in (x, kernel, bias))


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_pooling_refuses_what_is_no_batch_of_images(pool):
    with pytest.raises(ValueError, match=rf"{pool.__name__}: x \(8, 8, 1\)"):
        pool(jnp.ones((8, 8, 1)))
    with pytest.raises(ValueError, match=r"x \(1, 2, 8, 1\) is smaller than a square of 3 x 3"):
        pool(jnp.ones((1, 2, 8, 1)), 3)


def test_an_unknown_activation_names_the_nearest():
    calls = itertools.product(["relo", "Relu"], [dense, conv, conv1d])
    for name, operator in calls:
        shapes = {dense: ((2, 3), (3, 4)), conv: ((2, 3, 3, 1), (1, 1, 1, 4)), conv1d: ((2, 3, 1), (1, 1, 4))}[operator]
        with pytest.raises(ConfigError, match=f"activation '{name}' is unknown; did you mean 'relu'"):
            operator(*map(jnp.ones, shapes), jnp.ones(4), activation=name)


@pytest.mark.parametrize("compute_dtype", precision.DTYPES)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(0, 3, 4), (3, 0, 4), (3, 4, 0)])
@pytest.mark.parametrize("on", [True, False])
def test_a_batch_of_none_and_layers_without_inputs_or_outputs(on, rows, inputs, outputs, compute_dtype):
    x, kernel, bias = jnp.ones((rows, inputs)), jnp.ones((inputs, outputs)), jnp.full(outputs, 2.0)
    with native.scope(on), precision.scope(compute_dtype):
        y, pullback = jax.vjp(lambda *a: dense(*a, "relu"), x, kernel, bias)
        to_x, to_kernel, to_bias = pullback(y)
        np.testing.assert_array_equal(y, np.full((rows, outputs), inputs + 2))
        np.testing.assert_array_equal(to_x, np.zeros((rows, inputs)))
        np.testing.assert_array_equal(to_kernel, np.zeros((inputs, outputs)))
        np.testing.assert_array_equal(to_bias, np.full(outputs, rows * (inputs + 2)))
        y, pullback = jax.vjp(lambda *a: conv(*a, activation="relu"), jnp.ones((0, 5, 4, 2)), jnp.ones((3, 3, 2, 6)))
        assert y.shape == (0, 5, 4, 6)
        np.testing.assert_array_equal(pullback(y)[1], np.zeros((3, 3, 2, 6)))
