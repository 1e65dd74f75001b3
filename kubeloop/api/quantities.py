"""Quantities: "100m", "1.5Gi", "2e3", read and written as Kubernetes does.

A quantity is an exact number and the family of suffixes it was written in. Kubernetes knows no
fraction finer than a billionth (n): what is smaller is rounded away from zero, so whoever asks for
a little of a resource never gets none of it. The canonical form is the one with no fraction, the
largest suffix and therefore the fewest digits: "0.5" is "500m", "1024Ki" is "1Mi".

Source: k8s.io/apimachinery/pkg/api/resource.
"""

import math
import re
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from typing import Final

PATTERN: Final = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
WRONG_FORMAT: Final = f"quantities must match the regular expression '{PATTERN}'"
WRONG_NUMBER: Final = "unable to parse numeric part of quantity"
WRONG_SUFFIX: Final = "unable to parse quantity's suffix"

_TEXT_MAX: Final = 500  # Longer numbers are nonsense, and would cost quadratic time to read.
_EXPONENT_MAX: Final = 64  # Kubernetes reads 1e2147483647 and then cannot print it.
_NANO: Final = 10**9

_SHAPE = re.compile(r"[+-]?([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)", re.ASCII)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15} | {
    "E": 18
}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIXES: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIXES: Final = {power: suffix for suffix, power in _BINARY.items()} | {0: ""}


class Family(Enum):
    """The suffixes a quantity is written in."""

    DECIMAL = "DecimalSI"
    BINARY = "BinarySI"
    EXPONENT = "DecimalExponent"


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number and how it likes to be written."""

    number: Fraction
    family: Family

    def __str__(self) -> str:
        """Return the canonical form."""
        if not self.number:
            return "0"
        if (
            self.family is Family.BINARY
            and self.number.denominator == 1
            and abs(self.number) > 1023
        ):
            return _binary(int(self.number))
        # Binary suffixes would need a fraction, or have nothing to shorten: decimal ones.
        return _decimal(self.number, exponent=self.family is Family.EXPONENT)


def parse(text: str | int | float) -> Fraction:
    """Return the number. Raises: ValueError with Kubernetes' message."""
    return read(text).number


def canonical(text: str | int | float) -> str:
    """Return the canonical form, of the same value. Raises: ValueError."""
    return str(read(text))


def milli(text: str | int | float) -> int:
    """Return thousandths, rounded up: the unit of CPU. Raises: ValueError."""
    return math.ceil(read(text).number * 1000)


def value(text: str | int | float) -> int:
    """Return whole units, rounded up: bytes, pieces. Raises: ValueError."""
    return math.ceil(read(text).number)


def at_milli_scale(text: str | int | float) -> str:
    """Return the canonical form, rounded away from zero to thousandths.

    So the API keeps every quantity of a resource list. Raises: ValueError.
    """
    return _at_milli_scale(_text(text))


def read(text: str | int | float) -> Quantity:
    """Return the quantity. Raises: ValueError with Kubernetes' message."""
    return _read(_text(text))


@lru_cache(maxsize=4096)
def _at_milli_scale(text: str) -> str:
    quantity = _read(text)
    return str(Quantity(_away_from_zero(quantity.number, 1000), quantity.family))


@lru_cache(maxsize=4096)
def _read(text: str) -> Quantity:
    match = _SHAPE.fullmatch(text)
    if not text or match is None:
        raise ValueError(WRONG_FORMAT)
    whole, fraction, suffix = match[1], match[2] or "", match[3]
    family, scale = _scale(suffix)
    number = Fraction(int((whole + fraction) or "0"), 10 ** len(fraction)) * scale
    if family is Family.BINARY and number < 1:
        family = Family.DECIMAL
    number = _away_from_zero(number, _NANO)
    return Quantity(-number if text.startswith("-") else number, family)


def _scale(suffix: str) -> tuple[Family, Fraction]:
    """Return the family of `suffix` and the number it stands for."""
    if suffix in _DECIMAL:
        return Family.DECIMAL, Fraction(10) ** _DECIMAL[suffix]
    if suffix in _BINARY:
        return Family.BINARY, Fraction(2 ** _BINARY[suffix])
    exponent = _EXPONENT.fullmatch(suffix)
    if exponent is None or len(exponent[1]) > 9 or abs(int(exponent[1])) > _EXPONENT_MAX:
        raise ValueError(WRONG_SUFFIX)
    return Family.EXPONENT, Fraction(10) ** int(exponent[1])


def _text(given: str | int | float) -> str:
    """Return a JSON value as the text Kubernetes would have read, if it is not too long."""
    if isinstance(given, bool):
        raise ValueError(WRONG_FORMAT)
    if isinstance(given, str) and len(given) > _TEXT_MAX:
        raise ValueError(WRONG_NUMBER)
    return str(given)


def _away_from_zero(number: Fraction, parts: int) -> Fraction:
    """Return `number` rounded to 1/parts, away from zero."""
    scaled = number * parts
    if scaled.denominator == 1:
        return number
    return Fraction(math.ceil(scaled) if scaled > 0 else math.floor(scaled), parts)


def _binary(number: int) -> str:
    power = 0
    while number % 1024 == 0 and power < 60:
        number //= 1024
        power += 10
    return f"{number}{_BINARY_SUFFIXES[power]}"


def _decimal(number: Fraction, *, exponent: bool) -> str:
    """Return digits and the largest power of a thousand that leaves no fraction."""
    digits, power = int(number * _NANO), -9
    highest = 10**9 if exponent else 18
    while digits % 1000 == 0 and power < highest:
        digits //= 1000
        power += 3
    if not exponent:
        return f"{digits}{_DECIMAL_SUFFIXES[power]}"
    return f"{digits}e{power}" if power else str(digits)
