"""What is asked of a Service is answered: at the level of the tables that proxies go by.

Source: Kubernetes, "Virtual IPs and Service Proxies"; "Pod Lifecycle: Termination of Pods" (the
endpoint is taken out while the grace begins, and a preStop hook keeps the container meanwhile);
"EndpointSlices: Conditions"; KEP-1669 (endpoints that end serve if there are no others).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kubeloop.actors.kube_proxy import TableOnly
from kubeloop.actors.routing import Place, Rule
from kubeloop.chaos.invariants.endpoints import Backend, backends_of
from kubeloop.chaos.invariants.tale import (
    DONE,
    PODS,
    SERVICES,
    Change,
    Object,
    Tale,
    Watcher,
    full_name,
    is_ending,
    is_true,
    uid_of,
)
from kubeloop.chaos.watching import Broken
from kubeloop.nodes import SimulatedNodes

_KILLED: Final = (128 + 9, 128 + 15)  # How a container ends that is told to.

Table = Mapping[Place, Rule]


class _Drain(NamedTuple):
    """A pod that is being deleted, and what keeps it serving.

    until: it must listen until then, in seconds of the loop.
    """

    name: str
    node: str
    ip: str
    ports: tuple[int, ...]
    until: float


@dataclass(slots=True)
class _Served:
    """A Service with a selector.

    good: uid → (IP, since when) of the pods that are ready, and not being deleted.
    left: IP → since when it is no more, or not only, a good pod's.
    """

    service: Object
    since: float
    good: dict[str, tuple[str, float]] = field(default_factory=dict)
    left: dict[str, float] = field(default_factory=dict)


class Traffic(Watcher):
    """A connection to a Service finds a pod that takes it.

    With simulated pods, when nothing has been broken for a while; see `Tale.is_late`:

    - As long as a Service has a pod that is ready and really listens, every proxy that lives has a
      rule for each of its ports, with at least one pod that really listens.
    - A pod that is no longer ready, or is being deleted while others are ready, is named by none.
    - A pod that was ready when its deletion began goes on listening as long as its preStop hook
      sleeps, if its grace is not shorter.

    So of a rolling update whose pods have readiness probes, and preStop hooks that last until the
    proxies have heard, nobody who connects notices anything. At rest each proxy's rules name all
    ready pods, and no others, and it listens nowhere else.
    """

    name = "traffic"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._served: dict[str, _Served] = {}  # "namespace/name" → Service.
        self._drains: dict[str, _Drain] = {}  # By uid.

    # Folding.

    def see(self, change: Change) -> None:
        if change.resource == SERVICES:
            self._see_service(change)
        elif change.resource == PODS:
            self._see_pod(change)

    def _see_service(self, change: Change) -> None:
        name, service = full_name(change.either), change.after
        if service is None or not _is_routed(service):
            self._served.pop(name, None)
            return
        was = change.before
        if name in self._served and was is not None and was["spec"] == service["spec"]:
            self._served[name].service = service
            return
        now_s = self.tale.now_s
        served = self._served[name] = _Served(service, now_s)
        for pod in self.tale.view.list(PODS):
            if _is_behind(pod, service) and _is_good(pod):
                served.good[uid_of(pod)] = (pod["status"]["podIP"], now_s)

    def _see_pod(self, change: Change) -> None:
        pod, now_s, uid = change.either, self.tale.now_s, uid_of(change.either)
        good = change.after is not None and _is_good(change.after)
        for served in self._served.values():
            known = served.good.get(uid)
            if good and _is_behind(pod, served.service):
                if known is None:
                    served.good[uid] = (pod["status"]["podIP"], now_s)
                    served.left.pop(pod["status"]["podIP"], None)
            elif known is not None:
                del served.good[uid]
                served.left[known[0]] = now_s
        before = change.before
        if change.after is None:
            self._drains.pop(uid, None)
        elif before is not None and is_ending(pod) and not is_ending(before) and _is_good(before):
            drain = _drain_of(pod, now_s)
            if drain is not None:
                self._drains[uid] = drain
        elif uid in self._drains and _grace_s(pod) < (_grace_s(before) if before else 0):
            del self._drains[uid]  # It is wanted to end sooner.

    # Looking.

    def look(self) -> None:
        nodes = self.tale.cluster.nodes
        if not isinstance(nodes, SimulatedNodes) or not self.tale.is_calm:
            return
        tables = dict(self._tables(nodes))
        for served in self._served.values():
            for node, table in tables.items():
                for place in _places(served.service):
                    self._check_rule(served, node, place, table.get(place), nodes)
        for uid, drain in tuple(self._drains.items()):
            if self.tale.now_s >= drain.until:
                del self._drains[uid]
            else:
                _check_drain(uid, drain, nodes)

    def _check_rule(
        self, served: _Served, node: str, place: Place, rule: Rule | None, nodes: SimulatedNodes
    ) -> None:
        """See that what a proxy does with connections to one place of a Service is right."""
        named = rule.endpoints if rule is not None else ()
        for endpoint in named:
            since = served.left.get(endpoint.ip)
            if since is not None and served.good and self.tale.is_late(since):
                raise Broken(
                    f"kube-proxy/{node} still sends connections to {_where(served, place)} to "
                    f"{endpoint.ip}, which has not been a ready pod's of it for "
                    f"{self.tale.now_s - since:.1f} s"
                )
        if any(_listens(nodes, endpoint.ip, endpoint.port) for endpoint in named):
            return
        for uid, (ip, since) in served.good.items():
            if not self.tale.is_late(max(since, served.since)):
                continue
            ports = [b.ports for b in backends_of(served.service, self.tale) if b.uid == uid]
            if any(_listens(nodes, ip, port) for _, port, _ in (ports[0] if ports else ())):
                raise Broken(
                    f"kube-proxy/{node} has nobody for connections to {_where(served, place)} "
                    f"(its table says {[e.ip for e in named]}), and a pod at {ip} has been ready "
                    f"for {self.tale.now_s - since:.1f} s"
                )

    def rest(self) -> None:
        nodes = self.tale.cluster.nodes
        if not isinstance(nodes, SimulatedNodes):
            return
        services = [s for s in self.tale.view.list(SERVICES) if s["spec"].get("clusterIP")]
        known = {place for service in services for place in _places(service)}
        for node, table in self._tables(nodes):
            for place in sorted(table.keys() - known):
                raise Broken(f"kube-proxy/{node} at rest listens at {place}, which no Service has")
            for served in self._served.values():
                found = list(backends_of(served.service, self.tale))
                for place, name in _named_places(served.service):
                    wanted = sorted(_chosen(found, name))
                    rule = table.get(place)
                    has = sorted((e.ip, e.port) for e in rule.endpoints) if rule else None
                    if has != wanted:
                        raise Broken(
                            f"kube-proxy/{node} at rest sends connections to "
                            f"{_where(served, place)} to {has}, and should to {wanted}"
                        )

    def _tables(self, nodes: SimulatedNodes) -> Iterator[tuple[str, Table]]:
        """Yield the table of each proxy that lives."""
        for node in nodes.made:
            name, path = node.config.name, node.data_path
            if isinstance(path, TableOnly) and self.tale.lives(f"kube-proxy/{name}"):
                yield name, path.rules


def _check_drain(uid: str, drain: _Drain, nodes: SimulatedNodes) -> None:
    """See that a pod goes on serving while its preStop hook sleeps."""
    runtime = nodes.runtimes.get(drain.node)
    if runtime is None or any(runtime.listens(drain.ip, port) for port in drain.ports):
        return
    sandbox = next((s for s in runtime.sandboxes() if s.pod_uid == uid), None)
    if sandbox is not None and all(c.running or c.code not in _KILLED for c in sandbox.containers):
        return  # It has ended by itself.
    raise Broken(
        f"pod {drain.name} (uid {uid}) on {drain.node} has been made to end before its preStop "
        f"hook was over: it should take connections until {drain.until:.1f} s"
    )


def _drain_of(pod: Object, now_s: float) -> _Drain | None:
    """Return what keeps a pod serving whose deletion begins; None if nothing does."""
    sleeps = [
        ((c.get("lifecycle") or {}).get("preStop") or {}).get("sleep") or {}
        for c in pod["spec"]["containers"]
    ]
    seconds = min(float(sleep.get("seconds") or 0) for sleep in sleeps)
    ports = [p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports") or ()]
    if not seconds or seconds > _grace_s(pod) or not ports:
        return None
    node, ip = pod["spec"]["nodeName"], pod["status"]["podIP"]
    return _Drain(full_name(pod), node, ip, tuple(ports), now_s + seconds)


def _grace_s(pod: Object) -> float:
    return float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)


def _listens(nodes: SimulatedNodes, ip: str, port: int) -> bool:
    return any(runtime.listens(ip, port) for runtime in nodes.runtimes.values())


def _is_routed(service: Object) -> bool:
    """Tell whether each proxy is to send connections to a Service to any of its pods."""
    spec = service["spec"]
    local = "Local" in (spec.get("internalTrafficPolicy"), spec.get("externalTrafficPolicy"))
    address = spec.get("clusterIP") not in (None, "", "None")
    typed = spec.get("type") != "ExternalName" and not spec.get("publishNotReadyAddresses")
    return bool(spec.get("selector")) and typed and address and not local


def _is_behind(pod: Object, service: Object) -> bool:
    if pod["metadata"].get("namespace") != service["metadata"]["namespace"]:
        return False
    labels = pod["metadata"].get("labels") or {}
    return bool(service["spec"]["selector"].items() <= labels.items())


def _is_good(pod: Object) -> bool:
    status = pod.get("status") or {}
    finished = status.get("phase") in DONE
    return is_true(pod, "Ready") and not is_ending(pod) and not finished and "podIP" in status


def _places(service: Object) -> Iterator[Place]:
    return (place for place, _ in _named_places(service))


def _named_places(service: Object) -> Iterator[tuple[Place, str]]:
    """Yield where a Service is to be reached, and the name of the port."""
    spec = service["spec"]
    for port in spec.get("ports") or ():
        name, protocol = port.get("name") or "", port.get("protocol", "TCP")
        yield Place(spec["clusterIP"], port["port"], protocol), name
        if spec.get("type") in ("NodePort", "LoadBalancer") and port.get("nodePort"):
            yield Place("", port["nodePort"], protocol), name


def _chosen(found: list[Backend], name: str) -> Iterator[tuple[str, int]]:
    """Yield where connections to a port go: to who is ready, or else to who ends and serves."""
    able = [b for b in found if b.ready] or [b for b in found if b.serving and b.terminating]
    for backend in able:
        yield from ((backend.ip, port) for told, port, _ in backend.ports if told == name)


def _where(served: _Served, place: Place) -> str:
    return f"Service {full_name(served.service)} at {place.ip or 'any node'}:{place.port}"
