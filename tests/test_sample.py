"""Sampling: the cache against the whole forward pass, the draws, the vocabulary, the command line's words."""

import dataclasses
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hpjax
from hpjax import checkpoints, sample
from hpjax.errors import ConfigError
from hpjax.generate import Vocabulary, generate
from hpjax.models import MODELS

OUTPUTS, CONTEXT = 7, 8
SMALL_MODELS = {
    "transformer": {"depth": 2, "width": 8, "heads": 2, "context_length": CONTEXT},
    "lstm": {"width": 8},
}
models = pytest.mark.parametrize("name", SMALL_MODELS)


def problem(name: str, rng: np.random.Generator):
    """Returns a model and variables whose logits differ much from token to token."""
    model = MODELS.get(name)(OUTPUTS, **SMALL_MODELS[name])
    variables = jax.jit(model.init)(jax.random.key(int(rng.integers(2**32))), np.zeros((1, CONTEXT), np.int32))
    return model, jax.tree.map(lambda leaf: np.asarray(leaf) + rng.normal(size=leaf.shape).astype(np.float32), variables)


def tokens(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(OUTPUTS, size=shape).astype(np.int32)


@models
def test_decoding_with_the_cache_is_the_whole_forward_pass(rng, name):
    """After a prompt of any length, token by token, up to the full context. At most 2e-6 was seen, of logits up to 10."""
    model, variables = problem(name, rng)
    text = tokens(rng, 3, CONTEXT)
    whole = np.asarray(jax.jit(model.apply)(variables, text))
    decode = jax.jit(partial(model.apply, method="decode"))
    prefill = jax.jit(partial(model.apply, method="prefill"))
    for prompt in (1, 5, CONTEXT):
        logits, cache = prefill(variables, text[:, :prompt])
        np.testing.assert_allclose(logits, whole[:, :prompt], rtol=1e-5, atol=1e-5)
        for place in range(prompt, CONTEXT):
            logits, cache = decode(variables, text[:, place], cache)
            np.testing.assert_allclose(logits, whole[:, place], rtol=1e-5, atol=1e-5)
    assert decode._cache_size() == 1


def slow(model, variables, prompt: np.ndarray, number: int) -> np.ndarray:
    """Returns the likeliest tokens by whole forward passes; a full context is cut to its newest half."""
    room = model.context_length or prompt.shape[1] + number
    text, start = prompt, 0
    if model.context_length is not None:
        start = max(prompt.shape[1] - model.context_length, 0)
    drawn = []
    # Padded behind, where a causal model does not look: one program for all lengths.
    apply = jax.jit(lambda x: model.apply(variables, x))
    whole = lambda x: apply(np.pad(x, ((0, 0), (0, room - x.shape[1]))))[:, x.shape[1] - 1]  # noqa: E731
    for _ in range(number):
        token = np.asarray(whole(text[:, start:])).argmax(1).astype(np.int32)
        if model.context_length is not None and text.shape[1] - start == model.context_length:
            start = text.shape[1] + 1 - model.context_length // 2
        text = np.concatenate([text, token[:, None]], 1)
        drawn.append(token)
    return np.stack(drawn, 1)


@models
@pytest.mark.parametrize("length", [1, CONTEXT, CONTEXT + 3])
def test_temperature_zero_takes_the_likeliest_token_past_the_context_too(rng, name, length):
    model, variables = problem(name, rng)
    prompt = tokens(rng, 2, length)
    drawn = generate(model, variables, prompt, tokens=14, temperature=0, key=jax.random.key(0))
    assert drawn.dtype == np.int32
    np.testing.assert_array_equal(drawn, slow(model, variables, prompt, 14))


def test_a_context_of_one_token_is_enough(rng):
    model = MODELS.get("transformer")(OUTPUTS, depth=1, width=4, heads=1, context_length=1)
    variables = model.init(jax.random.key(0), np.zeros((1, 1), np.int32))
    assert generate(model, variables, tokens(rng, 1, 3), tokens=3, key=jax.random.key(0)).shape == (1, 3)


class Fixed:
    """A language model whose logits never change."""

    context_length = None

    def __init__(self, logits):
        self.logits = jnp.asarray(logits, jnp.float32)

    def apply(self, variables, given, cache=None, *, method):
        del variables, cache
        return jnp.broadcast_to(self.logits, (*given.shape, len(self.logits))), jnp.int32(0)


def shares(logits, rng, **settings) -> np.ndarray:
    """Returns how often each token was drawn in 2000 draws of 4 rows."""
    key = jax.random.key(int(rng.integers(2**32)))
    drawn = np.asarray(generate(Fixed(logits), {}, np.zeros((4, 1), np.int32), tokens=500, key=key, **settings))
    assert len({row.tobytes() for row in drawn}) == 4 or len(set(drawn.ravel())) == 1
    return np.bincount(drawn.ravel(), minlength=len(logits)) / drawn.size


@pytest.fixture(autouse=True)
def fixed_is_a_language_model(monkeypatch):
    monkeypatch.setattr(Fixed, "prefill", None, raising=False)
    monkeypatch.setattr(Fixed, "decode", None, raising=False)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, None), (2.0, 3), (1.0, 1), (1.0, 9)])
def test_draws_follow_temperature_and_top_k(rng, temperature, top_k):
    """Six standard deviations of a mean of 2000 independent 0/1 values."""
    logits = np.array([0.0, 1.0, -1.0, 2.0, 0.5])
    weights = np.exp(logits / temperature)
    if top_k is not None:
        weights[np.argsort(-logits)[top_k:]] = 0
    expected = weights / weights.sum()
    found = shares(logits, rng, temperature=temperature, top_k=top_k)
    assert (np.abs(found - expected) <= 6 * np.sqrt(expected * (1 - expected) / 2000)).all()
    assert (found[expected == 0] == 0).all()


def test_a_seed_repeats_its_text_and_a_temperature_compiles_nothing(rng):
    from hpjax.generate import _generate

    model, variables = problem("transformer", rng)
    prompt = tokens(rng, 1, 3)
    draw = lambda seed, t: np.asarray(  # noqa: E731
        generate(model, variables, prompt, tokens=20, temperature=t, key=jax.random.key(seed))
    )
    first, before = draw(1, 1.0), _generate._cache_size()
    np.testing.assert_array_equal(draw(1, 1.0), first)
    assert (draw(2, 3.0) != draw(3, 3.0)).any()
    assert _generate._cache_size() == before


REFUSED = [
    ({"temperature": -1.0}, "temperature is -1.0; expected a finite number >= 0"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"temperature": float("inf")}, "temperature is inf"),
    ({"top_k": 0}, "top_k is 0"),
    ({"tokens": 0}, "tokens is 0"),
    ({"prompt_tokens": np.zeros((1, 0), np.int32)}, r"prompt_tokens is int32\[1, 0\]; expected"),
    ({"prompt_tokens": np.zeros(3, np.int32)}, r"prompt_tokens is int32\[3\]; expected"),
    ({"model": MODELS.get("mlp")(3)}, "model 'MLP' cannot be sampled from; expected a language model"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_generate_refuses(change, message):
    settings = {"model": Fixed([0.0]), "prompt_tokens": np.zeros((1, 1), np.int32), "tokens": 1, **change}
    with pytest.raises(ConfigError, match=message):
        generate(variables={}, key=jax.random.key(0), **settings)


def test_the_vocabulary_gives_a_text_back():
    characters = Vocabulary(tuple("\n !aehlo"))
    np.testing.assert_array_equal(characters.encode("hello!"), [5, 4, 6, 6, 7, 2])
    assert characters.decode(characters.encode("hello hole\n")) == "hello hole\n"
    octets = Vocabulary(())
    assert octets.encode("é").tolist() == [0xC3, 0xA9]
    assert octets.decode(np.array([0xC3, 0xA9, 0xC3])) == "é\ufffd"


@pytest.mark.parametrize(
    ("text", "hint"), [("heLLo", "'L' at place 2.*mean 'l'"), ("hé", "mean 'e'"), ("h\u2019", r'mean "\'"')]
)
def test_a_character_that_is_unknown_is_named_with_the_nearest(text, hint):
    with pytest.raises(ConfigError, match=hint):
        Vocabulary(tuple("' ehlo")).encode(text)
    with pytest.raises(ConfigError, match="expected one of ' ehlo'"):
        Vocabulary(tuple(" ehlo")).encode("h%")


def test_the_command_lines_words():
    assert sample.parse(["x", "--run_dir=runs/a"]) == sample.Request("runs/a")
    words = ["x", "--run_dir=a", "--prompt=RO\\nM:", "--tokens=3", "--temperature=0.8", "--top_k=4", "--seed=9"]
    assert sample.parse(words) == sample.Request("a", "RO\nM:", 3, 0.8, 4, 9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run_dir is not set; give --run_dir=FOLDER"),
        (["--run_dir=a", "--tokens=many"], "tokens is 'many'; expected a whole number"),
        (["--run_dir=a", "--temperature=-1"], "temperature is '-1'; expected a finite number >= 0"),
        (["--run_dir=a", "--temperature=nan"], "temperature is 'nan'; expected"),
        (["--run_dir=a", "--top_k=0"], "top_k is '0'; expected"),
        (["--run_dir=a", "--prompt="], "prompt is empty"),
        (["--run_dir=a", "--temprature=1"], "flag 'temprature' is unknown; did you mean 'temperature'?"),
        (["--run_dir"], "flag 'run_dir' has no value; expected --run_dir=VALUE"),
        (["--run_dir=/no/where"], "'/no/where' holds no run; expected a run folder, with flags.txt"),
    ],
)
def test_the_command_line_refuses_in_one_line(capsys, words, message):
    assert sample.main(["hpjax.sample", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("hpjax.sample: ")
    assert message in err


SIZES = {"transformer": {"width": 8, "heads": 2, "depth": 1}, "lstm": {"width": 8, "depth": 1}}


@pytest.fixture(scope="module", params=SIZES)
def run(request, tmp_path_factory):
    """A short run on a text of a few characters."""
    folder = tmp_path_factory.mktemp(request.param)
    text = folder / "text.txt"
    text.write_text("ab: abc.\n" * 40)
    small = {"dataset": "text", "text_file": str(text), "context_length": 8, "batch_size": 4, "train_steps": "6"}
    every = {"eval_every": "3", "eval_batch_size": 4, "devices": "1", "progress": False}
    hpjax.run(hpjax.Config(model=request.param, run_dir=str(folder / "run"), **small, **every, **SIZES[request.param]))
    return folder / "run"


def test_a_run_writes_text(run, capsys):
    words = ["x", f"--run_dir={run}", "--prompt=ab:", "--tokens=20", "--seed=3"]
    capsys.readouterr()
    assert sample.main(words) == 0
    text = capsys.readouterr().out
    assert text.startswith("ab:")
    assert len(text) == 24
    assert set(text) <= set("ab: c.\n")
    assert sample.main([*words[:2], "--prompt=xy"]) == 2
    assert "prompt has 'x' at place 0" in capsys.readouterr().err


def test_the_parameters_are_the_chosen_checkpoints(run):
    _, variables, _ = sample.load(str(run))
    chosen = json.loads((run / "metadata.json").read_text())["chosen_tick"]
    expected = checkpoints.read(run / "checkpoints" / str(chosen))["params"]
    assert jax.tree.all(jax.tree.map(np.array_equal, variables["params"], expected))


def test_a_run_that_is_no_language_models_is_refused(tmp_path, capsys):
    digits = tmp_path / "digits"
    config = {"hidden_sizes": (), "train_steps": "1", "devices": "1", "progress": False}
    hpjax.run(hpjax.Config(dataset="digits", run_dir=str(digits), **config))
    capsys.readouterr()
    assert sample.main(["x", f"--run_dir={digits}"]) == 2
    assert "is a run of model 'mlp' on dataset 'digits'; expected a language model" in capsys.readouterr().err
    assert sample.main(["x", f"--run_dir={tmp_path / 'digit'}"]) == 2
    assert f"did you mean '{digits}'?" in capsys.readouterr().err
    for checkpoint in (digits / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    assert sample.main(["x", f"--run_dir={digits}"]) == 2
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_the_vocabulary_of_a_data_set():
    data = dataclasses.make_dataclass("data", ["name", "class_names", "num_classes"])
    assert sample.vocabulary_of(data("text", tuple("abc"), 3)) == Vocabulary(tuple("abc"))
    assert sample.vocabulary_of(data("text", (), 256)) == Vocabulary(())
    assert sample.vocabulary_of(data("text", tuple(map(chr, range(256))), 256)) == Vocabulary(())
    with pytest.raises(ConfigError, match="neither characters nor bytes"):
        sample.vocabulary_of(data("text", ("the", "of"), 2))
