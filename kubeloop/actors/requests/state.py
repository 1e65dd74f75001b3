"""The state a request is handled against: the store, read and written as objects.

Time and chance are arguments (`wall`, `bits`), so the same requests give the same store.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, Final

import msgpack

from kubeloop.actors.messages import API_SERVER
from kubeloop.actors.requests.allocation import Allocations
from kubeloop.actors.requests.claims import claim_key, claimant, claims
from kubeloop.actors.requests.converting import Conversion, Conversions
from kubeloop.actors.requests.definitions import Definitions
from kubeloop.actors.requests.hooks import Attempt, Hooks
from kubeloop.actors.requests.policing import Policies
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.catalogue import Catalogue
from kubeloop.api.custom import in_order
from kubeloop.api.errors import AlreadyExists, Conflict, PathNotFound, ServiceUnavailable
from kubeloop.api.resources import RESOURCES, Resource
from kubeloop.api.times import rfc3339
from kubeloop.api.uids import new_uid
from kubeloop.api.usage import QUOTAS
from kubeloop.store.facts import Cause, key_of, prefix_of
from kubeloop.store.history import CompareFailed, Stored, Write
from kubeloop.store.store import Store, StoreFailed, StoreFull

_NAME_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"  # apimachinery's rand.String: no words.
_SUFFIX_LENGTH: Final = 5
_API_SERVER_USER: Final = "system:apiserver"
_GENERATED_BASE_MAX: Final = 63 - _SUFFIX_LENGTH

_FREE: Final = ("labels", "annotations")  # What a conversion may change of an object's metadata.

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What an administrator may set of the API server; the defaults are Kubernetes' own.

    pod_cidr:      where pods live; a loopback one makes loopback endpoints legitimate.
    mounts_tokens: every pod gets a token of its account, and the authority to check us by, which
                   the controller manager must publish.
    plants:        there are flow schemas, priority levels and APIServices from the start, which
                   the API server looks after.
    """

    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/12"
    node_ports: tuple[int, int] = (30000, 32767)
    event_ttl_s: float = 3600.0
    eviction_tolerance_s: int = 300  # How long pods tolerate a node that does not answer.
    storage_class: str = ""  # The default StorageClass there is from the beginning.
    mounts_tokens: bool = False
    plants: bool = False


class State:
    """Objects by resource, namespace and name, over a store."""

    def __init__(
        self,
        store: Store,
        *,
        wall: Callable[[], float],
        bits: Callable[[int], int],
        settings: Settings,
    ) -> None:
        self.store, self.settings = store, settings
        self._wall, self._bits = wall, bits
        self.hooks, self.policies = Hooks(store), Policies(store)
        self._conversions = Conversions()
        self.warnings: list[str] = []  # Of admission, about the request that is handled.
        self.attempt: Attempt | None = None  # Of a request that may have to wait for webhooks.
        self._definitions = Definitions(store)
        self.allocations = Allocations(
            settings.service_cidr, settings.node_ports, self.owner_of_claim
        )

    def wall(self) -> float:
        """Return seconds since 1970: of a request that waited, when it came."""
        if self.attempt is None:
            return self._wall()
        if self.attempt.at is None:
            self.attempt.at = self._wall()
        return self.attempt.at

    def bits(self, count: int) -> int:
        """Return random bits: of a request that waited, those it had before."""
        if self.attempt is None:
            return self._bits(count)
        return self.attempt.draw(lambda: self._bits(count))

    def catalogue(self) -> Catalogue:
        """Return the kinds there are now."""
        return self._definitions.catalogue()

    def resource_of(self, request: Request) -> Resource:
        """Return the resource a request is about. Raises: PathNotFound."""
        resource = RESOURCES.get(request.resource)
        if resource is None or request.version not in ("", resource.version):
            resource = self.catalogue().find(request.resource, request.version)
        if resource is None:
            raise PathNotFound
        return resource

    def found(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Return an object as a version of its kind has it; None if there is none."""
        stored = self.store.get(key_of(resource.stored_id, namespace, name))
        return None if stored is None else self.served(resource, stored)

    def served(self, resource: Resource, stored: Stored) -> Object:
        """Return what is stored as a version of its kind has it, freshly decoded."""
        versioned = resource.versioned
        if versioned is None:
            obj: Object = msgpack.unpackb(stored.value)
            return obj
        (made,) = self.converted(resource, [stored])
        if made is not None:
            return versioned.served(made)
        return versioned.served(msgpack.unpackb(stored.value), stored.revision)

    def served_all(self, resource: Resource, items: Sequence[Stored]) -> list[Object]:
        """Return `served` of each: a webhook that is needed is asked about all together."""
        self.converted(resource, items)
        return [self.served(resource, item) for item in items]

    def converted(self, resource: Resource, items: Sequence[Stored]) -> list[Object | None]:
        """Return what a webhook makes of stored objects in a version, None where none is needed.

        Raises: Suspended; ConversionFailed.
        """
        kind = resource.custom
        if kind is None or kind.webhook is None:
            return [None] * len(items)
        return self._conversions.stored(kind, items, self.attempt, self._review_uid)

    def as_version(self, obj: Object, has: Resource, wants: Resource) -> Object:
        """Return an object of one version as another version of its kind has it.

        Raises: Suspended; ConversionFailed.
        """
        kind = has.custom
        if kind is not None and kind.webhook is not None and wants.custom is not None:
            wanted = wants.custom.api_version
            made = self._conversions.given(kind, obj, wanted, self.attempt, self._review_uid)
            return wants.custom.served(made)
        kept = obj if has.versioned is None else has.versioned.stored(obj)
        return kept if wants.versioned is None else wants.versioned.served(kept)

    def _kept(self, resource: Resource, obj: Object, before: Stored | None) -> Object:
        """Return an object as it is stored, but for its resourceVersion.

        Raises: Suspended; ConversionFailed.
        """
        kind, versioned = resource.custom, resource.versioned
        if versioned is None:
            return obj
        if kind is None or kind.webhook is None or kind.storage == kind.api_version:
            return versioned.stored(obj)
        if before is not None:
            kept: Object = msgpack.unpackb(before.value)
            if kept["apiVersion"] == kind.storage and _same(obj, self.served(resource, before)):
                free = {k: kept["metadata"][k] for k in _FREE if k in kept["metadata"]}
                metadata = {k: v for k, v in obj["metadata"].items() if k not in _FREE}
                return in_order({**kept, "metadata": {**metadata, **free}})
        metadata = {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}
        given = {**obj, "metadata": metadata}
        made = self._conversions.given(kind, given, kind.storage, self.attempt, self._review_uid)
        return in_order(made)

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return an object as it is stored, freshly decoded; None if there is none."""
        stored = self.store.get(key_of(resource, namespace, name))
        return None if stored is None else msgpack.unpackb(stored.value)

    def all(self, resource: str, namespace: str = "") -> list[Object]:
        """Return every object of `resource` as it is stored, in the order of the keys."""
        page = self.store.list(prefix_of(resource, namespace))
        return [msgpack.unpackb(value) for value in page.values]

    def note_conversion(self, attempt: Attempt, question: Conversion, packed: bytes) -> None:
        """Note what a conversion webhook said about a request."""
        self._conversions.note(attempt, question, packed)

    def owner_of_claim(self, kind: str, name: str) -> str:
        """Return "namespace/name" of the Service that has an address or a port, "" if none has."""
        stored = self.store.get(claim_key(kind, name))
        return "" if stored is None else claimant(stored.value)

    def put(
        self,
        resource: Resource,
        obj: Object,
        request: Request,
        *,
        create: bool,
        also: Sequence[Object] = (),
    ) -> None:
        """Write `obj`, which gets its new resourceVersion; with dryRun only pretend.

        also: quotas that change with it, as they were read, but for their status.

        Raises: AlreadyExists, Conflict, ServiceUnavailable.
        """
        metadata = obj["metadata"]
        key = key_of(resource.stored_id, metadata.get("namespace", ""), metadata["name"])
        before = self.store.get(key)
        if create and before is not None:
            raise AlreadyExists(resource.id, metadata["name"])
        if is_dry_run(request):
            if create:
                metadata.pop("resourceVersion", None)
            return
        expect = 0 if create or before is None else before.revision
        kept = self._kept(resource, obj, before)
        metadata["resourceVersion"] = str(self.store.revision + 1)
        if kept is not obj:
            version = {"resourceVersion": metadata["resourceVersion"]}
            kept = {**kept, "metadata": in_order({**kept["metadata"], **version})}
        is_event = resource.stored_id == "events"
        expires = self.wall() + self.settings.event_ttl_s if is_event else None
        writes = [Write(key, msgpack.packb(kept), expect, expires)]
        checks: dict[str, int] = {}
        if resource.id == "services":
            old = None if before is None else msgpack.unpackb(before.value)
            writes += claims(old, obj, self.store.revision + 1)
        # They come after it: who has heard half of this knows of an object no quota counts yet,
        # and not of a quota that counts too much.
        writes += map(self._charged, also)
        if create and resource.namespaced:
            checks = self._namespace_is_as_it_was(metadata["namespace"])
        self._commit(writes, checks, resource, metadata["name"], request)

    def _charged(self, quota: Object) -> Write:
        """Return the write of a quota that was read at the version it names."""
        metadata = quota["metadata"]
        expect = int(metadata["resourceVersion"])
        version = {**metadata, "resourceVersion": str(self.store.revision + 1)}
        key = key_of(QUOTAS, metadata["namespace"], metadata["name"])
        return Write(key, msgpack.packb({**quota, "metadata": version}), expect)

    def rewrite(self, stored: Stored, obj: Object, request: Request) -> Outcome:
        """Write `obj`, which is valid, in the place of what is stored; return the outcome.

        Raises: Conflict, ServiceUnavailable.
        """
        revision = self.store.revision + 1
        metadata = obj["metadata"]
        metadata["resourceVersion"] = str(revision)
        value = msgpack.packb(obj)
        write = Write(stored.key, value, stored.revision)
        self._commit([write], {}, self.resource_of(request), metadata["name"], request)
        return Outcome(request.tag, 200, revision, value)

    def remove(self, resource: Resource, obj: Object, request: Request) -> None:
        """Delete `obj` for good; with dryRun only pretend."""
        if is_dry_run(request):
            return
        metadata = obj["metadata"]
        key = key_of(resource.stored_id, metadata.get("namespace", ""), metadata["name"])
        writes = [Write(key, None)]
        if resource.id == "services":
            writes += claims(obj, None, self.store.revision + 1)
        self._commit(writes, {}, resource, metadata["name"], request)

    def expire(self) -> None:
        """Delete what has a lease that has run out: the fact that gave it is why.

        Raises: StoreFailed.
        """
        now = self.wall()
        for key in self.store.due(now):
            leased = self.store.get(key)
            because = 0 if leased is None else leased.revision
            cause = Cause(API_SERVER, "", because, _API_SERVER_USER)
            self.store.commit([Write(key, None)], cause, at=now)

    def now(self) -> str:
        """Return the time as metav1.Time."""
        return rfc3339(self.wall())

    def new_uid(self) -> str:
        """Return a fresh version-4 UUID."""
        return new_uid(self.bits)

    def _review_uid(self) -> str:
        """Return the uid of a question: not one of what a request draws each time it is handled."""
        return new_uid(self._bits)

    def generate_name(self, base: str) -> str:
        """Return `base`, cut if need be, and five random characters."""
        bits, suffix = self.bits(64), ""
        for _ in range(_SUFFIX_LENGTH):
            bits, digit = divmod(bits, len(_NAME_ALPHABET))
            suffix += _NAME_ALPHABET[digit]
        return base[:_GENERATED_BASE_MAX] + suffix

    def _namespace_is_as_it_was(self, name: str) -> dict[str, int]:
        """Return the check that nobody begins to delete a namespace while it gets an object."""
        key = key_of("namespaces", "", name)
        found = self.store.get(key)
        return {} if found is None else {key: found.revision}

    def _commit(
        self,
        writes: list[Write],
        checks: dict[str, int],
        resource: Resource,
        name: str,
        request: Request,
    ) -> None:
        # Every fact keeps its cause, and few names are in all of them: one copy of each will do.
        sender, user = intern(request.sender), intern(request.user)
        cause = Cause(sender, request.id, request.because, user)
        try:
            self.store.commit(writes, cause, at=self.wall(), checks=checks)
        except (StoreFailed, StoreFull) as error:
            raise ServiceUnavailable(f"the store takes no writes: {error}") from error
        except CompareFailed as error:
            if error.key == writes[0].key:
                raise Conflict.modified(resource.id, name) from None
            raise ServiceUnavailable(f"something changed meanwhile, try again: {error}") from None


def _same(obj: Object, other: Object) -> bool:
    """Tell whether two objects of a version are equal but for what no conversion may change."""
    names = (obj.keys() | other.keys()) - {"metadata"}
    return all(obj.get(name) == other.get(name) for name in names) and all(
        obj["metadata"].get(name) == other["metadata"].get(name) for name in _FREE
    )


def is_dry_run(request: Request) -> bool:
    """Tell whether the request only asks what would happen."""
    return bool(request.options.get("dryRun"))


def metadata_of(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object's metadata; empty if it has none."""
    metadata = obj.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}
