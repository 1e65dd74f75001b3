"""All kinds of happenings there are, once their modules are loaded."""

import pkgutil
from functools import cache
from importlib import import_module

from kubeloop.chaos import faults as _faults
from kubeloop.chaos.faults.base import Fault
from kubeloop.chaos.steps import Step
from kubeloop.chaos.values import KINDS, Happening


@cache
def load() -> None:
    """Make every kind known that comes with this package."""
    import_module("kubeloop.chaos.upkeep")
    for module in pkgutil.iter_modules(_faults.__path__):
        import_module(f"{_faults.__name__}.{module.name}")


def steps() -> tuple[type[Happening], ...]:
    """Return the kinds of what users do, in the order of their names."""
    return _kinds(Step)


def faults() -> tuple[type[Happening], ...]:
    """Return the kinds of what breaks, in the order of their names."""
    return _kinds(Fault)


def _kinds(of: type[Happening]) -> tuple[type[Happening], ...]:
    load()
    return tuple(cls for _, cls in sorted(KINDS.items()) if issubclass(cls, of))
