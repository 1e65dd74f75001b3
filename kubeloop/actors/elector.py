"""Runs what only one may run: begins it when elected, ends it when that is over.

Where several processes share a store, each has an elector for the controllers and for the
scheduler. Source: client-go's leaderelection; kube-controller-manager's `--leader-elect`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgpack
from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Scene
from kubeloop.actors.election import RETRY_S, Election
from kubeloop.actors.messages import API_SERVER, Outcome, Request, decode
from kubeloop.actors.signing import ERA_BITS, Signer

NAMESPACE = "kube-system"
LEASES = "leases.coordination.k8s.io"


class Elector(AsyncActor):
    """Stands for one Lease.

    begin, end: called in turn, never twice without the other; `end` also when it stops.
    """

    def __init__(
        self,
        scene: Scene,
        name: str,
        *,
        lease: str,
        identity: str,
        begin: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        super().__init__(scene, name)
        self.election = Election(NAMESPACE, lease, identity)
        self.user = f"system:{lease}"
        self._signer = Signer(name, self.user, self.world.rng.getrandbits(ERA_BITS))
        self._begin, self._end = begin, end
        self._began = False
        self._round = 0
        self._sent_at = 0.0
        self._try_at = 0.0

    def on_stop(self) -> None:
        self._lead(False)

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        now = self.world.now()
        for envelope in envelopes:
            message = decode(envelope.message)
            if not isinstance(message, Outcome):
                raise TypeError(f"an elector was sent {message!r}")
            if message.tag == f"read {self._round}":
                self._read(message)
            elif message.tag == f"write {self._round}" and message.code < 300:
                self.election.wrote(self._sent_at)
        if now >= self._try_at:
            self._try_at = now + RETRY_S
            self._round += 1  # An answer to an earlier one comes too late to count.
            self._ask("get", "read", name=self.election.name)
        self._lead(self.election.tick(now))
        self.wake_in(max(0.0, self._try_at - now), "try")

    def _read(self, outcome: Outcome) -> None:
        if outcome.code not in (200, 404):
            return
        lease = msgpack.unpackb(outcome.body) if outcome.code == 200 else None
        self._sent_at = self.world.now()
        wanted = self.election.wanted(lease, self._sent_at, self.world.wall())
        if wanted is None:
            return
        if lease is None:
            del wanted["metadata"]["resourceVersion"]
            self._ask("create", "write", body=msgpack.packb(wanted))
        else:
            self._ask("update", "write", name=self.election.name, body=msgpack.packb(wanted))

    def _ask(self, verb: str, kind: str, *, name: str = "", body: bytes = b"") -> None:
        request = Request(verb, LEASES, NAMESPACE, name, body=body)
        signed = self._signer.sign(request, 0, tag=f"{kind} {self._round}")
        self.send(API_SERVER, signed.encode())

    def _lead(self, leads: bool) -> None:
        if leads != self._began:
            self._began = leads
            (self._begin if leads else self._end)()
