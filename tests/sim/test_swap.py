"""Builtins and class methods that are exchanged in place: for all who hold them, and back."""

import datetime
import gc
import math
import operator
import os
import sys
import time
from collections.abc import Callable
from time import strftime
from typing import Any

import pytest

from kubeloop.sim.swap import AttributeSwap, MethodSwap, Swap, Swappable, exchange

Datetime = datetime.datetime


def telling(real: Callable[..., Any]) -> Callable[..., Any]:
    """Return a stand-in that tells how it was called, and what the real one says to that."""

    def stand_in(*args: Any, **options: Any) -> Any:
        return args, options, real(*args, **options)

    return stand_in


@pytest.mark.parametrize(
    ("function", "args", "options"),
    [
        (time.monotonic, (), {}),
        (time.sleep, (0,), {}),
        (strftime, ("%Y", (2026, 1, 1, 0, 0, 0, 0, 1, 0)), {}),
        (os.getrandom, (0,), {"flags": 0}),
        (os.stat, ("/",), {"follow_symlinks": True}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_builtin_of_any_calling_convention(
    function: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    swap = Swap(function, telling)
    for _ in range(3):
        swap.enter()
        try:
            for _ in range(100):  # The interpreter specializes what it runs often.
                told = function(*args, **options)
        finally:
            swap.leave()
        assert told[:2] == (args, options)
        for _ in range(100):
            real = function(*args, **options)
        assert type(real) is type(told[2])
        assert not isinstance(real, tuple) or isinstance(real, os.stat_result)


def test_errors_pass() -> None:
    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*_args: Any) -> Any:
            raise KeyError("mine")

        return fail

    swap = Swap(time.sleep, failing)
    swap.enter()
    try:
        with pytest.raises(KeyError, match="mine"):
            time.sleep(0)
        with pytest.raises(TypeError):
            time.sleep()  # type: ignore[call-arg]
    finally:
        swap.leave()


def test_nothing_is_lost_or_kept() -> None:
    """References are counted right, also when garbage is collected meanwhile."""
    swap = Swap(time.monotonic, telling)
    stand_in = swap._stand_in
    gc.collect()
    before, of_time = sys.getrefcount(stand_in), sys.getrefcount(time)
    for _ in range(1_000):
        swap.enter()
        time.monotonic()
        swap.leave()
    swap.enter()
    gc.collect()
    assert repr(time.monotonic).startswith("<built-in method monotonic")
    swap.leave()
    gc.collect()
    assert sys.getrefcount(stand_in) == before
    assert abs(sys.getrefcount(time) - of_time) < 100  # Others come and go, but not 1,000.
    assert time.monotonic.__self__ is time  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "odd", [len.__class__, telling, math.pi, Datetime.now.__class__, operator.itemgetter(0)]
)
def test_what_is_no_builtin_function_is_refused(odd: Any) -> None:
    with pytest.raises(TypeError):
        Swap(odd, telling)


def test_a_builtin_of_an_unknown_convention_is_refused() -> None:
    with pytest.raises(TypeError, match="calling convention"):
        Swap(math.gcd, telling)  # METH_FASTCALL alone: nothing to hand the arguments to.


def test_a_class_method_of_a_c_type_is_seen_at_once_however_warm_it_is() -> None:
    def now() -> Any:
        return Datetime.now()

    class Derived(Datetime):
        """One of those that libraries make."""

    swap = MethodSwap(Datetime, "now", telling)
    for _ in range(3):
        for _ in range(100):
            assert isinstance(now(), Datetime)
            assert isinstance(Derived.now(), Derived)
        swap.enter()
        told = now(), Derived.now(tz=datetime.UTC)
        swap.leave()
        assert isinstance(now(), Datetime)
        assert told[0][0] == (Datetime,)
        assert told[1][:2] == ((Derived,), {"tz": datetime.UTC})
        assert isinstance(told[1][2], Derived)


def test_attributes_own_and_inherited() -> None:
    class Base:
        def name(self) -> str:
            return "base"

    class Derived(Base):
        """Has nothing of its own."""

    swaps: list[Swappable] = [
        AttributeSwap(Derived, "name", lambda real: lambda self: f"a {real(self)}"),
        exchange(Base, "name", lambda real: lambda self: f"the {real(self)}"),
    ]
    for swap in swaps:
        swap.enter()
    assert (Derived().name(), Base().name()) == ("a base", "the base")
    for swap in swaps:
        swap.leave()
    assert (Derived().name(), Base().name()) == ("base", "base")
    assert "name" not in vars(Derived)
