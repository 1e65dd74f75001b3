"""Invariants of one's own.

@chaos.invariant
def no_secret_is_plain(sight: chaos.Sight) -> None:
    for one in sight.objects("configmaps"):
        assert "password" not in one.get("data", {}), one["metadata"]["name"]

chaos.play(plan, monitors=lambda: [*chaos.standard(), no_secret_is_plain])
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal, overload

from kubeloop.chaos.invariants.tale import Object, Tale
from kubeloop.chaos.watching import Broken
from kubeloop.store.facts import Fact

if TYPE_CHECKING:
    from kubeloop.chaos.stage import Mark, Stage

When = Literal["always", "settled"]
_WHENS: Final = ("always", "settled")


class Sight:
    """The cluster as its facts tell it; to be read, and not to be changed.

    Kinds are named as in kubectl: "pods", "pod", "po", "Pod", "deployments.apps".
    """

    def __init__(self, tale: Tale) -> None:
        self._tale = tale

    def objects(self, kind: str, *, namespace: str = "") -> list[Object]:
        """Return the objects of a kind, of one namespace or of all, the oldest first."""
        found = self._tale.view.list(self._tale.view.catalogue.named(kind).id)
        if not namespace:
            return list(found)
        return [obj for obj in found if obj["metadata"].get("namespace") == namespace]

    def get(self, kind: str, name: str, namespace: str = "default") -> Object | None:
        """Return one object, None if there is none."""
        resource = self._tale.view.catalogue.named(kind)
        return self._tale.view.get(resource.id, namespace if resource.namespaced else "", name)

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._tale.revision

    @property
    def time_s(self) -> float:
        """The virtual time, in seconds since the simulation began."""
        return self._tale.now_s

    @property
    def marks(self) -> "Sequence[Mark]":
        """What users have done so far, and what has broken and healed."""
        return self._tale.stage.marks

    @property
    def is_calm(self) -> bool:
        """Whether nothing has been broken for so long that all who were restarted are at work."""
        return self._tale.is_calm


Check = Callable[[Sight], None]


class Invariant:
    """A function of a `Sight` that must not fail. Implements `Monitor`.

    when: "always": it is called after every flush, and at rest; "settled": at rest only.

    It may be called like the function. It is used in one run after another, never in two at once;
    a function that remembers something must therefore be made anew for each run.
    """

    def __init__(self, check: Check, when: When = "always") -> None:
        if when not in _WHENS:
            raise ValueError(f"when={when!r}: must be one of {list(_WHENS)}")
        self.check, self.when = check, when
        self.name = getattr(check, "__name__", type(check).__name__)
        self.__doc__ = check.__doc__

    def __call__(self, sight: Sight) -> None:
        self.check(sight)

    def begin(self, stage: "Stage") -> None:
        self._tale = Tale()
        self._tale.begin(stage)
        self._sight = Sight(self._tale)

    def heard(self, facts: Sequence[Fact]) -> None:
        self._tale.follow(facts)
        if self.when == "always":
            self._look()

    def end(self) -> None:
        self._look()

    def _look(self) -> None:
        try:
            self.check(self._sight)
        except Broken:
            raise
        except AssertionError as error:
            raise Broken(str(error) or f"{self.name} does not hold") from error


@overload
def invariant(check: Check, /) -> Invariant: ...


@overload
def invariant(*, when: When = "always") -> Callable[[Check], Invariant]: ...


def invariant(
    check: Check | None = None, /, *, when: When = "always"
) -> Invariant | Callable[[Check], Invariant]:
    """Make a function of a `Sight` an invariant; an AssertionError of it is a violation.

    when: "always" or "settled"; see `Invariant`. Any other exception of it ends the run, too.
    """
    if check is not None:
        return Invariant(check, when)
    return lambda function: Invariant(function, when)
