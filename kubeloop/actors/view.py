"""A view: what one actor knows of the cluster, folded from facts. Pure.

Objects are decoded once, on arrival, and never changed afterwards: whoever wants to write makes a
copy. `changed` holds what changed since the owner last took it, and the revisions of the facts.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from kubeloop.api.catalogue import BUILT_IN, DEFINITIONS, Catalogue
from kubeloop.api.resources import RESOURCES
from kubeloop.store.facts import Fact, key_of

Object = Mapping[str, Any]
Index = Callable[[Object], Iterable[str]]
Sign = Callable[[Object], Any]
Changed = tuple[str, Object | None, Object | None, int]
"""Key, what it was, what it is, and the revision of the fact that told it."""

CUSTOM: Final = "*"
_NONE: Final[dict[str, Object]] = {}
_SILENT: Final[tuple[Any, float, int]] = (None, 0.0, 0)


class View:
    """Objects by resource and key, with indexes.

    indexes: (resource, index name) → function from an object to the values it is found under. What
             is told for the resource "*" holds for every custom one.
    signs:   resource → function from an object to the sign of life it is, None if it is none. When
             that last changed is remembered by the clock of who looks: the one who signs may have a
             wrong one. After none the same sign is a new one.
    now_s:   when what is folded is heard, seconds since 1970; the owner sets it.
    """

    def __init__(
        self,
        indexes: Mapping[tuple[str, str], Index] | None = None,
        signs: Mapping[str, Sign] | None = None,
    ) -> None:
        self.now_s = 0.0
        self._signs = dict(signs or {})
        self._signed: dict[str, tuple[Any, float, int]] = {}
        self.revision = 0
        self.synced = False
        self._catalogue: Catalogue | None = BUILT_IN
        self.changed: list[Changed] = []
        self._objects: dict[str, dict[str, Object]] = defaultdict(dict)
        self._indexes: dict[str, dict[str, Index]] = defaultdict(dict)
        for (resource, index), values in (indexes or {}).items():
            self._indexes[resource][index] = values
        self._found: dict[tuple[str, str], dict[str, dict[str, Object]]] = defaultdict(dict)

    def begin(self) -> None:
        """Forget everything: a list follows."""
        self._objects.clear()
        self._found.clear()
        self._signed.clear()
        self._catalogue = None
        self.changed.clear()
        self.synced = False

    @property
    def catalogue(self) -> Catalogue:
        """The kinds there are, as far as definitions have been heard of."""
        if self._catalogue is None:
            self._catalogue = Catalogue.of(self.list(DEFINITIONS))
        return self._catalogue

    def finish(self, revision: int) -> None:
        """The list is complete, as of `revision`."""
        self.synced = True
        self.revision = max(self.revision, revision)

    def fold(self, fact: Fact) -> None:
        """Bring the view up to one fact; append it to `changed`."""
        resource, key = fact.resource, fact.key
        objects = self._objects[resource]
        before, after = objects.get(key), fact.object()
        if after is None:
            objects.pop(key, None)
        else:
            objects[key] = after
        if resource == DEFINITIONS:
            self._catalogue = None
        indexes = self._indexes.get(resource) or (
            {} if resource in RESOURCES else self._indexes.get(CUSTOM, {})
        )
        for index, values in indexes.items():
            found = self._found[resource, index]
            for value in set(values(before)) if before is not None else ():
                del found[value][key]
                if not found[value]:
                    del found[value]
            for value in values(after) if after is not None else ():
                found.setdefault(value, {})[key] = after  # type: ignore[assignment]
        if resource in self._signs:
            self._sign(resource, key, after, fact.revision)
        self.revision = max(self.revision, fact.revision)
        self.changed.append((key, before, after, fact.revision))

    def _sign(self, resource: str, key: str, after: Object | None, revision: int) -> None:
        if after is None:
            self._signed.pop(key, None)
            return
        sign, known = self._signs[resource](after), self._signed.get(key, _SILENT)
        if sign is None:
            self._signed[key] = None, known[1], known[2]
        elif known[0] != sign:
            self._signed[key] = sign, self.now_s, revision

    def signed(self, key: str) -> tuple[float, int]:
        """Return when an object last gave a sign of life, and the revision; zeros if never.

        Seconds since 1970, by the clock of who looks.
        """
        _, at_s, revision = self._signed.get(key, _SILENT)
        return at_s, revision

    def advance(self, revision: int) -> None:
        """Hear that all facts up to `revision` have been folded."""
        self.revision = max(self.revision, revision)

    def take_changed(self) -> list[Changed]:
        """Return and forget the changes since the last call, oldest first."""
        changed, self.changed = self.changed, []
        return changed

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return one object, None if there is none. Never change it."""
        return self._objects[resource].get(key_of(resource, namespace, name))

    def list(self, resource: str) -> Iterator[Object]:
        """Yield the objects of `resource`, in the order they were first seen."""
        yield from self._objects[resource].values()

    def by(self, resource: str, index: str, value: str) -> Iterator[Object]:
        """Yield the objects found under `value` of `index`."""
        yield from self._found[resource, index].get(value, _NONE).values()

    def count(self, resource: str, index: str, value: str) -> int:
        """Return how many objects are found under `value` of `index`."""
        return len(self._found[resource, index].get(value, _NONE))
