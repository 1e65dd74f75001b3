"""What a kubelet does about the volumes of its node that are to be deleted: it wipes them.

A volume that was made for a claim waits, when it is deleted, for its node: see
`controllers.local_path`. What was wiped and not yet told is wiped again, which changes nothing.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgpack

from kubeloop.actors.messages import Outcome, Request
from kubeloop.api.admission.volumes import VOLUMES
from kubeloop.api.pod_claims import LOCAL_PATH, PROVISIONED_BY, WIPED, hosts_of, notes_of
from kubeloop.store.facts import Fact

TAG: Final = "volume"
AGAIN_S: Final = 1.0  # What was refused is tried again after a pause.

Object = Mapping[str, Any]


class VolumeKeeper:
    """The volumes that one node must wipe. host: its host name."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._doomed: dict[str, Object] = {}  # By name, as the API has them.
        self._due: dict[str, None] = {}

    def clear(self) -> None:
        """Forget everything: a list follows."""
        self._doomed.clear()
        self._due.clear()

    def fold(self, fact: Fact) -> None:
        """Take over a fact about a volume."""
        volume, name = fact.object(), fact.key.rpartition("/")[2]
        self._doomed.pop(name, None)
        self._due.pop(name, None)
        if volume is not None and is_doomed(volume, self._host):
            self._doomed[name] = volume
            self._due[name] = None

    def take_due(self) -> list[tuple[str, str]]:
        """Return (name, path) of what is to be wiped now."""
        due, self._due = self._due, {}
        return [(name, self._doomed[name]["spec"]["hostPath"]["path"]) for name in due]

    def wiped(self, name: str) -> Request | None:
        """Return what tells that a volume was wiped, None if it is not to be deleted any more."""
        volume = self._doomed.get(name)
        if volume is None:
            return None
        metadata = volume["metadata"]
        kept = [one for one in metadata["finalizers"] if one != WIPED]
        told = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = msgpack.packb({"metadata": {**told, "finalizers": kept}})
        return Request(
            "patch",
            VOLUMES,
            name=name,
            body=body,
            options={"patchType": "merge"},
            tag=f"{TAG}/{name}",
            because=int(metadata["resourceVersion"]),
        )

    def answered(self, name: str, outcome: Outcome) -> bool:
        """Hear how that went; tell whether to try again. What has changed is told by facts."""
        return name in self._doomed and (outcome.code >= 500 or outcome.code == 429)


def is_doomed(volume: Object, host: str) -> bool:
    """Tell whether a volume is to be deleted, nobody uses it, and a node has to wipe it."""
    metadata = volume["metadata"]
    return bool(
        metadata.get("deletionTimestamp")
        and metadata.get("finalizers") == [WIPED]
        and notes_of(volume).get(PROVISIONED_BY) == LOCAL_PATH
        and host in hosts_of(volume)
    )
