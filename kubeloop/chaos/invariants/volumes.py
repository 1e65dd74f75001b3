"""Claims and volumes are for each other alone, in one place, and nothing is left of what has gone.

Source: Kubernetes, "Persistent Volumes: Binding, Reclaiming", "Storage Classes".
"""

from typing import Final

from kubeloop.api.pod_claims import LOCAL_PATH, PROVISIONED_BY, hosts_of, keys_of, notes_of
from kubeloop.chaos.invariants.tale import (
    PODS,
    Change,
    Object,
    Tale,
    Watcher,
    called,
    is_ending,
    uid_of,
)
from kubeloop.chaos.watching import Broken

CLAIMS: Final = "persistentvolumeclaims"
VOLUMES: Final = "persistentvolumes"


class Volumes(Watcher):
    """Every claim has a volume of its own, and none is left over.

    - No two claims name one volume, and a claim that names one goes on naming it.
    - A pod is bound to a node only when its claims are bound, and their volumes can be used there.
      Who names the node of a pod himself takes that on himself.
    - At rest who is Bound is bound to one who is bound to it. A volume that was made for a claim
      and is to be deleted with it has gone if its claim has, unless its node is not up; and so
      have the files on it.
    """

    name = "volumes"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._holders: dict[str, str] = {}  # Volume → uid of the claim that names it.
        self._claims: dict[str, Object] = {}  # By "namespace/name".

    def see(self, change: Change) -> None:
        if change.resource == CLAIMS:
            self._see_claim(change)
        elif change.resource == PODS:
            self._see_pod(change)

    def _see_claim(self, change: Change) -> None:
        key = change.fact.key.removeprefix(f"/registry/{CLAIMS}/")
        was = _volume_of(change.before) if change.before is not None else ""
        is_ = _volume_of(change.after) if change.after is not None else ""
        uid = uid_of(change.either)
        if change.after is None:
            self._claims.pop(key, None)
            if was and self._holders.get(was) == uid:
                del self._holders[was]
            return
        self._claims[key] = change.after
        if was and was != is_:
            raise Broken(f"revision {change.fact.revision}: {key} named {was}, and now {is_!r}")
        if is_ and self._holders.setdefault(is_, uid) != uid:
            raise Broken(f"revision {change.fact.revision}: two claims name {is_}, {key} is one")

    def _see_pod(self, change: Change) -> None:
        pod, before = change.after, change.before
        if pod is None or before is None or before["spec"].get("nodeName"):
            return
        node = pod["spec"].get("nodeName")
        for key in keys_of(pod) if node else ():
            claim = self._claims.get(key)
            name = "" if claim is None else _volume_of(claim)
            volume = self.tale.view.get(VOLUMES, "", name)
            hosts = None if volume is None else hosts_of(volume)
            if hosts is None or (hosts and node not in hosts):
                where = f"volume {name!r} is on {sorted(hosts)}" if hosts else "it is not bound"
                raise Broken(
                    f"revision {change.fact.revision}: {called(change.fact.key)} is bound to"
                    f" {node} with claim {key}: {where}"
                )

    def rest(self) -> None:
        claims = {uid_of(claim): claim for claim in self._claims.values()}
        for volume in self.tale.view.list(VOLUMES):
            self._check_volume(volume, claims.get(_claimed_by(volume)))
        for key, claim in self._claims.items():
            if claim["status"].get("phase") == "Bound":
                found = self.tale.view.get(VOLUMES, "", _volume_of(claim))
                if found is None or _claimed_by(found) != uid_of(claim):
                    raise Broken(f"{key} is Bound at rest, and its volume not to it")
        self._check_files()

    def _check_volume(self, volume: Object, claim: Object | None) -> None:
        name, phase = volume["metadata"]["name"], volume["status"].get("phase")
        if phase == "Bound" and (claim is None or _volume_of(claim) != name):
            raise Broken(f"volume {name} is Bound at rest, and no claim to it")
        made = notes_of(volume).get(PROVISIONED_BY) == LOCAL_PATH
        deleted = volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        up = any(self.tale.is_up(host) for host in hosts_of(volume))
        if made and deleted and claim is None and (up or not is_ending(volume)):
            raise Broken(f"volume {name} was made for a claim that is gone, and is there at rest")

    def _check_files(self) -> None:
        """See that files are those of volumes that are there."""
        known = {
            str(volume["spec"]["hostPath"]["path"])
            for volume in self.tale.view.list(VOLUMES)
            if volume["spec"].get("hostPath")
        }
        for node, runtime in self.tale.stage.nodes.runtimes.items():
            if not self.tale.is_up(node):
                continue
            for path in (*runtime.disk.files, *runtime.disk.directories):
                of = "/".join(path.split("/")[:6])
                if path.startswith("/var/lib/kubeloop/volumes/") and of not in known:
                    raise Broken(f"{node} still has {path} at rest, and there is no such volume")


def _volume_of(claim: Object) -> str:
    return str(claim["spec"].get("volumeName") or "")


def _claimed_by(volume: Object) -> str:
    return str((volume["spec"].get("claimRef") or {}).get("uid") or "")
