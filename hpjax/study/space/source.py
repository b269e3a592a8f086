"""A text of `--vary` with the places of its characters, so that every message points at one."""

import dataclasses

from hpjax.errors import ConfigError


class Refused(Exception):
    """Something that cannot be, and where: turned into one line by the `Source` that it stands in.

    Args:
      at: the character's place in the whole text, from 1.
      came: what came.
      expected: what was expected, the nearest name included.
    """

    def __init__(self, at: int, came: str, expected: str):
        super().__init__(came)
        self.at, self.came, self.expected = at, came, expected


@dataclasses.dataclass(frozen=True)
class Source:
    """One text of `--vary`, `name=expression`.

    Attributes:
      text: the whole text, on one line.
      name: the setting's name.
      expression: what stands after the equals sign, no space at its ends.
      start: the place in `text` of the expression's first character, from 1.
    """

    text: str
    name: str
    expression: str
    start: int

    @classmethod
    def split(cls, text: str) -> "Source":
        """Returns the text in its parts; raises ConfigError where there is no name, no equals sign or no expression."""
        if not isinstance(text, str) or not all(c.isprintable() or c in "\t\r\n" for c in text):
            raise ConfigError(f"vary has {text!r}; expected a text of one line: name=expression")
        # One character for one, so that places stay.
        text = "".join(" " if character.isspace() else character for character in text)
        name, equals, expression = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"vary '{text}' has no name and equals sign; expected for example learning_rate=log(1e-4,1)")
        start = len(name) + 2 + len(expression) - len(expression.lstrip())
        if not expression.strip():
            raise ConfigError(f"vary '{text}': nothing stands after '='; expected for example {name.strip()}=log(1e-4,1)")
        return cls(text, name.strip(), expression.strip(), start)

    def error(self, refused: Refused) -> ConfigError:
        """Returns the one line for what was refused."""
        return ConfigError(f"vary '{self.text}': {refused.came} at character {refused.at}; {refused.expected}")


def shown(value: object) -> str:
    """Returns a value as messages show it: `1`, not `1.0`; `'a'`; `true`; `none`."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)
