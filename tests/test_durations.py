"""Lengths with units: every spelling, every message, and exact arithmetic."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpjax.durations import Duration, parse, to_steps
from hpjax.errors import ConfigError

EXPECTED = "expected for example 500, 500steps, 3epochs, 40000examples or 10%"
KNOWN = "known: steps, epochs, examples, %"

sizes = st.integers(1, 10**6)


@st.composite
def decimals(draw) -> tuple[str, int, int]:
    """Returns a decimal number's text, and its value as a numerator and a power of ten."""
    whole, digits = draw(st.integers(0, 10**7)), draw(st.text("0123456789", max_size=6))
    text = f"{whole}.{digits}" if digits else str(whole)
    return text, int(f"{whole}{digits}"), 10 ** len(digits)


def error(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        to_steps(text, batch_size=1, epoch_examples=1)
    return str(raised.value)


def ceil_divide(a: int, b: int) -> int:
    return -(-a // b)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("500", 500, "steps"),
        ("0", 0, "steps"),
        ("500steps", 500, "steps"),
        ("1step", 1, "steps"),
        ("5.0steps", 5, "steps"),
        ("3epochs", 3, "epochs"),
        ("1epoch", 1, "epochs"),
        ("2.5epochs", Fraction(5, 2), "epochs"),
        (".5epochs", Fraction(1, 2), "epochs"),
        ("3.epochs", 3, "epochs"),
        ("40000examples", 40000, "examples"),
        ("1example", 1, "examples"),
        ("10%", 10, "%"),
        ("0.1%", Fraction(1, 10), "%"),
        ("  3 Epochs ", 3, "epochs"),
        ("10 %", 10, "%"),
    ],
)
def test_spellings(text, amount, unit):
    assert parse(text) == Duration(Fraction(amount), unit)


@pytest.mark.parametrize("text", ["", "-5", "+5", "epochs", "1e3", "3 4", "1,000", "nan", "inf", "%10", ".", "1/2epochs"])
def test_what_is_no_length(text):
    assert error(text) == f"'{text}' is no length; {EXPECTED}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3epocs", f"'3epocs': unit 'epocs' is unknown; did you mean 'epochs'? {KNOWN}"),
        ("3exmples", f"'3exmples': unit 'exmples' is unknown; did you mean 'examples'? {KNOWN}"),
        ("5%%", f"'5%%': unit '%%' is unknown; did you mean '%'? {KNOWN}"),
        ("3k", f"'3k': unit 'k' is unknown; {KNOWN}"),
        ("1.5", "'1.5': expected a whole number of steps"),
        ("2.5steps", "'2.5steps': expected a whole number of steps"),
        ("0.5example", "'0.5example': expected a whole number of examples"),
    ],
)
def test_bad_units_and_fractions(text, message):
    assert error(text) == message


def test_a_share_of_nothing_is_refused():
    assert error("10%") == "'10%': a share needs something to be a share of; expected steps, epochs or examples"


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("7", 7),
        ("0", 0),
        ("1epoch", 17),  # 1079 / 64 = 16.9
        ("2epochs", 34),  # of the data, not of whole epochs: 33.7
        ("0.001epochs", 1),
        ("0epochs", 0),
        ("64examples", 1),
        ("65examples", 2),
        ("1%", 2),  # of 150: 1.5
        ("0.9%", 1),  # 1.35
        ("0.01%", 1),  # 0.015, but not zero
        ("0%", 0),
        ("100%", 150),
        ("200%", 300),
    ],
)
def test_rounding(text, steps):
    assert to_steps(text, batch_size=64, epoch_examples=1079, whole=150) == steps


@settings(deadline=None)
@given(decimals(), sizes, sizes)
def test_epochs_are_exact_and_rounded_up(number, batch_size, epoch_examples):
    text, numerator, denominator = number
    steps = to_steps(f"{text}epochs", batch_size=batch_size, epoch_examples=epoch_examples)
    assert steps == ceil_divide(numerator * epoch_examples, denominator * batch_size)


@settings(deadline=None)
@given(st.integers(0, 10**18), sizes)
def test_examples_are_exact_and_rounded_up(amount, batch_size):
    assert to_steps(f"{amount}examples", batch_size=batch_size, epoch_examples=1) == ceil_divide(amount, batch_size)


@settings(deadline=None)
@given(decimals(), st.integers(1, 2**31))
def test_a_share_is_rounded_to_the_nearest_and_is_at_least_one(number, whole):
    text, numerator, denominator = number
    steps = to_steps(f"{text}%", batch_size=1, epoch_examples=1, whole=whole)
    nearest = (2 * numerator * whole + 100 * denominator) // (200 * denominator)
    assert steps == (0 if numerator == 0 else max(nearest, 1))


@settings(deadline=None)
@given(st.integers(0, 10**30), st.sampled_from(["", "step", "steps"]))
def test_steps_are_taken_as_they_are(amount, unit):
    assert to_steps(f"{amount}{unit}", batch_size=3, epoch_examples=7) == amount
