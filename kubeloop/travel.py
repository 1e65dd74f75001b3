"""Time travel: how a cluster was, what has become of an object, why, and since when it is wrong.

    before = cluster.at(revision)
    before.get("deployment", "web").spec["replicas"]
    cluster.history("deployment", "web")
    cluster.bisect(lambda past: len(past.list("pods")) <= 5)

All of it reads what the store retains; what is older is told as `Expired`, 410.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from kubeloop.actors.requests.core import Core
from kubeloop.actors.requests.definitions import Definitions
from kubeloop.actors.requests.state import Settings
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import error_of
from kubeloop.net.client import ALL, KubeObject
from kubeloop.store.causality import Chain, told, why
from kubeloop.store.facts import Cause, Fact, key_of, prefix_of
from kubeloop.store.store import Store

NAMESPACE: Final = "default"

Holds = Callable[["Past"], object]
"""Tells whether something holds: it does unless this is False, or an AssertionError is raised."""


class Past:
    """A cluster as it was at a revision. Reads as `Client` does, and waits for nothing.

    Raises: ApiError (NotFound, BadRequest, …) as the API server would.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store.fork()
        self._core = Core(self._store, wall=_no_time, bits=_no_chance, settings=settings)

    @property
    def revision(self) -> int:
        """Of all that can be read here."""
        return self._store.revision

    def get(self, kind: str, name: str, *, namespace: str = NAMESPACE) -> KubeObject:
        """Return an object. Raises: NotFound."""
        outcome = self._ask("get", kind, namespace, name=name)
        return KubeObject(msgpack.unpackb(outcome.body))

    def list(
        self, kind: str, *, namespace: str = NAMESPACE, labels: str = "", fields: str = ""
    ) -> list[KubeObject]:
        """Return the objects the selectors choose; namespace "*" looks in every one."""
        options = {"labelSelector": labels, "fieldSelector": fields}
        outcome = self._ask("list", kind, namespace, options=options)
        return [KubeObject(msgpack.unpackb(item)) for item in outcome.items]

    def _ask(self, verb: str, kind: str, namespace: str, **more: Any) -> Outcome:
        resource = self._core.state.catalogue().named(kind)
        where = "" if namespace == ALL or not resource.namespaced else namespace
        outcome = self._core.handle(Request(verb, resource.id, where, **more))
        if outcome.code >= 400:
            raise error_of(msgpack.unpackb(outcome.body))
        return outcome


@dataclass(frozen=True, slots=True)
class Moment:
    """A change of an object.

    at_s:   when, in seconds since 1970.
    type:   ADDED, MODIFIED, DELETED.
    object: as it was from then on; of a deletion: as it was before.
    cause:  who did it, and because of which revision.
    """

    revision: int
    at_s: float
    type: str
    object: KubeObject
    cause: Cause

    def __str__(self) -> str:
        """Return it as a line for people."""
        return f"{self.revision} at {self.at_s:.3f}: {self.type} by {self.cause.actor or 'a user'}"


@dataclass(frozen=True, slots=True)
class Turn:
    """Where something that held ceased to.

    revision: the first at which it does not hold;  facts: what changed there.
    chain:    what led to it.
    error:    how it does not hold.
    """

    revision: int
    facts: Sequence[Fact]
    chain: Chain
    error: AssertionError

    def __str__(self) -> str:
        """Return it as lines for people: what changed, and why, back to the beginning."""
        lines = [told(fact) for facts in self.chain.facts for fact in facts]
        return "\n  because of ".join(lines)


class TimeTravel:
    """What a cluster can tell of its past; `Cluster` is one."""

    store: Store

    @property
    def api_settings(self) -> Settings:
        """What the API server was told. Override."""
        raise NotImplementedError

    def at(self, revision: int) -> Past:
        """Return how the cluster was at a revision. Cost: O(1) in the number of objects.

        Raises: Expired.
        """
        return Past(self.store.fork(revision), self.api_settings)

    def history(self, kind: str, name: str, *, namespace: str = NAMESPACE) -> list[Moment]:
        """Return the changes of an object that are retained, oldest first."""
        resource = Definitions(self.store).catalogue().named(kind)
        key = key_of(resource.id, namespace if resource.namespaced else "", name)
        return [_moment(fact) for fact in self.store.history.versions(key)]

    def why(self, what: int | KubeObject) -> Chain:
        """Return what led to a revision, or to an object as it is. Raises: Expired."""
        revision = what.resource_version if isinstance(what, KubeObject) else what
        return why(self.store.history, revision)

    def bisect(self, holds: Holds, *, good: int | None = None, bad: int | None = None) -> Turn:
        """Return where something ceased to hold, that holds at `good` and does not at `bad`.

        good, bad: the oldest revision that is retained and the newest one, if not told.
        Cost: O(log revisions) calls of `holds`. If it changes its mind more than once, one of the
        turns is returned.
        Raises: ValueError if it does not hold at `good`, or does at `bad`; Expired.
        """
        low = self.store.history.floor if good is None else good
        high = self.store.durable if bad is None else bad
        if _broken(holds, self.at(low)) is not None:
            raise ValueError(f"good={low}: it does not hold there: choose an earlier revision")
        last = _broken(holds, self.at(high))
        if last is None:
            raise ValueError(f"bad={high}: it holds there: choose a later revision")
        while high - low > 1:
            middle = (low + high) // 2
            found = _broken(holds, self.at(middle))
            if found is None:
                low = middle
            else:
                high, last = middle, found
        history = self.store.history
        return Turn(high, history.facts_at(high), why(history, high), last)


def nodes_at(store: Store) -> list[tuple[str, int]]:
    """Return the name and the index of each node that is ready, by its pod network."""
    found = []
    for item in store.list(prefix_of("nodes")).items:
        node = KubeObject(msgpack.unpackb(item.value))
        network = str(node.spec.get("podCIDR", ""))
        if network and node.condition("Ready") == "True":
            found.append((node.name, int(network.split(".")[2])))
    return found


def pods_on(store: Store, node: str) -> list[KubeObject]:
    """Return the pods that are bound to a node."""
    pods = [KubeObject(msgpack.unpackb(i.value)) for i in store.list(prefix_of("pods")).items]
    return [pod for pod in pods if pod.spec.get("nodeName") == node]


def _broken(holds: Holds, past: Past) -> AssertionError | None:
    """Return how it does not hold, None if it does."""
    try:
        return AssertionError("it is False") if holds(past) is False else None
    except AssertionError as error:
        return error


def _moment(fact: Fact) -> Moment:
    packed = fact.prev if fact.value is None else fact.value
    assert packed is not None, "what is deleted was there"
    type_ = "DELETED" if fact.value is None else "MODIFIED" if fact.prev_revision else "ADDED"
    return Moment(fact.revision, fact.at, type_, KubeObject(msgpack.unpackb(packed)), fact.cause)


def _no_time() -> float:
    return 0.0  # Reading needs none.


def _no_chance(_: int) -> int:
    return 0
