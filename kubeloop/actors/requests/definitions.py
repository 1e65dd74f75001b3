"""The kinds there are, read from the store: the catalogue follows the definitions in it."""

from typing import Any

import msgpack

from kubeloop.api.catalogue import BUILT_IN, DEFINITIONS, Catalogue
from kubeloop.store.facts import prefix_of
from kubeloop.store.store import Store

_PREFIX = prefix_of(DEFINITIONS)


class Definitions:
    """Remembers the catalogue as long as no definition is written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: tuple[int, ...] = ()
        self._at = -1
        self._catalogue = BUILT_IN

    def catalogue(self, revision: int | None = None) -> Catalogue:
        """Return the catalogue, now or at a revision. Cost: O(definitions), 5 µs without any."""
        at = self._store.revision if revision is None else revision
        if at == self._at:
            return self._catalogue
        page = self._store.list(_PREFIX, revision=revision)
        known = tuple(page.revisions)
        if known != self._known:
            found: list[Any] = [msgpack.unpackb(value) for value in page.values]
            self._known, self._catalogue = known, Catalogue.of(found)
        self._at = at
        return self._catalogue
