"""Amounts of pods: a count, or a percentage of all."""

from typing import Any

from kubeloop.api import names
from kubeloop.api.problems import Problems


def check(problems: Problems, field: str, value: Any) -> None:
    """Check that a value is one."""
    if isinstance(value, str):
        problems.invalid_each(field, value, names.percent(value))
    else:
        problems.not_negative(field, value)


def at_most_all(problems: Problems, field: str, value: Any) -> None:
    """Check that a percentage is not more than all."""
    if isinstance(value, str) and number(value) > 100:
        problems.invalid(field, value, "must not be greater than 100%")


def number(value: Any) -> int:
    """Return a count or a percentage as a bare number; 0 for what is neither."""
    if isinstance(value, int):
        return value
    return 0 if names.percent(str(value)) else int(str(value)[:-1])
