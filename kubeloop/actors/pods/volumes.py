"""The volumes of a container: what a kubelet fills itself, and what is mounted from its node. Pure.

configMap, secret, downwardAPI and projected are filled; emptyDir, hostPath and claims are mounted.
What else a volume may be, the runtime supports or refuses (`Runtime.unsupported`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from kubeloop.actors.pods.claims import ClaimError, mount_of
from kubeloop.actors.pods.downward import ConfigError, Host, field_of, resource_of
from kubeloop.actors.pods.expansion import expand
from kubeloop.actors.pods.references import References, data_of
from kubeloop.actors.pods.state import Object, Pod
from kubeloop.actors.runtimes.protocol import Mount
from kubeloop.api.pod_claims import wanted_by

Files = dict[str, bytes]
FILLED: Final = ("configMap", "secret", "downwardAPI", "projected")
"""The volume sources whose files come from the API."""


class MountError(Exception):
    """A volume cannot be filled; the text is that of the FailedMount event."""


@dataclass(slots=True)
class Mounted:
    """What a container mounts: mount path → files, mount path → emptyDir, and all else."""

    files: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    mounts: list[Mount] = field(default_factory=list)


def mounted(
    pod: Pod, container: Object, references: References, host: Host, env: Mapping[str, str]
) -> Mounted:
    """Return what a container mounts. Raises: MountError."""
    found, wanted = Mounted(), container.get("volumeMounts") or ()
    if not wanted:
        return found
    volumes = {volume["name"]: volume for volume in pod.spec["spec"].get("volumes") or ()}
    claims = {claim.volume: claim for claim in wanted_by(pod.spec)}
    for given in wanted:
        mount = _expanded(given, env)
        volume, path = volumes.get(mount["name"]), mount["mountPath"]
        if volume is None:
            raise MountError(f'the pod has no volume "{mount["name"]}"')
        if volume.get("emptyDir") is not None:
            if mount.get("subPath") or mount.get("readOnly"):
                empty = Mount(target=path, volume=volume["name"], empty=volume["name"])
                found.mounts.append(_part(empty, mount))
            else:
                found.shared[path] = volume["name"]
        elif volume["name"] in claims:
            try:
                claimed = mount_of(pod, claims[volume["name"]], references, path)
            except ClaimError as error:
                raise MountError(str(error)) from error
            found.mounts.append(_part(claimed, mount))
        elif (source := volume.get("hostPath")) is not None:
            kind = source.get("type") or ""
            there = Mount(target=path, volume=volume["name"], host=source["path"], kind=kind)
            found.mounts.append(_part(there, mount))
        elif any(volume.get(source) is not None for source in FILLED):
            files = _fill(pod, container, volume, references, host)
            found.files[path] = _below(files, mount)
    return found


def _expanded(mount: Object, env: Mapping[str, str]) -> Object:
    """Return a mount whose subPath is told, if it is told by variables."""
    told = mount.get("subPathExpr")
    return {**mount, "subPath": expand(told, env)} if told else mount


def _part(whole: Mount, mount: Object) -> Mount:
    """Return what a mount shows of a volume."""
    read_only = whole.read_only or bool(mount.get("readOnly"))
    return replace(whole, sub_path=(mount.get("subPath") or "").strip("/"), read_only=read_only)


def _below(files: Files, mount: Object) -> Files:
    """Return what a mount shows of a volume: all of it, or its subPath only."""
    sub_path = (mount.get("subPath") or "").strip("/")
    if not sub_path:
        return files
    if sub_path in files:
        return {"": files[sub_path]}
    prefix = f"{sub_path}/"
    return {name[len(prefix) :]: data for name, data in files.items() if name.startswith(prefix)}


def _fill(pod: Pod, container: Object, volume: Object, references: References, host: Host) -> Files:
    try:
        if volume.get("projected") is not None:
            files: Files = {}
            for source in volume["projected"].get("sources") or ():
                files |= _source(pod, container, source, references, host)
            return files
        return _source(pod, container, volume, references, host)
    except ConfigError as error:
        text = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
        raise MountError(text) from error


def _source(
    pod: Pod, container: Object, source: Object, references: References, host: Host
) -> Files:
    """Return the files of one source, of a volume or of a projection."""
    if source.get("configMap") is not None:
        wanted = source["configMap"]
        return _chosen(pod, "configmaps", wanted, wanted.get("name", ""), references)
    if source.get("secret") is not None:
        wanted = source["secret"]
        name = wanted.get("secretName") or wanted.get("name", "")
        return _chosen(pod, "secrets", wanted, name, references)
    if source.get("downwardAPI") is not None:
        files = {}
        for item in source["downwardAPI"].get("items") or ():
            if item.get("fieldRef"):
                text = field_of(pod, host, item["fieldRef"]["fieldPath"])
            else:
                text = resource_of(pod, host, container, item["resourceFieldRef"])
            files[item["path"]] = text.encode()
        return files
    if (wanted := source.get("serviceAccountToken")) is not None:
        return {wanted["path"]: references.tokens.text(pod, wanted).encode()}
    raise ConfigError(f"{', '.join(source)} sources are not supported: remove them from the pod")


def _chosen(pod: Pod, resource: str, wanted: Object, name: str, references: References) -> Files:
    found = references.get(resource, pod.namespace, name)
    if found is None:
        if wanted.get("optional"):
            return {}
        raise ConfigError(f'{resource.removesuffix("s")} "{name}" not found')
    data = data_of(found)
    if not wanted.get("items"):
        return data
    files = {}
    for item in wanted["items"]:
        if item["key"] in data:
            files[item["path"]] = data[item["key"]]
        elif not wanted.get("optional"):
            kind = "config" if resource == "configmaps" else "secret"
            raise ConfigError(f"references non-existent {kind} key: {item['key']}")
    return files
