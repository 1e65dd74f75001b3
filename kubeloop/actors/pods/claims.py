"""From a claim to what is mounted: the volume it is bound to. Pure.

Source: the kubelet's volume manager in behaviour, and its words.
"""

from kubeloop.actors.pods import host_paths
from kubeloop.actors.pods.references import References
from kubeloop.actors.pods.state import Object, Pod
from kubeloop.actors.runtimes.protocol import Mount
from kubeloop.api.admission.volumes import CLAIMS, VOLUMES, source_of
from kubeloop.api.pod_claims import Wanted, is_bound, why_not_of


class ClaimError(Exception):
    """A claim cannot be mounted; the text is that of the FailedMount event."""


def mount_of(pod: Pod, wanted: Wanted, references: References, target: str) -> Mount:
    """Return what is mounted for a claim. Raises: ClaimError."""
    name = f"{pod.namespace}/{wanted.claim}"
    claim = references.get(CLAIMS, pod.namespace, wanted.claim)
    if claim is None:
        what = f'failed to fetch PVC from API server: {CLAIMS} "{wanted.claim}" not found'
        raise _unprocessed(wanted, name, what)
    if wanted.ephemeral and (why := why_not_of(pod.spec, claim)):
        raise _unprocessed(wanted, name, why)
    if claim["metadata"].get("deletionTimestamp"):
        raise _unprocessed(wanted, name, "PVC is being deleted")
    if not is_bound(claim):
        raise _unprocessed(wanted, name, "PVC is not bound")
    volume = references.get(VOLUMES, "", claim["spec"]["volumeName"])
    if volume is None:
        bound = claim["spec"]["volumeName"]
        why = f'failed to fetch PV {bound} from API server: {VOLUMES} "{bound}" not found'
        raise _unprocessed(wanted, name, why)
    if (volume["spec"].get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
        why = f"claim {name} is not the one its volume is bound to"
        raise _unprocessed(wanted, name, why)
    if volume["spec"].get("volumeMode") == "Block":
        why = f"volume {wanted.volume} has volumeMode Block, but is specified in volumeMounts"
        raise _unprocessed(wanted, name, why)
    return of_volume(volume, target, read_only=wanted.read_only)


def of_volume(volume: Object, target: str, *, read_only: bool) -> Mount:
    """Return what is mounted for a PersistentVolume."""
    spec, name = volume["spec"], volume["metadata"]["name"]
    only_read = read_only or {*spec["accessModes"]} == {"ReadOnlyMany"}
    if (source := spec.get("hostPath")) is not None:
        path, kind = source["path"], source.get("type") or ""
        return Mount(target=target, volume=name, host=path, kind=kind, read_only=only_read)
    if (source := spec.get("local")) is not None:
        kind = host_paths.LOCAL
        return Mount(target=target, volume=name, host=source["path"], kind=kind,
                     read_only=only_read)  # fmt: skip
    remote = next(iter(source_of(spec)), "")
    return Mount(
        target=target, volume=name, host=f"/{name}", remote=_driver(spec, remote),
        read_only=only_read,
    )  # fmt: skip


def _driver(spec: Object, remote: str) -> str:
    return f"csi {spec['csi'].get('driver')}" if remote == "csi" else remote


def _unprocessed(wanted: Wanted, claim: str, why: str) -> ClaimError:
    return ClaimError(
        f"Unable to attach or mount volumes: unmounted volumes=[{wanted.volume}], unattached"
        f" volumes=[], failed to process volumes=[{wanted.volume}]: error processing PVC {claim}:"
        f" {why}"
    )
