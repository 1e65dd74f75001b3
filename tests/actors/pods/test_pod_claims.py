"""From a claim to a mount: what is mounted, and what a kubelet says if nothing can be."""

from typing import Any

import msgpack
import pytest

from kubeloop.actors.messages import Outcome
from kubeloop.actors.pods.downward import Host
from kubeloop.actors.pods.host_paths import why_not
from kubeloop.actors.pods.references import References, named_by
from kubeloop.actors.pods.state import Object, Pod, new_pod
from kubeloop.actors.pods.volumes import Mounted, MountError, mounted
from kubeloop.actors.runtimes.protocol import Mount
from kubeloop.actors.volume_keeper import VolumeKeeper
from kubeloop.store.facts import Fact, key_of

HOST = Host(name="n1", ip="127.0.0.1", allocatable={})
COMPLETE = {"pv.kubernetes.io/bind-completed": "yes"}
WIPED = "external-provisioner.volume.kubernetes.io/finalizer"


def a_pod(source: dict[str, Any], **mount: Any) -> Pod:
    mounts = [{"name": "v", "mountPath": "/data", **mount}]
    spec = {"containers": [{"name": "c", "volumeMounts": mounts}],
            "volumes": [{"name": "v", **source}]}  # fmt: skip
    metadata = {"name": "p", "namespace": "default", "uid": "pod"}
    return new_pod({"metadata": metadata, "spec": spec}, wall_s=0, now=0)


def claim(name: str = "c", volume: str = "pv", **metadata: Any) -> dict[str, Any]:
    told = {"annotations": COMPLETE if volume else {}, "uid": "u1", "namespace": "default"}
    return {
        "metadata": {**told, "name": name, **metadata},
        "spec": {"volumeName": volume} if volume else {},
    }


def volume(source: dict[str, Any], **spec: Any) -> dict[str, Any]:
    told = {"claimRef": {"uid": "u1"}, "accessModes": ["ReadWriteOnce"], **source, **spec}
    return {"metadata": {"name": "pv"}, "spec": told}


def known(*objects: Object) -> References:
    found = References()
    for number, obj in enumerate(objects, 1):
        namespace = obj["metadata"].get("namespace", "")
        resource = "persistentvolumeclaims" if namespace else "persistentvolumes"
        key = key_of(resource, namespace, obj["metadata"]["name"])
        found.fold(Fact(number, key, msgpack.packb(obj)))
    return found


def mount(pod: Pod, references: References, **env: str) -> Mounted:
    return mounted(pod, pod.container_spec("c"), references, HOST, env)


CLAIMED = {"persistentVolumeClaim": {"claimName": "c"}}
PLACE = {"hostPath": {"path": "/x", "type": "DirectoryOrCreate"}}


def test_a_claim_is_mounted_from_its_volume() -> None:
    references = known(claim(), volume(PLACE))
    (one,) = mount(a_pod(CLAIMED), references).mounts
    kind = "DirectoryOrCreate"
    assert one == Mount(target="/data", volume="pv", host="/x", kind=kind)
    (one,) = mount(a_pod(CLAIMED, subPathExpr="a/$(NAME)"), references, NAME="p-0").mounts
    assert one.sub_path == "a/p-0" and not one.read_only
    (one,) = mount(a_pod(CLAIMED, readOnly=True), references).mounts
    assert one.read_only
    only = {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}}
    assert mount(a_pod(only), references).mounts[0].read_only
    local = known(claim(), volume({"local": {"path": "/l"}}, accessModes=["ReadOnlyMany"]))
    (one,) = mount(a_pod(CLAIMED), local).mounts
    assert (one.host, one.kind, one.read_only) == ("/l", "Local", True)
    (one,) = mount(a_pod(CLAIMED), known(claim(), volume({"csi": {"driver": "d"}}))).mounts
    assert one.remote == "csi d"


def test_what_is_of_the_pod_or_of_its_node() -> None:
    whole = mount(a_pod({"emptyDir": {}}), known())
    assert whole.shared == {"/data": "v"} and not whole.mounts
    part = mount(a_pod({"emptyDir": {}}, subPath="a"), known())
    assert part.mounts == [Mount(target="/data", volume="v", empty="v", sub_path="a")]
    there = mount(a_pod({"hostPath": {"path": "/h", "type": ""}}), known())
    assert there.mounts == [Mount(target="/data", volume="v", host="/h")]


SHUT = claim(deletionTimestamp="2026-01-01T00:00:00Z")
OF_OTHERS = {**volume(PLACE), "spec": {**volume(PLACE)["spec"], "claimRef": {"uid": "u2"}}}


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ([], 'failed to fetch PVC from API server: persistentvolumeclaims "c" not found'),
        ([claim(volume="")], "PVC is not bound"),
        ([SHUT], "PVC is being deleted"),
        ([claim()], 'failed to fetch PV pv from API server: persistentvolumes "pv" not found'),
        ([claim(), OF_OTHERS], "claim default/c is not the one its volume is bound to"),
        (
            [claim(), volume(PLACE, volumeMode="Block")],
            "volume v has volumeMode Block, but is specified in volumeMounts",
        ),
    ],
)
def test_why_a_claim_cannot_be_mounted(objects: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(MountError) as raised:
        mount(a_pod(CLAIMED), known(*objects))
    assert str(raised.value) == (
        "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to"
        f" process volumes=[v]: error processing PVC default/c: {why}"
    )


def test_an_ephemeral_volume_is_that_of_its_pod_only() -> None:
    pod = a_pod({"ephemeral": {"volumeClaimTemplate": {}}})
    with pytest.raises(MountError, match=r"PVC default/p-v was not created for pod default/p"):
        mount(pod, known(claim("p-v"), volume(PLACE)))
    own = claim("p-v", ownerReferences=[{"controller": True, "uid": "pod"}])
    assert mount(pod, known(own, volume(PLACE))).mounts[0].host == "/x"
    assert key_of("persistentvolumeclaims", "default", "p-v") in named_by(pod.spec)


@pytest.mark.parametrize(
    ("kind", "found", "why"),
    [
        ("", "file", ""),
        ("Directory", "directory", ""),
        ("Directory", "", "/x is not a directory"),
        ("DirectoryOrCreate", "file", "/x is not a directory"),
        ("File", "directory", "/x is not a file"),
        ("Socket", "file", "/x is not a socket file"),
        ("CharDevice", "", "/x is not a character device"),
        ("BlockDevice", "", "/x is not a block device"),
        ("Local", "directory", ""),
        ("Local", "", 'path "/x" does not exist'),
    ],
)
def test_what_must_be_at_a_path(kind: str, found: Any, why: str) -> None:
    told = why_not(Mount(target="/d", volume="v", host="/x", kind=kind), found)
    assert told.endswith(why) and bool(told) == bool(why)


def doomed(host: str = "n1", **metadata: Any) -> dict[str, Any]:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    told = {
        "name": "pv",
        "uid": "u",
        "resourceVersion": "9",
        "annotations": {"pv.kubernetes.io/provisioned-by": "kubeloop.dev/local-path"},
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": [WIPED],
        **metadata,
    }
    return {"metadata": told, "spec": {**PLACE, "nodeAffinity": {"required": required}}}


def fold(keeper: VolumeKeeper, obj: dict[str, Any] | None, revision: int = 9) -> None:
    packed = None if obj is None else msgpack.packb(obj)
    keeper.fold(Fact(revision, key_of("persistentvolumes", "", "pv"), packed))


def test_a_node_wipes_what_is_its_own_and_nobody_uses() -> None:
    for obj in (
        doomed("n2"),
        doomed(deletionTimestamp=None),
        doomed(finalizers=["kubernetes.io/pv-protection", WIPED]),
        doomed(annotations={}),
    ):
        keeper = VolumeKeeper("n1")
        fold(keeper, obj)
        assert keeper.take_due() == []
    keeper = VolumeKeeper("n1")
    fold(keeper, doomed())
    assert keeper.take_due() == [("pv", "/x")] and keeper.take_due() == []
    request = keeper.wiped("pv")
    assert request is not None and request.because == 9
    told = msgpack.unpackb(request.body)["metadata"]
    assert told == {"uid": "u", "resourceVersion": "9", "finalizers": []}
    assert keeper.answered("pv", Outcome("", 503, 0, b""))
    assert keeper.answered("pv", Outcome("", 429, 0, b""))
    assert not keeper.answered("pv", Outcome("", 409, 0, b"")), "then a fact tells more"
    fold(keeper, None, 10)
    assert keeper.wiped("pv") is None
    assert not keeper.answered("pv", Outcome("", 503, 0, b""))
    assert not keeper.answered("pv", Outcome("", 429, 0, b"")), "it is gone"
