"""The way from a cluster to its webhooks: made when the first is called, as it costs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgpack

from kubeloop.actors.conversions import Converter, Object, Placed
from kubeloop.api.custom import CustomKind
from kubeloop.store.facts import key_of, prefix_of
from kubeloop.store.store import Store

if TYPE_CHECKING:
    from kubeloop.net.webhooks import WebhookCaller

_SLICES = "endpointslices.discovery.k8s.io"
_SERVICE = "kubernetes.io/service-name"


class Webhooks:
    """Calls webhooks, those of Services by what the store knows of them. Implements `Caller`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._caller: WebhookCaller | None = None
        self._converter = Converter(self)

    async def convert(self, kind: CustomKind, objects: Placed) -> list[Object]:
        """Return custom objects in the version of a kind. Raises: ConversionFailed."""
        return await self._converter.convert(kind, objects)

    async def call(
        self, config: Mapping[str, Any], review: Mapping[str, Any], timeout_s: int
    ) -> Any:
        """Send a review; return the answer, decoded. Raises: CallFailed."""
        if self._caller is None:
            from kubeloop.net.webhooks import WebhookCaller

            self._caller = WebhookCaller(self._find)
        return await self._caller.call(config, review, timeout_s)

    async def close(self) -> None:
        """End all connections; harmless if there are none."""
        if self._caller is not None:
            await self._caller.close()

    def _find(self, namespace: str, name: str, port: int) -> tuple[str, int] | None:
        from kubeloop.net.webhooks import endpoint

        service = self._store.get(key_of("services", namespace, name))
        if service is None:
            return None
        slices = map(msgpack.unpackb, self._store.list(prefix_of(_SLICES, namespace)).values)
        own = [s for s in slices if (s["metadata"].get("labels") or {}).get(_SERVICE) == name]
        return endpoint(msgpack.unpackb(service.value), own, port)
