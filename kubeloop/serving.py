"""What a cluster is to its clients: requests, reads, watches; through a gate if there is one."""

from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any

import msgpack

from kubeloop.actors.actor import ActorFailed, MailboxFull
from kubeloop.actors.conversions import Object, Placed
from kubeloop.actors.messages import API_SERVER
from kubeloop.actors.requests.core import READS
from kubeloop.actors.requests.definitions import Definitions
from kubeloop.actors.requests.reader import Reader
from kubeloop.actors.signing import ERA_BITS, Signer
from kubeloop.actors.supervisor import NoSuchActor, Supervisor
from kubeloop.actors.world import World
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.catalogue import Catalogue
from kubeloop.api.custom import CustomKind
from kubeloop.api.errors import InternalError, ServiceUnavailable, TooManyRequests
from kubeloop.net.gate import Feed, Gate, Severed, Wake, Wanted
from kubeloop.net.rest.health import BOOTSTRAP, INFORMERS, STORE
from kubeloop.store.etcd.outcomes import StoreUnavailable
from kubeloop.store.facts import prefix_of
from kubeloop.store.store import Store
from kubeloop.store.watch import Hub
from kubeloop.webhooks import Webhooks


class Served:
    """The part of a cluster that its API server and its store serve.

    gate: what stands between the clients and the cluster: faults, and who wants to know.
    """

    name: str
    world: World
    store: Store
    hub: Hub
    supervisor: Supervisor
    gate: Gate | None
    _webhooks: Webhooks
    _furnished = False  # What a cluster begins with is there.

    def _serve(self, *, alone: bool) -> None:
        """Begin. alone: nobody else writes to the store."""
        self._alone = alone
        self._definitions = Definitions(self.store)
        self._reader = Reader(self.store, self._definitions)
        self._signer = Signer("", "", self.world.rng.getrandbits(ERA_BITS))

    def ask(self, request: Request) -> Coroutine[Any, Any, Outcome]:
        """Have the API server handle a request. Raises: as `Gate.ask`, if there is one."""
        request = self._signed(request)
        return self._ask(request) if self.gate is None else self.gate.ask(request, self._ask)

    def read(self, request: Request) -> Outcome | None:
        """Answer a get or a list at once, if it may be; None if the API server has to be asked."""
        if self.gate is not None or not self._alone:
            return None  # What is known here is not always the newest, if others write.
        return self._reader.read(request) if self.supervisor.inbox(API_SERVER) is not None else None

    async def open(self, wanted: Wanted, wake: Wake) -> Feed:
        """Return what a watch reads. Raises: Expired; as `Gate.open`, if there is one."""
        if self.gate is None:
            return self._watch(wanted, wake)
        return await self.gate.open(wanted, wake, self._watch)

    async def convert(self, kind: CustomKind, objects: Placed) -> list[Object]:
        """Return custom objects in the version of a kind. Raises: ConversionFailed."""
        return await self._webhooks.convert(kind, objects)

    def catalogue(self) -> Catalogue:
        """Return the kinds that are served, built in and custom, as of what is durable."""
        return self._definitions.catalogue(self.store.durable)

    def _signed(self, request: Request) -> Request:
        return request if request.id else replace(request, id=self._signer.next_id())

    async def _ask(self, request: Request) -> Outcome:
        try:
            if not self._alone and request.verb in READS:
                await self.store.confirm()
            answer: bytes = await self.supervisor.ask(API_SERVER, request.encode())
        except ActorFailed as error:
            status = InternalError(str(error)).status()
            return Outcome(request.tag, 500, 0, msgpack.packb(status))
        except MailboxFull as error:
            refused = TooManyRequests(f"the API server is overloaded: {error}").status()
            return Outcome(request.tag, 429, 0, msgpack.packb(refused))
        except StoreUnavailable as error:
            status = ServiceUnavailable(str(error)).status()
            return Outcome(request.tag, 503, 0, msgpack.packb(status))
        except NoSuchActor as error:
            raise Severed(f"the cluster {self.name} does not run") from error
        return Outcome(*msgpack.unpackb(answer)[1:])

    def _watch(self, wanted: Wanted, wake: Wake) -> Feed:
        if self.supervisor.inbox(API_SERVER) is None:
            raise Severed(f"the cluster {self.name} does not run")
        return self.hub.open(
            resources=[wanted.resource],
            revision=wanted.revision,
            namespace=wanted.namespace,
            name=wanted.name,
            node=wanted.node,
            labels=wanted.labels,
            wake=wake,
        )

    def failing(self) -> Mapping[str, str]:
        """Return the health checks that fail now, by name, and why: see `net.rest.health`."""
        failed: dict[str, str] = {}
        if self.store.failure is not None:
            failed[STORE] = f"etcd failed: {self.store.failure}"
        if self.supervisor.inbox(API_SERVER) is None:
            failed[INFORMERS] = "the API server is being restarted"
        if not self._furnished:
            failed |= dict.fromkeys(BOOTSTRAP, "not finished")
        return failed

    def counts(self) -> Mapping[str, int]:
        """Return how many objects of each resource there are, by its id."""
        stored = {one.stored_id for one in self.catalogue().resources if one.stored}
        return {id_: len(self.store.list(prefix_of(id_)).keys) for id_ in sorted(stored)}

    def revision(self) -> int:
        """Return the newest durable revision."""
        return self.store.durable
