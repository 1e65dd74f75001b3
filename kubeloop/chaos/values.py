"""What happens in a simulated run, as small values: drawn by chance, written as JSON, made simpler.

A `Happening` is a frozen dataclass whose fields have a `Domain`: what they may be, how they are
drawn, and what is simpler. So whoever adds a kind of happening writes a class, and it can be drawn
from a seed, drawn by hypothesis, shrunk, printed as Python and stored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from kubeloop.chaos.stage import Stage

H = TypeVar("H", bound="type[Happening]")
_DIGITS: Final = 3  # Of seconds: a plan is read by people.


class Domain(Protocol):
    """What a field of a happening may be."""

    @property
    def simplest(self) -> Any:
        """What it is if it does not matter."""

    def draw(self, chance: Random) -> Any:
        """Return one of its values."""

    def simpler(self, value: Any) -> Sequence[Any]:
        """Return values worth trying instead of this one, the simplest first; none if it is."""

    def check(self, value: Any) -> str:
        """Return what is wrong with a value, "" if nothing is."""

    def strategy(self) -> "SearchStrategy[Any]":
        """Return hypothesis' strategy for it."""


@dataclass(frozen=True, slots=True)
class Real:
    """A number from `low` to `high`, the lower the simpler, in thousandths."""

    low: float
    high: float

    @property
    def simplest(self) -> float:
        """The least."""
        return self.low

    def draw(self, chance: Random) -> float:
        return round(chance.uniform(self.low, self.high), _DIGITS)

    def simpler(self, value: float) -> Sequence[float]:
        tries = [self.low, float(int(value)), round((self.low + value) / 2, _DIGITS)]
        return [number for number in dict.fromkeys(tries) if self.low <= number < value]

    def check(self, value: Any) -> str:
        if isinstance(value, int | float) and self.low <= value <= self.high:
            return ""
        return f"must be a number from {self.low} to {self.high}"

    def strategy(self) -> "SearchStrategy[float]":
        from hypothesis import strategies as st

        scale = 10**_DIGITS
        whole = st.integers(round(self.low * scale), round(self.high * scale))
        return whole.map(lambda number: number / scale)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`, the lower the simpler."""

    low: int
    high: int

    @property
    def simplest(self) -> int:
        """The least."""
        return self.low

    def draw(self, chance: Random) -> int:
        return chance.randint(self.low, self.high)

    def simpler(self, value: int) -> Sequence[int]:
        tries = [self.low, (self.low + value) // 2, value - 1]
        return [number for number in dict.fromkeys(tries) if self.low <= number < value]

    def check(self, value: Any) -> str:
        if isinstance(value, int) and self.low <= value <= self.high:
            return ""
        return f"must be a whole number from {self.low} to {self.high}"

    def strategy(self) -> "SearchStrategy[int]":
        from hypothesis import strategies as st

        return st.integers(self.low, self.high)


class OneOf:
    """One of some values, the simplest first."""

    def __init__(self, *values: Any) -> None:
        self.values = values
        self.simplest = values[0]

    def draw(self, chance: Random) -> Any:
        return chance.choice(self.values)

    def simpler(self, value: Any) -> Sequence[Any]:
        return self.values[: self.values.index(value)]

    def check(self, value: Any) -> str:
        return "" if value in self.values else f"must be one of {list(self.values)}"

    def strategy(self) -> "SearchStrategy[Any]":
        from hypothesis import strategies as st

        return st.sampled_from(self.values)


class Mostly(OneOf):
    """One of some values, every other time the first: for what narrows down whom it hits.

    Drawn evenly, hardly any fault of a resource would hit the one that somebody writes just then.
    """

    def draw(self, chance: Random) -> Any:
        return self.simplest if chance.random() < 0.5 else super().draw(chance)


FLAG: Final = OneOf(False, True)


def drawn(domain: Domain) -> Any:
    """Return the dataclass field of this domain; if it is not told it is the simplest."""
    return field(default=domain.simplest, metadata={"domain": domain})


@dataclass(frozen=True, kw_only=True)
class Happening:
    """Something that happens in a run.

    kind:    how it is called in JSON.
    founds:  whether it makes what others need: drawn plans begin with one of these.
    at_s:    when, in virtual seconds after the cluster has become ready.
    """

    kind: ClassVar[str] = ""
    founds: ClassVar[bool] = False
    at_s: float = drawn(Real(0.0, 60.0))

    async def happen(self, stage: "Stage") -> None:
        """Do it; override."""
        raise NotImplementedError


KINDS: Final[dict[str, type[Happening]]] = {}


def kind(name: str) -> Callable[[H], H]:
    """Return a decorator that makes a dataclass of happenings known as `name`."""

    def known(cls: H) -> H:
        assert name not in KINDS, f"there are two kinds called {name}"
        cls.kind = name
        KINDS[name] = cls
        return cls

    return known


def draw(cls: type[Happening], chance: Random) -> Happening:
    """Return a happening of a kind, drawn by chance."""
    return cls(**{name: domain.draw(chance) for name, domain in domains(cls).items()})


def strategy(cls: type[Happening]) -> "SearchStrategy[Happening]":
    """Return hypothesis' strategy for the happenings of a kind."""
    from hypothesis import strategies as st

    return st.builds(cls, **{name: d.strategy() for name, d in domains(cls).items()})


def simpler(happening: Happening) -> list[Happening]:
    """Return happenings that differ in one field, which is simpler, the boldest first."""
    return [
        replace(happening, **{name: value})
        for name, domain in domains(type(happening)).items()
        for value in domain.simpler(getattr(happening, name))
    ]


def to_json(happening: Happening) -> dict[str, Any]:
    """Return a happening as JSON: its kind, and what is not as simple as can be."""
    told = {
        one.name: getattr(happening, one.name)
        for one in fields(happening)
        if getattr(happening, one.name) != one.default
    }
    return {"kind": happening.kind, **told}


def from_json(data: Mapping[str, Any]) -> Happening:
    """Invert `to_json`. Raises: ValueError that names the field, the value and what is right."""
    name = data.get("kind")
    cls = KINDS.get(str(name))
    if cls is None:
        raise ValueError(f"kind: {name!r}: must be one of {sorted(KINDS)}")
    known = {one.name: one for one in fields(cls)}
    for key, value in data.items():
        if key == "kind":
            continue
        if key not in known:
            raise ValueError(f"{name}.{key}: there is no such field; there are {sorted(known)}")
        domain = known[key].metadata.get("domain")
        wrong = domain.check(value) if domain is not None else ""
        if wrong:
            raise ValueError(f"{name}.{key}: {value!r}: {wrong}")
    missing = [key for key, one in known.items() if _is_needed(one) and key not in data]
    if missing:
        raise ValueError(f"{name}.{missing[0]}: is missing")
    return cls(**{key: value for key, value in data.items() if key != "kind"})


def domains(cls: type[Happening]) -> dict[str, Domain]:
    """Return the domain of each field that has one."""
    return {one.name: one.metadata["domain"] for one in fields(cls) if "domain" in one.metadata}


def _is_needed(one: "Field[Any]") -> bool:
    return one.default is MISSING and one.default_factory is MISSING
