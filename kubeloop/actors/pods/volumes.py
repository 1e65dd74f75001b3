"""The volumes a kubelet fills itself: configMap, secret, downwardAPI, projected, emptyDir. Pure.

What else a volume may be, the runtime supports or refuses (`Runtime.unsupported`).
"""

from collections.abc import Mapping
from typing import Final

from kubeloop.actors.pods.downward import ConfigError, Host, field_of, resource_of
from kubeloop.actors.pods.references import References, data_of
from kubeloop.actors.pods.state import Object, Pod

Files = dict[str, bytes]
FILLED: Final = ("configMap", "secret", "downwardAPI", "projected")
"""The volume sources whose files come from the API."""


class MountError(Exception):
    """A volume cannot be filled; the text is that of the FailedMount event."""


def mounts(
    pod: Pod, container: Object, references: References, host: Host
) -> tuple[dict[str, Mapping[str, bytes]], dict[str, str]]:
    """Return (mount path → files, mount path → emptyDir) of a container. Raises: MountError."""
    wanted = container.get("volumeMounts") or ()
    if not wanted:
        return {}, {}
    volumes = {volume["name"]: volume for volume in pod.spec["spec"].get("volumes") or ()}
    files: dict[str, Mapping[str, bytes]] = {}
    shared: dict[str, str] = {}
    for mount in wanted:
        volume, path = volumes.get(mount["name"]), mount["mountPath"]
        if volume is None:
            raise MountError(f'the pod has no volume "{mount["name"]}"')
        if volume.get("emptyDir") is not None:
            shared[path] = volume["name"]
        elif any(volume.get(source) is not None for source in FILLED):
            files[path] = _below(_fill(pod, container, volume, references, host), mount)
    return files, shared


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
