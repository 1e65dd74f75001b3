"""The client: what a program says to a cluster it has embedded.

    await c.api.create({"apiVersion": "v1", "kind": "Pod", …})
    await c.api.wait("pod/web", "condition=Ready", timeout_s=30)

It speaks to the API server without HTTP in between; the objects and errors are the same.
"""

import asyncio
import builtins
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgpack
import orjson

from kubeloop.api.calls import Outcome, Request
from kubeloop.api.catalogue import Catalogue
from kubeloop.api.errors import ApiError, Expired, NotFound, error_of
from kubeloop.api.patch import merge_patch
from kubeloop.api.resources import BY_KIND, Resource, find
from kubeloop.net.choice import Choice, transition
from kubeloop.net.gate import Feed, Hung, Wake, Wanted, WatchEnded

ALL: Final = "*"  # As a namespace: every one.
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"

Patch = Literal["json", "merge", "strategic"]
Condition = str | Callable[["KubeObject"], bool]


class KubeObject(dict[str, Any]):
    """An object as Kubernetes writes it, with the fields everybody asks for at hand."""

    @property
    def kind(self) -> str:
        """The kind: "Pod"."""
        return str(self["kind"])

    @property
    def metadata(self) -> dict[str, Any]:
        """metadata."""
        return dict(self["metadata"])

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """metadata.namespace, "" for a cluster-scoped object."""
        return str(self["metadata"].get("namespace", ""))

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return str(self["metadata"]["uid"])

    @property
    def resource_version(self) -> int:
        """metadata.resourceVersion, as the revision it is."""
        return int(self["metadata"]["resourceVersion"])

    @property
    def labels(self) -> dict[str, str]:
        """metadata.labels, {} if there are none."""
        return dict(self["metadata"].get("labels") or {})

    @property
    def annotations(self) -> dict[str, str]:
        """metadata.annotations, {} if there are none."""
        return dict(self["metadata"].get("annotations") or {})

    @property
    def spec(self) -> dict[str, Any]:
        """spec, {} if the kind has none."""
        return dict(self.get("spec") or {})

    @property
    def status(self) -> dict[str, Any]:
        """status, {} if there is none yet."""
        return dict(self.get("status") or {})

    def condition(self, type_: str) -> str:
        """Return "True", "False" or "Unknown" of a condition; "" if it has not been set."""
        conditions = self.status.get("conditions") or ()
        return next((c["status"] for c in conditions if c["type"] == type_), "")


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch tells. type: ADDED, MODIFIED, DELETED."""

    type: str
    object: KubeObject


class Backend(Protocol):
    """The cluster, as the client needs it."""

    async def ask(self, request: Request) -> Outcome:
        """Have the API server handle a request."""

    async def open(self, wanted: Wanted, wake: Wake) -> Feed:
        """Return what a watch reads. wake: as of `Hub.open`. Raises: Expired."""

    def catalogue(self) -> Catalogue:
        """Return the kinds there are."""


class Client:
    """Speaks to one cluster as one user.

    agent: how it calls itself, as a REST client does by its User-Agent.

    Resources are named as in kubectl: "pods", "pod", "po", "Pod", "deployments.apps".
    Every method raises ApiError (NotFound, Conflict, Invalid, …) when the API server refuses.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        namespace: str = "default",
        user: str = "system:admin",
        agent: str = "kubeloop",
    ) -> None:
        self.backend, self.namespace = backend, namespace
        self.user, self.agent = user, agent

    async def create(
        self, obj: Mapping[str, Any], *, namespace: str = "", dry_run: bool = False
    ) -> KubeObject:
        """Create an object; return it as it was stored."""
        resource = self._resource_of(obj)
        where = self._where(resource, namespace or _namespace_of(obj))
        options = {"dryRun": ["All"]} if dry_run else {}
        request = Request(
            "create",
            resource.id,
            where,
            body=_pack(obj),
            options=options,
            version=_version(resource),
        )
        return await self._object(request)

    async def get(self, kind: str, name: str, *, namespace: str = "") -> KubeObject:
        """Return one object. Raises: NotFound."""
        resource = self._find(kind)
        return await self._object(
            Request("get", resource.id, self._where(resource, namespace), name)
        )

    async def list(
        self, kind: str, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> list[KubeObject]:
        """Return the objects the selectors choose; namespace ALL looks in every one."""
        resource = self._find(kind)
        options = {"labelSelector": labels, "fieldSelector": fields}
        where = self._where(resource, namespace)
        outcome = await self._ask(Request("list", resource.id, where, options=options))
        return [KubeObject(msgpack.unpackb(item)) for item in outcome.items]

    async def update(self, obj: Mapping[str, Any], *, subresource: str = "") -> KubeObject:
        """Replace an object, or its status. Raises: Conflict if it has changed since."""
        resource = self._resource_of(obj)
        where = self._where(resource, _namespace_of(obj))
        name = obj["metadata"]["name"]
        return await self._object(
            Request(
                "update",
                resource.id,
                where,
                name,
                subresource,
                body=_pack(obj),
                version=_version(resource),
            )
        )

    async def patch(
        self,
        kind: str,
        name: str,
        patch: Any,
        *,
        type_: Patch | None = None,
        namespace: str = "",
        subresource: str = "",
    ) -> KubeObject:
        """Patch an object, or a subresource of it.

        type_: None is strategic, and merge for a custom resource, which knows no other merging.
        """
        resource = self._find(kind)
        where = self._where(resource, namespace)
        type_ = type_ or ("merge" if resource.custom else "strategic")
        body, options = _pack(patch), {"patchType": type_}
        return await self._object(
            Request("patch", resource.id, where, name, subresource, body, options)
        )

    async def scale(
        self, kind: str, name: str, replicas: int, *, namespace: str = ""
    ) -> KubeObject:
        """Set the number of replicas; return the Scale."""
        return await self.patch(
            kind,
            name,
            {"spec": {"replicas": replicas}},
            type_="merge",
            namespace=namespace,
            subresource="scale",
        )

    async def delete(
        self,
        kind: str,
        name: str,
        *,
        namespace: str = "",
        grace_s: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> KubeObject:
        """Delete an object, or begin to; return it, or the Status that it is gone."""
        resource = self._find(kind)
        options: dict[str, Any] = {"propagationPolicy": propagation}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        where = self._where(resource, namespace)
        return await self._object(Request("delete", resource.id, where, name, options=options))

    async def apply(
        self,
        manifests: str | Path | Mapping[str, Any],
        *,
        field_manager: str = "",
        force: bool = False,
        subresource: str = "",
    ) -> "builtins.list[KubeObject]":
        """Create or change what the manifests say, as `kubectl apply` does.

        manifests:     YAML text, one object, or the path of a YAML file or a directory of them.
        field_manager: apply on the server's side, as who manages the fields the manifests name;
                       "" applies on the client's.
        force:         take the fields others manage; without it they are a Conflict.
        subresource:   "status", to apply through it.
        Raises: OSError for a path that cannot be read, yaml.YAMLError for text that is not YAML,
                ValueError for `force` or `subresource` without a `field_manager`.
        """
        if not field_manager:
            if force or subresource:
                raise ValueError("force and subresource need a field_manager: who forces it?")
            return [await self._apply(obj) for obj in load_manifests(manifests)]
        options: dict[str, Any] = {"patchType": "apply", "fieldManager": field_manager}
        if force:
            options["force"] = True
        return [
            await self._apply_as(obj, options, subresource) for obj in load_manifests(manifests)
        ]

    async def watch(
        self,
        kind: str,
        *,
        namespace: str = "",
        name: str = "",
        labels: str = "",
        fields: str = "",
        since: int | None = None,
    ) -> AsyncGenerator[Change, None]:
        """Yield every change, in order, none left out, until the caller stops.

        since: the revision to start after; None begins with what is there now, as ADDED.
        Raises: Expired when `since`, or a caller that took too long, is below the floor. In a
        simulation it may end before, or raise ConnectionError: then watch again.
        """
        resource = self._find(kind)
        where = self._where(resource, namespace)
        choice = Choice.parse(resource, labels, fields)
        if since is None:
            outcome = await self._ask(Request("list", resource.id, where))
            since = outcome.revision
            for item in outcome.items:
                obj = msgpack.unpackb(item)
                if choice.matches(resource.kept_form(obj)) and name in (
                    "",
                    obj["metadata"]["name"],
                ):
                    yield Change("ADDED", KubeObject(obj))
        bell = asyncio.Event()
        wanted = Wanted(
            resource.stored_id,
            since,
            namespace=where,
            name=name,
            labels=choice.label,
            user=self.user,
            agent=self.agent,
        )
        feed = await self.backend.open(wanted, bell.set)
        try:
            while True:
                bell.clear()
                try:
                    facts = feed.take()
                except Hung as hung:
                    await hung.over
                    continue
                for fact in facts:
                    seen = transition(fact, choice)
                    if seen is not None:
                        yield Change(seen[0], KubeObject(resource.told_form(seen[1])))
                if not feed.behind:
                    await bell.wait()
        except WatchEnded:
            return
        finally:
            feed.close()

    async def wait(
        self, what: str, until: Condition, *, namespace: str = "", timeout_s: float = 30.0
    ) -> KubeObject | None:
        """Wait until an object is as wanted; return it, None once it is deleted.

        what:  "pod/web", "deployment/web".
        until: "condition=Ready", "condition=Ready=False", "create", "delete", or a predicate.
        Raises: TimeoutError that tells what the object was like when the time was up.
        """
        kind, _, name = what.partition("/")
        last: KubeObject | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:  # A watch may end; what comes after it begins with what is there.
                    since = None
                    if until == "delete":
                        exists, since = await self._exists(kind, name, namespace)
                        if not exists:
                            return None
                    with suppress(Expired):
                        seen = self.watch(kind, namespace=namespace, name=name, since=since)
                        async for change in seen:
                            last = change.object
                            gone = change.type == "DELETED"
                            if gone and until == "delete":
                                return None
                            if not gone and until != "delete" and _holds(last, until):
                                return last
        except TimeoutError:
            known = f"it was last seen with status {last.status}" if last else "it never existed"
            raise TimeoutError(f"{what} is not {until!r} after {timeout_s} s: {known}") from None

    async def _exists(self, kind: str, name: str, namespace: str) -> tuple[bool, int]:
        """Tell whether an object is there, and at which revision that is so."""
        resource = self._find(kind)
        options = {"fieldSelector": f"metadata.name={name}"}
        where = self._where(resource, namespace)
        outcome = await self._ask(Request("list", resource.id, where, options=options))
        return bool(outcome.items), outcome.revision

    async def _apply(self, obj: dict[str, Any]) -> KubeObject:
        resource = self._resource_of(obj)
        where = self._where(resource, _namespace_of(obj))
        wanted = _with_last_applied(obj)
        try:
            current = await self.get(resource.id, obj["metadata"]["name"], namespace=where)
        except NotFound:
            return await self.create(wanted, namespace=where)
        before = orjson.loads(current.annotations.get(LAST_APPLIED) or "{}")
        change = three_way(before, wanted)
        if merge_patch(current, change) == current:
            return current
        return await self.patch(resource.id, current.name, change, type_="merge", namespace=where)

    async def _apply_as(
        self, obj: dict[str, Any], options: dict[str, Any], subresource: str
    ) -> KubeObject:
        resource = self._resource_of(obj)
        where = (self._where(resource, _namespace_of(obj)), obj["metadata"]["name"])
        request = Request("patch", resource.id, *where, subresource, _pack(obj), options)
        return await self._object(replace(request, version=_version(resource)))

    async def _object(self, request: Request) -> KubeObject:
        outcome = await self._ask(request)
        return KubeObject(msgpack.unpackb(outcome.body))

    async def _ask(self, request: Request) -> Outcome:
        outcome = await self.backend.ask(replace(request, user=self.user, agent=self.agent))
        if outcome.code >= 400:
            raise error_of(msgpack.unpackb(outcome.body))
        return outcome

    def _find(self, kind: str) -> Resource:
        """Return the resource a user means. Raises: LookupError."""
        try:
            return find(kind)
        except LookupError:
            return self.backend.catalogue().named(kind)

    def _resource_of(self, obj: Mapping[str, Any]) -> Resource:
        """Return the resource of an object. Raises: LookupError."""
        kind, version = obj.get("kind"), obj.get("apiVersion")
        wanted = str(version), str(kind)
        resource = BY_KIND.get(wanted) or self.backend.catalogue().by_kind.get(wanted)
        if resource is None:
            kinds = self.backend.catalogue().resources
            known = ", ".join(f"{r.api_version} {r.kind}" for r in kinds)
            raise LookupError(
                f'no matches for kind "{kind}" in version "{version}"; known: {known}'
            )
        return resource

    def _where(self, resource: Resource, namespace: str) -> str:
        if not resource.namespaced or namespace == ALL:
            return ""
        return namespace or self.namespace


def load_manifests(manifests: str | Path | Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the objects in YAML text, a file or a directory; lists are taken apart."""
    import yaml  # Heavy, and needed by few.

    if isinstance(manifests, Mapping):
        return [dict(manifests)]
    is_text = isinstance(manifests, str) and ("\n" in manifests or manifests.startswith("{"))
    texts = [str(manifests)] if is_text else _read(manifests)
    objects: list[dict[str, Any]] = []
    for text in texts:
        for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
            if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
                objects.extend(document.get("items") or ())
            elif document is not None:
                objects.append(document)
    return objects


def three_way(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that sets what is wanted and removes what no longer is."""
    patch: dict[str, Any] = {key: None for key in before if key not in wanted}
    for key, value in wanted.items():
        was = before.get(key)
        if isinstance(value, Mapping):
            patch[key] = three_way(was if isinstance(was, Mapping) else {}, value)
        else:
            patch[key] = value
    return patch


def _holds(obj: KubeObject, until: Condition) -> bool:
    if callable(until):
        return until(obj)
    if until == "create":
        return True
    if not until.startswith("condition="):
        raise ValueError(
            f"until={until!r} is none of 'create', 'delete', 'condition=TYPE[=STATUS]', a predicate"
        )
    type_, _, status = until.removeprefix("condition=").partition("=")
    return obj.condition(type_) == (status or "True")


def _read(path: str | Path) -> Iterable[str]:
    found = Path(path)
    if found.is_dir():
        files = sorted(f for f in found.iterdir() if f.suffix in (".yaml", ".yml", ".json"))
        return [f.read_text() for f in files]
    return [found.read_text()]


def _with_last_applied(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = dict(obj.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop(LAST_APPLIED, None)
    if annotations or "annotations" in metadata:
        metadata["annotations"] = annotations
    plain = {**obj, "metadata": metadata}
    text = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    return {**plain, "metadata": {**metadata, "annotations": {**annotations, LAST_APPLIED: text}}}


def _version(resource: Resource) -> str:
    """Return the version to speak: of a built-in kind there is one."""
    return "" if resource.versioned is None else resource.version


def _namespace_of(obj: Mapping[str, Any]) -> str:
    return str((obj.get("metadata") or {}).get("namespace") or "")


def _pack(obj: Any) -> bytes:
    packed: bytes = msgpack.packb(obj)
    return packed


__all__ = ["ALL", "ApiError", "Change", "Client", "KubeObject"]
