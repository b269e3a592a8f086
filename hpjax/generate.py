"""New tokens from a language model, one after the other, and the vocabulary that turns them into text."""

import dataclasses
import functools
import unicodedata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from hpjax.errors import ConfigError

BYTES = 256

_ALIKE = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\t": " ", "\r": "\n"}
"""What a text without quotation marks of its own, dashes and tabs has in their place."""


def generate(
    model: nn.Module,
    variables: Any,
    prompt_tokens: jax.typing.ArrayLike,
    *,
    tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    key: jax.Array,
) -> jax.Array:
    """Returns tokens that the model draws behind a prompt.

    Each token costs one step of the model's `decode`, which keeps what it has read. A model with a longest context that has
    filled it reads the newest half of it anew and goes on from there: so a token is drawn from the last
    `context_length // 2` tokens at least, and from `context_length` at most.

    Args:
      model: a model with `prefill` and `decode`.
      variables: its parameters, as `model.apply` takes them.
      prompt_tokens: int [batch, time], at least one place; of one longer than the context, its end counts.
      tokens: number of new tokens, at least 1.
      temperature: divides the logits; 0 takes the most likely token.
      top_k: draw from so many most likely tokens; None draws from all.
      key: of the draws; each row of the batch has its own.

    Returns:
      int32 [batch, tokens].

    Raises:
      ConfigError: the model is no language model, or a value is out of its domain.
    """
    if not is_language_model(model):
        raise ConfigError(f"model '{type(model).__name__}' cannot be sampled from; expected a language model")
    if not 0 <= temperature < np.inf:
        raise ConfigError(f"temperature is {temperature}; expected a finite number >= 0")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"top_k is {top_k}; expected a whole number >= 1")
    if tokens < 1:
        raise ConfigError(f"tokens is {tokens}; expected a whole number >= 1")
    prompt = np.asarray(prompt_tokens)
    if prompt.ndim != 2 or prompt.shape[1] < 1 or not np.issubdtype(prompt.dtype, np.integer):
        raise ConfigError(f"prompt_tokens is {prompt.dtype}{list(prompt.shape)}; expected int32 [batch, time], time >= 1")
    if model.context_length is not None:
        prompt = prompt[:, -model.context_length :]
    return _generate(model, tokens, top_k, variables, prompt.astype(np.int32), jnp.float32(temperature), key)


def is_language_model(model: nn.Module) -> bool:
    """Returns whether a model can be sampled from: it has `prefill`, `decode` and `context_length`."""
    return all(hasattr(model, name) for name in ("prefill", "decode", "context_length"))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(
    model: nn.Module,
    tokens: int,
    top_k: int | None,
    variables: Any,
    prompt: jax.Array,
    temperature: jax.Array,
    key: jax.Array,
) -> jax.Array:
    def read(text: jax.Array) -> tuple[jax.Array, Any]:
        logits, cache = model.apply(variables, text, method="prefill")
        return logits[:, -1], cache

    def advance(token: jax.Array, newest: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
        further = lambda: model.apply(variables, token, cache, method="decode")  # noqa: E731
        if model.context_length is None:
            return further()
        return lax.cond(cache.length == model.context_length, lambda: read(newest), further)

    def step(
        carry: tuple[jax.Array, jax.Array, Any], place: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array, Any], jax.Array]:
        logits, newest, cache = carry
        token = _draw(logits, temperature, top_k, jax.random.fold_in(key, place))
        newest = jnp.concatenate([newest[:, 1:], token[:, None]], axis=1)
        logits, cache = advance(token, newest, cache)
        return (logits, newest, cache), token

    half = max((model.context_length or 2) // 2, 1)
    # Of a prompt shorter than half a context the front is never read: by the time it counts it has been pushed out.
    newest = jnp.pad(prompt, ((0, 0), (half, 0)))[:, -half:]
    logits, cache = read(prompt)
    _, drawn = lax.scan(step, (logits, newest, cache), jnp.arange(tokens))
    return drawn.T


def _draw(logits: jax.Array, temperature: jax.Array, top_k: int | None, key: jax.Array) -> jax.Array:
    """Returns one token a row, int32 [batch], from float32 [batch, vocabulary]."""
    if top_k is not None and top_k < logits.shape[1]:
        least = lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits >= least, logits, -jnp.inf)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(logits.shape[0]))
    # A temperature of 0 divides by the smallest that does not overflow; its draw is not used.
    warm = jax.vmap(jax.random.categorical)(keys, logits / jnp.maximum(temperature, 1e-30))
    return jnp.where(temperature > 0, warm, logits.argmax(1)).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What the tokens of a text data set stand for.

    Attributes:
      characters: the character of each token; empty where a token is a byte.
    """

    characters: tuple[str, ...]

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens of a text: int32 [time].

        Raises:
          ConfigError: a character is not in the vocabulary.
        """
        if not self.characters:
            return np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        index = {character: token for token, character in enumerate(self.characters)}
        for place, character in enumerate(text):
            if character not in index:
                near = _nearest(character, index)
                hint = f"; did you mean {near!r}?" if near else f"; expected one of {''.join(self.characters)!r}"
                raise ConfigError(f"prompt has {character!r} at place {place}, which the data set's text has not{hint}")
        return np.array([index[character] for character in text], np.int32)

    def decode(self, tokens: np.ndarray) -> str:
        """Returns the text of tokens, int [time]; bytes that are no UTF-8 become U+FFFD."""
        if not self.characters:
            return bytes(np.asarray(tokens, np.uint8)).decode(errors="replace")
        return "".join(self.characters[token] for token in np.asarray(tokens))


def _nearest(character: str, known: dict[str, int]) -> str | None:
    """Returns a known character that a person may have meant: the other case, without its accent, a plain quote or dash."""
    plain = unicodedata.normalize("NFKD", character)[0]
    alike = _ALIKE.get(character, plain)
    candidates = (character.swapcase(), alike, alike.swapcase())
    return next((candidate for candidate in candidates if candidate in known), None)
