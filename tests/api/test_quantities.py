"""Quantities mean what Kubernetes means by them; the oracle is decimal arithmetic."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api import quantities

SUFFIXES = {"": 0, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}

numbers = st.decimals(
    allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4
).map(lambda d: f"{d:f}")
exponents = st.integers(-6, 20).map(lambda e: f"e{e}")
suffixes = st.sampled_from([*SUFFIXES, *BINARY]) | exponents
texts = st.builds(lambda number, suffix: number + suffix, numbers, suffixes)


def meant(text: str) -> Fraction:
    """Return what `text` says, by another road than the code's."""
    number = text.rstrip("numkMGTPEiK")
    if "e" in text or text == number:
        return Fraction(Decimal(text))
    suffix = text[len(number) :]
    if suffix in BINARY:
        return Fraction(Decimal(number)) * 2 ** BINARY[suffix]
    return Fraction(Decimal(number)) * Fraction(10) ** SUFFIXES[suffix]


@given(texts)
def test_a_quantity_is_its_number_rounded_away_from_zero_to_a_billionth(text: str) -> None:
    exact, read = meant(text), quantities.parse(text)
    assert abs(read) >= abs(exact)
    assert abs(read - exact) < Fraction(1, 10**9)
    assert (read * 10**9).denominator == 1


@given(texts)
def test_the_canonical_form_keeps_the_value_and_is_its_own(text: str) -> None:
    canonical = quantities.canonical(text)
    assert quantities.parse(canonical) == quantities.parse(text)
    assert quantities.canonical(canonical) == canonical
    assert "." not in canonical


@given(texts, texts)
def test_order_is_that_of_the_numbers(one: str, other: str) -> None:
    if meant(one) <= meant(other):
        assert quantities.parse(one) <= quantities.parse(other)
        assert quantities.milli(one) <= quantities.milli(other)
        assert quantities.value(one) <= quantities.value(other)


@given(texts)
def test_whole_units_and_thousandths_are_rounded_up(text: str) -> None:
    read = quantities.parse(text)
    assert 0 <= quantities.value(text) - read < 1
    assert 0 <= quantities.milli(text) - read * 1000 < 1


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.5", "500m"),
        ("1024Ki", "1Mi"),
        ("1000", "1k"),
        ("1023Ki", "1023Ki"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("0.5Mi", "512Ki"),
        ("1e3", "1e3"),
        ("1500e-3", "1500e-3"),
        ("12e6", "12e6"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("+1", "1"),
        ("-1Gi", "-1Gi"),
        ("0Gi", "0"),
        ("0.0000000001", "1n"),
        ("1.1Ki", "1126400m"),
        (2, "2"),
        (0.25, "250m"),
        ("123456789012345678901", "123456789012345678901"),
    ],
)
def test_canonical_forms(text: str | float, canonical: str) -> None:
    assert quantities.canonical(text) == canonical


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", quantities.WRONG_FORMAT),
        (" 1", quantities.WRONG_FORMAT),
        ("1 GB", quantities.WRONG_FORMAT),
        ("one", quantities.WRONG_FORMAT),
        ("1.2.3", quantities.WRONG_FORMAT),
        ("１", quantities.WRONG_FORMAT),
        ("1mm", quantities.WRONG_SUFFIX),
        ("1ki", quantities.WRONG_SUFFIX),
        ("1e", quantities.WRONG_SUFFIX),
        ("1e999999999", quantities.WRONG_SUFFIX),
        ("9" * 10_000, quantities.WRONG_NUMBER),
        (True, quantities.WRONG_FORMAT),
    ],
)
def test_what_is_no_quantity(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="quantit") as caught:
        quantities.parse(text)
    assert str(caught.value) == says


def test_resource_lists_are_kept_in_thousandths() -> None:
    assert quantities.at_milli_scale("100u") == "1m"
    assert quantities.at_milli_scale("-100u") == "-1m"
    assert quantities.at_milli_scale("64Mi") == "64Mi"
