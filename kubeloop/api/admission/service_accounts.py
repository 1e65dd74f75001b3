"""What a pod gets of its service account: the secrets to pull with, and a token to call with.

Pure. The token comes with the authority to check the API server by and the pod's namespace, in one
projected volume that every container mounts.

Source: Kubernetes, "Managing Service Accounts: ServiceAccount admission controller".
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA: Final = "kube-root-ca.crt"
_VOLUME: Final = "kube-api-access-"
_SECONDS: Final = 3607  # An hour, and so odd that it is told apart from an hour somebody asked for.
_MODE: Final = 0o644

Json = dict[str, Any]


def pull_with(spec: Json, account: Json | None) -> None:
    """Have a pod that names no secrets pull with those of its account, in place."""
    secrets = (account or {}).get("imagePullSecrets")
    if secrets and not spec.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(secret) for secret in secrets]


def mount_token(spec: Json, account: Json | None, generate_name: Callable[[str], str]) -> None:
    """Mount the token of its account into every container of a new pod, in place.

    account:       None if it is yet to be made.
    generate_name: base → a name that begins with it; not asked if nothing is mounted.
    """
    if not _is_wanted(spec, account):
        return
    volumes = spec.get("volumes") or []
    names = (str(volume.get("name")) for volume in volumes)
    known = next((name for name in names if name.startswith(_VOLUME)), "")
    bare = [container for container in _containers(spec) if not _has_its_own(container)]
    if not bare:
        return
    name = known or generate_name(_VOLUME)
    for container in bare:
        mounts = container.get("volumeMounts") or []
        mount = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
        container["volumeMounts"] = [*mounts, mount]
    if not known:
        spec["volumes"] = [*volumes, _volume(name)]


def _is_wanted(spec: Json, account: Json | None) -> bool:
    """Tell whether a token is mounted: the pod says, else its account does, else it is."""
    for told in (spec, account or {}):
        wanted = told.get("automountServiceAccountToken")
        if wanted is not None:
            return bool(wanted)
    return True


def _containers(spec: Json) -> Iterator[Json]:
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def _has_its_own(container: Json) -> bool:
    """Tell whether something is mounted where the token would be."""
    return any(m.get("mountPath") == TOKEN_PATH for m in container.get("volumeMounts") or ())


def _volume(name: str) -> Json:
    namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _SECONDS, "path": "token"}},
        {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": _MODE}}
