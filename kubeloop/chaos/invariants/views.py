"""At rest everybody knows what is true: nothing got lost on the way to those who act on it.

Source: Kubernetes API Concepts: a list, and all that is watched since, is what a list now would be.
"""

from collections.abc import Iterable, Mapping

from kubeloop.actors.controller_manager import ControllerManager
from kubeloop.actors.kube_proxy import KubeProxy
from kubeloop.actors.kubelet import Kubelet
from kubeloop.chaos.invariants.tale import PODS, SERVICES, SLICES, Object, Watcher, called
from kubeloop.chaos.watching import Broken
from kubeloop.store.facts import key_of


class Views(Watcher):
    """At rest the view of each actor is of every object of its resources, at its newest revision.

    The controller manager's and kube-proxies' views are looked at, and the pods of each kubelet.
    """

    name = "views"

    def rest(self) -> None:
        supervisor = self.tale.cluster.supervisor
        for name in supervisor.names():
            actor = supervisor.actor(name)
            if isinstance(actor, ControllerManager):
                for resource in actor.resources:
                    self._compare(name, resource, actor.view.list(resource))
            elif isinstance(actor, KubeProxy):
                for resource in (SERVICES, SLICES):
                    self._compare(name, resource, actor.view.list(resource))
            elif isinstance(actor, Kubelet):
                pods = [pod.spec for pod in actor.pods.values() if not pod.gone]
                bound = self.tale.view.by(PODS, "node", actor.node.name)
                _check(name, _versions(PODS, pods), _versions(PODS, bound))

    def _compare(self, actor: str, resource: str, known: Iterable[Object]) -> None:
        true = self.tale.view.list(resource)
        _check(actor, _versions(resource, known), _versions(resource, true))


def _check(actor: str, known: Mapping[str, str], true: Mapping[str, str]) -> None:
    for key in sorted(known.keys() | true.keys()):
        if known.get(key) != true.get(key):
            raise Broken(
                f"{actor} knows {called(key)} as of revision {known.get(key, 'none')} at rest, "
                f"and it is at {true.get(key, 'none')}"
            )


def _versions(resource: str, objects: Iterable[Object]) -> dict[str, str]:
    """Return the revision of each object by its key."""
    return {
        key_of(resource, metadata.get("namespace", ""), metadata["name"]): (
            metadata["resourceVersion"]
        )
        for metadata in (obj["metadata"] for obj in objects)
    }
