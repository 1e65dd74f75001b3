"""kube-proxy: the shell around `routing`: it hears of Services and tells its data path.

One per node. What the data path cannot do (a port that another program holds) becomes an event on
the Service, so that `kubectl describe service` says why nothing answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Scene
from kubeloop.actors.events import Recorder
from kubeloop.actors.messages import (
    API_SERVER,
    Facts,
    Listing,
    Note,
    Outcome,
    Subscribe,
    Synced,
    decode,
)
from kubeloop.actors.routing import (
    BALANCING,
    BALANCINGS,
    SERVICE_NAME,
    Place,
    Rule,
    RuleTable,
    balancing_of,
)
from kubeloop.actors.signing import ERA_BITS, Signer
from kubeloop.actors.view import Object, View

USER = "system:kube-proxy"
_SERVICES = "services"
_SLICES = "endpointslices.discovery.k8s.io"
_NODES = "nodes"
_ZONE = "topology.kubernetes.io/zone"
_NODE_KEY = f"/registry/{_NODES}/"
_RETRY_S = 5.0  # How often a place that could not be opened is tried again.


class Troubled(Protocol):
    """Hears that a place could not be opened."""

    def __call__(self, rule: Rule, address: str, why: str) -> None:
        """rule: what was to be opened;  address: "127.0.0.1:31001";  why: the system's words."""


class DataPath(Protocol):
    """What carries the connections."""

    name: str  # "userspace", "none": shown in `kubeloop status`.

    def apply(self, changes: Mapping[Place, Rule | None]) -> None:
        """Listen where a rule is, stop where there is None; returns at once."""

    def replace(self, rules: Mapping[Place, Rule]) -> None:
        """Have these rules and no others; places that stay keep their connections."""

    def retry(self) -> None:
        """Try again what could not be opened."""

    def listen(self, troubled: Troubled) -> None:
        """Have `troubled` called, from the loop, when a place cannot be opened."""


class KubeProxy(AsyncActor):
    """Keeps one node's data path in step with Services and EndpointSlices."""

    def __init__(self, scene: Scene, name: str, *, node: str, data_path: DataPath) -> None:
        super().__init__(scene, name)
        self.node, self.data_path = node, data_path
        self.table = RuleTable(node)
        self.view = View({(_SLICES, "service"): _service_of})
        self.recorder = Recorder("kube-proxy", node)
        self._signer = Signer(name, USER, self.world.rng.getrandbits(ERA_BITS))
        self._retry_at: float | None = None
        self._puzzled: dict[str, str] = {}  # By uid of Services: what was told of them.

    def on_start(self) -> None:
        self.data_path.listen(self._report)
        self.send(
            API_SERVER, Subscribe(self.name, [_SERVICES, _SLICES, _NODES], self.node).encode()
        )

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        listed = False
        for envelope in envelopes:
            message = decode(envelope.message)
            if isinstance(message, Listing):
                self.view.begin()
                listed = True
            elif isinstance(message, Facts) and (self.view.synced or listed):
                for fact in message.facts():
                    self.view.fold(fact)
            elif isinstance(message, Synced):
                self.view.finish(message.revision)
                self._start_over()
            elif isinstance(message, Note):
                self._tell_trouble(message.content())
            elif not isinstance(message, Facts | Outcome):
                raise TypeError(f"kube-proxy was sent {message!r}")
        if self._retry_at is not None and self.world.now() >= self._retry_at:
            self._retry_at = None
            self.data_path.retry()
        if self.view.synced:
            self._follow()

    def busy(self) -> str | None:
        return super().busy() if self.view.synced else "has not heard its list"

    def _start_over(self) -> None:
        """Rebuild the table from a fresh list; places that are still wanted stay open."""
        self.view.take_changed()
        self.table = RuleTable(self.node, self._zone())
        for service in self.view.list(_SERVICES):
            name = _full_name(service)
            self.table.replace(name, service, self.view.by(_SLICES, "service", name))
        self.data_path.replace(dict(self.table.rules))

    def _zone(self) -> str:
        """Return the zone of our node, "" if nothing says."""
        node = self.view.get(_NODES, "", self.node)
        labels = (node or {}).get("metadata", {}).get("labels") or {}
        return str(labels.get(_ZONE, ""))

    def _follow(self) -> None:
        """Recompute the Services that a change touches, each once; all, if our node has moved."""
        if self._zone() != self.table.zone:
            self._start_over()
            return
        dirty: dict[str, None] = {}
        for key, before, after, _ in self.view.take_changed():
            if key.startswith(_NODE_KEY):
                continue
            for obj in (before, after):
                if obj is None:
                    continue
                names = [_full_name(obj)] if f"/{_SERVICES}/" in key else _service_of(obj)
                dirty.update(dict.fromkeys(names))
        changes: dict[Place, Rule | None] = {}
        for name in dirty:
            namespace, _, short = name.partition("/")
            service = self.view.get(_SERVICES, namespace, short)
            slices = self.view.by(_SLICES, "service", name)
            if service is not None:
                self._check_balancing(service)
            changes.update(self.table.replace(name, service, slices))
        if changes:
            self.data_path.apply(changes)

    def _check_balancing(self, service: Object) -> None:
        """Tell of a Service that wants its endpoints chosen in a way there is not."""
        told, uid = balancing_of(service), service["metadata"]["uid"]
        if told in BALANCINGS:
            self._puzzled.pop(uid, None)
        elif self._puzzled.get(uid) != told:
            self._puzzled[uid] = told
            message = (
                f"{BALANCING} is {told!r}: endpoints are chosen at random, as it knows only "
                f"{', '.join(BALANCINGS)}"
            )
            self._tell(service, "UnknownBalancing", message)

    def _tell(self, service: Object, reason: str, message: str) -> None:
        """Write a warning about a Service."""
        event = self.recorder.record(service, "Warning", reason, message, wall_s=self.world.wall())
        because = int(service["metadata"]["resourceVersion"])
        self.send(API_SERVER, self._signer.sign(event, because).encode())

    def _report(self, rule: Rule, address: str, why: str) -> None:
        """Take the data path's word that it could not open a place; called from the loop."""
        other = "another nodePort" if rule.kind == "NodePort" else "another port or address"
        self.note(Note.of("trouble", [rule.service, address, why, other]))

    def _tell_trouble(self, content: Sequence[str]) -> None:
        service_name, address, why, other = content
        namespace, _, name = service_name.partition("/")
        service = self.view.get(_SERVICES, namespace, name)
        if service is None:
            return
        message = (
            f"{self.node} cannot listen on {address}: {why}. Stop the program that holds the port, "
            f"or give the Service {other}"
        )
        self._tell(service, "FailedToOpenPort", message)
        if self._retry_at is None:
            self._retry_at = self.world.now() + _RETRY_S
            self.wake_in(_RETRY_S, "retry")


class TableOnly:
    """A data path that carries nothing: for nodes whose pods are simulated."""

    name = "none"

    def __init__(self) -> None:
        self.rules: dict[Place, Rule] = {}

    def apply(self, changes: Mapping[Place, Rule | None]) -> None:
        for place, rule in changes.items():
            if rule is None:
                self.rules.pop(place, None)
            else:
                self.rules[place] = rule

    def replace(self, rules: Mapping[Place, Rule]) -> None:
        self.rules = dict(rules)

    def retry(self) -> None:
        """Nothing can have failed."""

    def listen(self, troubled: Troubled) -> None:
        """Nothing can fail."""


def _full_name(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _service_of(slice_: Object) -> list[str]:
    metadata = slice_["metadata"]
    name = (metadata.get("labels") or {}).get(SERVICE_NAME)
    return [f"{metadata['namespace']}/{name}"] if name else []
