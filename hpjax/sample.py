"""`python -m hpjax.sample`: text from a trained language model. Flags in, text out."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from hpjax import command
from hpjax.config import converted
from hpjax.errors import ConfigError
from hpjax.generate import BYTES, Vocabulary, generate, is_language_model
from hpjax.settings.fields import AT_LEAST_1, NOT_NEGATIVE, SEED

__all__ = ["Request", "Vocabulary", "generate", "main", "parse", "sample"]

DESCRIPTION = "Writes text with a language model that hpjax.train has trained, from its best checkpoint."


@dataclasses.dataclass(frozen=True)
class Request:
    """What to sample.

    Attributes:
      run_dir: folder of a finished run.
      prompt: the text to go on from.
      tokens: new tokens.
      temperature: divides the logits; 0 takes the most likely token.
      top_k: draw from so many most likely tokens; None draws from all.
      seed: of the draws.
    """

    run_dir: str
    prompt: str = "\n"
    tokens: int = 300
    temperature: float = 1.0
    top_k: int | None = None
    seed: int = 0


_HELP = {
    "run_dir": "folder of a finished run",
    "prompt": "text to go on from; \\n in it is a new line (default: a new line)",
    "tokens": "number of new tokens (default: 300)",
    "temperature": "divides the logits; 0 takes the most likely token (default: 1.0)",
    "top_k": "draw from so many most likely tokens (default: all)",
    "seed": "seed of the draws (default: 0)",
}
_NUMBERS: dict[str, tuple[Any, Any]] = {
    "tokens": (int, AT_LEAST_1),
    "temperature": (float, NOT_NEGATIVE),
    "top_k": (int, AT_LEAST_1),
    "seed": (int, SEED),
}


def parse(argv: Sequence[str]) -> Request:
    """Returns what a command line asks for; the first word is the program's name.

    Raises:
      ConfigError: an unknown flag, a bad value, or no run.
    """
    parser = command.Parser("python -m hpjax.sample", description=DESCRIPTION)
    for name, text in _HELP.items():
        parser.add_argument(f"--{name}", help=text)
    given = {name: value for name, value in vars(parser.read(argv[1:])).items() if value is not None}
    if not given.get("run_dir"):
        raise ConfigError("run_dir is not set; give --run_dir=FOLDER of a finished run")
    given.update({name: converted(name, given[name], *how) for name, how in _NUMBERS.items() if name in given})
    if "prompt" in given:
        given["prompt"] = given["prompt"].replace("\\n", "\n")
        if not given["prompt"]:
            raise ConfigError("prompt is empty; expected at least one character")
    return Request(**given)


def load(run_dir: str) -> tuple[Any, Any, Vocabulary]:
    """Returns the model of a run, the parameters of its chosen checkpoint as variables, and its vocabulary.

    Raises:
      RunFolderError: no such run, no checkpoint yet, or damaged.
      ConfigError, DataError: it is no language model's, or its data has gone.
    """
    # Imported late, so that --help and a misspelt flag answer at once.
    import jax

    from hpjax import saved

    config = saved.config_of(run_dir)
    run = saved.load(run_dir, config)
    if run.dataset.task != "language" or not is_language_model(run.trial.model):
        raise ConfigError(
            f"'{run_dir}' is a run of model '{config.model}' on dataset '{config.dataset}'; "
            "expected a language model (transformer, lstm) on a text"
        )
    return run.trial.model, {"params": jax.device_get(run.trial.evaluated(run.state))}, vocabulary_of(run.dataset)


def vocabulary_of(dataset: Any) -> Vocabulary:
    """Returns a text data set's vocabulary: bytes, or its class names, each of one character.

    Raises:
      ConfigError: it has neither.
    """
    names = tuple(dataset.class_names)
    characters = bool(names) and all(len(name) == 1 for name in names)
    if dataset.num_classes == BYTES and (not characters or names == tuple(map(chr, range(BYTES)))):
        return Vocabulary(())
    if characters:
        return Vocabulary(names)
    raise ConfigError(f"dataset '{dataset.name}' has tokens that are neither characters nor bytes; expected one of these")


def sample(request: Request) -> str:
    """Returns the prompt and the text that the run's model writes behind it; raises what `load` and `generate` raise."""
    import jax

    from hpjax.data.order import GENERATOR

    model, variables, vocabulary = load(request.run_dir)
    prompt = vocabulary.encode(request.prompt)
    key = jax.random.key(request.seed, impl=GENERATOR)
    drawn = generate(
        model, variables, prompt[None], tokens=request.tokens, temperature=request.temperature, top_k=request.top_k, key=key
    )
    return request.prompt + vocabulary.decode(jax.device_get(drawn)[0])


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0, 2 (bad input) or 130 (interrupted)."""

    def work() -> int:
        command.show(sample(parse(argv)) + "\n")
        return 0

    return command.run("hpjax.sample", work)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
