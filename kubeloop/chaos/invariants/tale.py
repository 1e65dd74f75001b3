"""The tale: the cluster as its facts tell it, folded once for all who watch a run.

Whoever watches must not believe what he watches: the tale is told by facts alone, and the rules
that are held against it are written anew here, from Kubernetes' documentation.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack

from kubeloop.actors.livelock import writer_of
from kubeloop.actors.view import View
from kubeloop.api.errors import Expired
from kubeloop.store.facts import Fact, prefix_of

if TYPE_CHECKING:
    from kubeloop.chaos.stage import Stage
    from kubeloop.cluster import Cluster

Object = Mapping[str, Any]

PODS = "pods"
NODES = "nodes"
SERVICES = "services"
SETS = "replicasets.apps"
CONTROLLERS = "replicationcontrollers"
DEPLOYMENTS = "deployments.apps"
STATEFUL = "statefulsets.apps"
BUDGETS = "poddisruptionbudgets.policy"
SLICES = "endpointslices.discovery.k8s.io"
ENDPOINTS = "endpoints"
DONE = ("Succeeded", "Failed")

LATE_S: Final = 30.0  # An actor that fails is restarted, and knows everything again, within that.
SOON_S: Final = 2.0  # When nothing is broken, what follows from a fact is done within that.


class Change(NamedTuple):
    """One fact, with the object before and after; None where there is none."""

    fact: Fact
    resource: str
    before: Object | None
    after: Object | None

    @property
    def either(self) -> Object:
        """The object as it is, or was last."""
        obj = self.before if self.after is None else self.after
        assert obj is not None
        return obj


class Tale:
    """All that was told in one run.

    stage: of the run;  view: the objects there are;  revision: of the newest fact.
    """

    stage: "Stage"

    def __init__(self) -> None:
        self.view = View({
            (PODS, "controller"): _controller,
            (PODS, "node"): _node,
            (SETS, "controller"): _controller,
            (SLICES, "service"): _service,
        })  # fmt: skip
        self.revision = 0
        self._facts: Sequence[Fact] = ()
        self._changes: list[Change] = []

    def begin(self, stage: "Stage") -> None:
        """Hear whose tale it is."""
        self.stage = stage

    def follow(self, facts: Sequence[Fact]) -> Sequence[Change]:
        """Return what some facts change; the first who asks has them folded."""
        if facts is not self._facts:
            self._facts = facts
            for fact in facts:
                self.view.fold(fact)
            changed = self.view.take_changed()
            self._changes = [
                Change(fact, fact.resource, before, after)
                for fact, (_, before, after, *_) in zip(facts, changed, strict=True)
            ]
            self.revision = facts[-1].revision
        return self._changes

    @property
    def cluster(self) -> "Cluster":
        """The cluster that runs now."""
        return self.stage.cluster

    @property
    def now_s(self) -> float:
        """The virtual time."""
        return self.stage.loop.time()

    @property
    def is_calm(self) -> bool:
        """Whether nothing has been broken for so long that all who were restarted are at work."""
        return self.now_s - self.calm_since > LATE_S

    def is_late(self, since: float) -> bool:
        """Tell whether all who must should by now have done what follows from something.

        since: when it came true, in seconds of the loop.
        """
        return self.is_calm and self.now_s - since > SOON_S

    @property
    def calm_since(self) -> float:
        """Since when nothing is broken, in seconds of the loop; now if something is."""
        return self.stage.calm_since

    def since(self, revision: int) -> Sequence[Fact] | None:
        """Return what the store keeps of what was told after a revision; None if it has forgotten.

        Of that only whole revisions that have been heard.
        """
        try:
            facts = self.cluster.store.history.since(revision)
        except Expired:
            return None
        return [fact for fact in facts if fact.revision <= self.revision]

    def at(self, key: str, revision: int) -> Object | None:
        """Return an object as it was. Raises: Expired."""
        stored = self.cluster.store.get(key, revision)
        return None if stored is None else msgpack.unpackb(stored.value)

    def stored(self, resource: str) -> Iterator[tuple[str, Object]]:
        """Yield (key, object) of all the store has of a resource, as what is durable."""
        store = self.cluster.store
        for item in store.list(prefix_of(resource), revision=store.durable).items:
            yield item.key, msgpack.unpackb(item.value)

    def lives(self, actor: str) -> bool:
        """Tell whether an actor runs."""
        return self.cluster.supervisor.actor(actor) is not None

    def is_up(self, node: str) -> bool:
        """Tell whether a node is ready, and its kubelet runs."""
        found = self.view.get(NODES, "", node)
        return found is not None and is_true(found, "Ready") and self.lives(f"kubelet/{node}")


class Watcher:
    """One thing that must hold. Implements `Monitor`; subclasses write `see`, `look` and `rest`.

    name: how violations call it.
    """

    name: str = ""

    def __init__(self, tale: Tale) -> None:
        self.tale = tale

    def begin(self, stage: "Stage") -> None:
        self.tale.begin(stage)

    def heard(self, facts: Sequence[Fact]) -> None:
        for change in self.tale.follow(facts):
            self.see(change)
        self.look()

    def end(self) -> None:
        self.look()
        self.rest()

    def see(self, change: Change) -> None:
        """Take one change, in their order; override. Raises: Broken."""

    def look(self) -> None:
        """Look at how things are, after each flush; override. Raises: Broken."""

    def rest(self) -> None:
        """Look at a cluster that has settled; override. Raises: Broken."""


def called(key: str) -> str:
    """Return how people call what is under a key: "pods default/web-0", "nodes node-1"."""
    resource, _, name = key.removeprefix("/registry/").partition("/")
    return f"{resource.partition('.')[0]} {name}"


def writer(fact: Fact) -> str:
    """Return who wrote a fact: "replicaset-controller", "kubelet/node-1", "client 'ann'"."""
    return writer_of(fact.cause.actor, fact.cause.user)


def is_true(obj: Object, condition: str) -> bool:
    """Tell whether a condition of an object's status is True."""
    found = (obj.get("status") or {}).get("conditions") or ()
    return any(one["type"] == condition and one["status"] == "True" for one in found)


def is_ending(obj: Object) -> bool:
    """Tell whether an object is being deleted."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def is_active(pod: Object) -> bool:
    """Tell whether a pod counts as a replica: it has not finished, and is not being deleted."""
    return (pod.get("status") or {}).get("phase") not in DONE and not is_ending(pod)


def uid_of(obj: Object) -> str:
    """Return an object's uid."""
    return str(obj["metadata"]["uid"])


def owner_of(obj: Object) -> str:
    """Return the uid of an object's controller, "" if it has none."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((str(r["uid"]) for r in references if r.get("controller")), "")


def replicas_of(obj: Object) -> int:
    """Return how many replicas an object wants."""
    replicas = obj["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def full_name(obj: Object) -> str:
    """Return "namespace/name"."""
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def _controller(obj: Object) -> list[str]:
    owner = owner_of(obj)
    return [owner] if owner else []


def _node(pod: Object) -> list[str]:
    node = pod["spec"].get("nodeName")
    return [node] if node else []


def _service(slice_: Object) -> list[str]:
    name = (slice_["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
    return [f"{slice_['metadata']['namespace']}/{name}"] if name else []
