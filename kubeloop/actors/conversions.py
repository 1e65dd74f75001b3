"""Asking conversion webhooks, and remembering what they said about what does not change."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgpack

from kubeloop.actors.requests.converting import Conversion
from kubeloop.actors.webhooks import Caller
from kubeloop.api.admission.webhooks import CallFailed
from kubeloop.api.conversion import TIMEOUT_S, ConversionFailed, converted, failed, review
from kubeloop.api.custom import CustomKind

_KNOWN_MAX: Final = 10_000  # Objects.

Object = dict[str, Any]
Placed = Mapping[tuple[str, int], Object]
"""Objects, each with what fact tells of it, and at which revision."""


async def convert(
    caller: Caller, webhook: Mapping[str, Any], wanted: str, objects: Sequence[Object], uid: str
) -> list[Object]:
    """Return objects in another version. Raises: ConversionFailed."""
    asked = review(webhook, wanted, objects, uid)
    try:
        answer = await caller.call(webhook["clientConfig"], asked, TIMEOUT_S)
    except CallFailed as error:
        raise failed(objects[0], str(error)) from None
    return converted(objects, wanted, asked, answer)


async def answer(caller: Caller, question: Conversion) -> bytes:
    """Return what a webhook says to a question of a request, packed for its `Attempt`."""
    objects = [msgpack.unpackb(packed) for packed in question.objects]
    try:
        made = await convert(caller, question.webhook, question.wanted, objects, question.uid)
    except ConversionFailed as error:
        return bytes(msgpack.packb([[], str(error)]))
    return bytes(msgpack.packb([[msgpack.packb(one) for one in made], ""]))


class Converter:
    """Converts what watchers are told; many of them, one question."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._known: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._asking: dict[str, asyncio.Lock] = {}
        self._asked = 0

    async def convert(self, kind: CustomKind, objects: Placed) -> list[Object]:
        """Return objects in the version of a kind. objects: by key and revision.

        Raises: ConversionFailed.
        """
        webhook = kind.webhook
        assert webhook is not None
        name = kind.definition["metadata"]["name"]
        async with self._asking.setdefault(name, asyncio.Lock()):
            keys = [(*one, kind.api_version, kind.edition) for one in objects]
            missing = [
                obj
                for key, obj in zip(keys, objects.values(), strict=True)
                if key not in self._known
            ]
            if missing:
                self._asked += 1
                uid = f"watch-{self._asked}"
                made = iter(await convert(self._caller, webhook, kind.api_version, missing, uid))
                for key in keys:
                    if key not in self._known:
                        self._known[key] = msgpack.packb(kind.served(next(made)))
            found = [msgpack.unpackb(self._known[key]) for key in keys]
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return found
