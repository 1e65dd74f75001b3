"""kubeconfigs: how kubectl finds a cluster, and who it says it is.

`kubeconfig` builds one that needs no other file. `merge` puts it into a user's own: everything
that was there stays, and only the entries of that name are replaced. It is written under kubectl's
own lock (FILE.lock) and put in place by a rename, so that neither a second writer nor a crash can
leave half a file.
"""

import base64
import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_LISTS: Final = ("clusters", "users", "contexts")

Config = dict[str, Any]


class KubeconfigError(Exception):
    """The user's kubeconfig cannot be read or written; the text says what to do."""


def context_name(name: str) -> str:
    """Return what cluster `name` is called in a kubeconfig."""
    return f"kubeloop-{name}"


def kubeconfig(
    name: str,
    *,
    url: str,
    token: str,
    authority: bytes | None = None,
    namespace: str = "default",
) -> Config:
    """Return a kubeconfig that is complete in itself.

    authority: PEM of the certificate the server's is signed by; None for plain HTTP.
    """
    title = context_name(name)
    # Between processes of one machine, compressing a list costs more than sending it.
    cluster: Config = {"server": url, "disable-compression": True}
    if authority is not None:
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": title, "cluster": cluster}],
        "users": [{"name": title, "user": {"token": token}}],
        "contexts": [
            {
                "name": title,
                "context": {"cluster": title, "user": title, "namespace": namespace},
            }
        ],
        "current-context": title,
        "preferences": {},
    }


def merged(existing: Mapping[str, Any], new: Mapping[str, Any]) -> Config:
    """Return `existing` with the entries of `new`, which becomes current. Pure.

    Raises: KubeconfigError if `existing` is not a kubeconfig.
    """
    result = {"apiVersion": "v1", "kind": "Config", **existing}
    for field in _LISTS:
        names = {entry["name"] for entry in new[field]}
        kept = [e for e in _entries(existing, field) if e.get("name") not in names]
        result[field] = [*kept, *new[field]]
    result["current-context"] = new["current-context"]
    return result


def without(existing: Mapping[str, Any], name: str) -> Config:
    """Return `existing` without the cluster called `name`. Pure."""
    title = context_name(name)
    result = dict(existing)
    for field in _LISTS:
        if field in existing:
            result[field] = [e for e in _entries(existing, field) if e.get("name") != title]
    if result.get("current-context") == title:
        result["current-context"] = ""
    return result


def write(path: Path, config: Mapping[str, Any]) -> None:
    """Write a kubeconfig of our own: readable by its owner only, whole or not at all."""
    _replace(path, config)


def merge(path: Path, config: Mapping[str, Any]) -> None:
    """Merge `config` into the kubeconfig at `path`, which need not exist.

    Raises: KubeconfigError if it is locked, or is not a kubeconfig.
    """
    with locked(path):
        _replace(path, merged(_read(path), config))


def remove(path: Path, name: str) -> None:
    """Take the cluster called `name` out of the kubeconfig at `path`. Raises: KubeconfigError."""
    with locked(path):
        existing = _read(path)
        if existing:
            _replace(path, without(existing, name))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a kubeconfig: wait for others of us, and take kubectl's own lock.

    Raises: KubeconfigError if a kubectl holds it; it never waits for another either.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock")
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            raise KubeconfigError(
                f"{path} is locked: if no kubectl is running, remove {lock} and try again"
            ) from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(directory)


def _read(path: Path) -> Config:
    import yaml  # Heavy, and needed by few.

    try:
        found = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise KubeconfigError(f"{path} cannot be read: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise KubeconfigError(f"{path} is not a kubeconfig: it holds a {type(found).__name__}")
    return found


def _entries(config: Mapping[str, Any], field: str) -> list[Config]:
    entries = config.get(field) or []
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise KubeconfigError(
            f"{field} of the kubeconfig is not a list of named entries; mend it, or choose "
            "another file"
        )
    return entries


def _replace(path: Path, config: Mapping[str, Any]) -> None:
    import yaml

    target = path.resolve()  # A link stays a link.
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    text = yaml.dump(dict(config), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
