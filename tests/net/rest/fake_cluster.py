"""A cluster that is an API server over a store and nothing else: no controllers, no kubelets."""

import random
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgpack

from kubeloop.actors.requests.bootstrap import bootstrap_objects
from kubeloop.actors.requests.core import Core
from kubeloop.actors.requests.definitions import Definitions
from kubeloop.actors.requests.reader import Reader
from kubeloop.actors.requests.state import Settings
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.catalogue import BUILT_IN, Catalogue
from kubeloop.api.custom import CustomKind
from kubeloop.api.errors import InternalError
from kubeloop.api.resources import BY_KIND
from kubeloop.api.streams import Connection, Session
from kubeloop.net.gate import Feed, Wake, Wanted
from kubeloop.net.streaming.seams import Wishes
from kubeloop.store.store import Store

TOKEN = "a-token"


class Nowhere:
    """Nodes that are not there."""

    async def session(self, pod: Mapping[str, Any], wishes: Wishes) -> Session:
        raise InternalError("nothing runs here")

    async def connect(self, pod: Mapping[str, Any], port: int, *, local: bool) -> Connection:
        raise ConnectionRefusedError("nothing runs here")


class FakeCluster:
    """A backend that answers at once."""

    def __init__(self) -> None:
        self.fleet = Nowhere()
        self.store = Store.memory()
        self.hub = self.store.hub
        settings = Settings()
        bits = random.Random(1).getrandbits
        self.core = Core(self.store, wall=time.time, bits=bits, settings=settings)
        self.reader = Reader(self.store, Definitions(self.store))
        self.failures: dict[str, str] = {}
        self.written: list[tuple[float, bytes]] = []
        for obj in bootstrap_objects(settings):
            resource = BY_KIND[obj["apiVersion"], obj["kind"]]
            namespace = obj["metadata"].get("namespace", "")
            self.do(Request("create", resource.id, namespace, body=msgpack.packb(obj)))

    def failing(self) -> dict[str, str]:
        return self.failures

    def do(self, request: Request) -> Outcome:
        outcome = self.core.handle(request)
        self.store.flush(lambda error: None)
        return outcome

    async def ask(self, request: Request) -> Outcome:
        return self.do(request)

    def read(self, request: Request) -> Outcome | None:
        return self.reader.read(request)

    async def open(self, wanted: Wanted, wake: Wake) -> Feed:
        return self.hub.open(
            resources=[wanted.resource],
            revision=wanted.revision,
            namespace=wanted.namespace,
            name=wanted.name,
            node=wanted.node,
            labels=wanted.labels,
            wake=wake,
        )

    async def convert(
        self, kind: CustomKind, objects: Mapping[tuple[str, int], dict[str, Any]]
    ) -> list[dict[str, Any]]:
        raise AssertionError("nothing is converted here")

    def catalogue(self) -> Catalogue:
        return BUILT_IN

    def counts(self) -> Mapping[str, int]:
        return {"configmaps": len(self.store.list("/registry/configmaps/").keys)}

    def revision(self) -> int:
        return self.store.durable

    async def logs(
        self, namespace: str, pod: str, container: str, *, previous: bool, follow: bool
    ) -> AsyncIterator[tuple[float, bytes]]:
        for line in self.written:
            yield line
        if follow:
            yield (2e9, b"and then\n")
