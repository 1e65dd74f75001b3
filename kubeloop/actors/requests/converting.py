"""Custom objects in another version than they are stored in: those that need a webhook for it.

As with admission webhooks, a request that comes to one is suspended, the webhook is asked, and the
request is handled anew. What a stored object became is remembered by its key and revision: lists
and reads ask once. An object on its way into the store is known to its request alone.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from kubeloop.actors.requests.hooks import ATTEMPTS_MAX, Attempt, Suspended
from kubeloop.api.conversion import ConversionFailed
from kubeloop.api.custom import CustomKind
from kubeloop.api.errors import InternalError
from kubeloop.store.history import Stored

_KNOWN_MAX: Final = 20_000  # Objects.
_OBJECTS_MAX: Final = 500  # Objects in one question: bounds what a webhook has to hold.

Object = dict[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion webhook is asked about a request.

    wanted:  the apiVersion.
    objects: packed, each under a key that says what it is.
    """

    webhook: Mapping[str, Any]
    wanted: str
    keys: tuple[Key, ...]
    objects: tuple[bytes, ...]
    uid: str


class Conversions:
    """What stored objects became in other versions. Bounded: the oldest go."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, bytes] = OrderedDict()

    def note(self, attempt: Attempt, question: Conversion, packed: bytes) -> None:
        """Note what a webhook said."""
        made, failure = msgpack.unpackb(packed)
        attempt.conversions += 1
        if failure:
            attempt.failure = failure
            return
        for key, value in zip(question.keys, made, strict=True):
            attempt.converted[key] = value
            if key[0]:  # It is stored, and will always be this.
                self._known[key] = value
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)

    def stored(
        self,
        kind: CustomKind,
        items: Iterable[Stored],
        attempt: Attempt | None,
        uid: Callable[[], str],
    ) -> list[Object | None]:
        """Return stored objects in a version of their kind, as far as a webhook is needed.

        None for one that is stored in this version.
        Raises: Suspended if a webhook has to be asked; ConversionFailed.
        """
        wanted: list[tuple[Key, bytes] | None] = []
        for item in items:
            same = item.revision >= kind.revision and kind.storage == kind.api_version
            if same or msgpack.unpackb(item.value)["apiVersion"] == kind.api_version:
                wanted.append(None)
            else:
                key = (item.key, item.revision, kind.api_version, kind.edition)
                wanted.append((key, item.value))
        made = self._found(kind, kind.api_version, [w for w in wanted if w], attempt, uid)
        return [None if one is None else made[one[0]] for one in wanted]

    def given(
        self,
        kind: CustomKind,
        obj: Object,
        wanted: str,
        attempt: Attempt | None,
        uid: Callable[[], str],
    ) -> Object:
        """Return an object that is not stored yet in another version. Raises: as `stored`."""
        packed = msgpack.packb(obj)
        key = ("", packed, wanted, kind.edition)
        return self._found(kind, wanted, [(key, packed)], attempt, uid)[key]

    def _found(
        self,
        kind: CustomKind,
        wanted: str,
        objects: list[tuple[Key, bytes]],
        attempt: Attempt | None,
        uid: Callable[[], str],
    ) -> dict[Key, Object]:
        found, missing = {}, []
        own = {} if attempt is None else attempt.converted
        for key, packed in objects:
            known = own.get(key) or self._known.get(key)
            if known is None:
                missing.append((key, packed))
            else:
                found[key] = msgpack.unpackb(known)
        if not missing:
            return found
        attempt = Attempt() if attempt is None else attempt
        if attempt.failure:
            raise ConversionFailed(attempt.failure)
        if attempt.conversions >= ATTEMPTS_MAX + len(objects) // _OBJECTS_MAX:
            raise InternalError("others change the objects faster than a webhook converts them")
        assert kind.webhook is not None
        asked = missing[:_OBJECTS_MAX]
        keys, values = tuple(key for key, _ in asked), tuple(packed for _, packed in asked)
        raise Suspended(Conversion(kind.webhook, wanted, keys, values, uid()), attempt)
