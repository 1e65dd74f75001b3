"""What the API server itself sees to: the objects it has from its start, and keeps as they are.

Flow schemas, priority levels and APIServices are no user's: they are there from the first moment,
all in one commit with the roles of the system, and what definitions add follows them. They were
made once, as any other object is, and stand packed beside this file; ids follow from name and time,
so that they cost no chance.

Source: k8s.io/apiserver's and kube-aggregator's post-start hooks in behaviour.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from typing import Final

import msgpack

from kubeloop.actors.messages import API_SERVER
from kubeloop.actors.requests.bootstrap_roles import bootstrap_roles
from kubeloop.actors.requests.core import READS, Core
from kubeloop.actors.requests.state import Object, Settings, State
from kubeloop.actors.requests.writing import API_SERVER_USER
from kubeloop.api import flows, local_services
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.catalogue import DEFINITIONS
from kubeloop.api.resources import BY_KIND
from kubeloop.api.times import rfc3339
from kubeloop.api.uids import new_uid
from kubeloop.store.facts import Cause
from kubeloop.store.history import CompareFailed, Write
from kubeloop.store.store import Store, StoreFailed, StoreFull

ABOUT: Final = frozenset({flows.SCHEMAS, flows.LEVELS, local_services.SERVICES, DEFINITIONS})
# What stands in packed objects for what is to be filled in: of the same length, or with its length.
_TIME: Final = b"1970-01-01T00:00:00Z"
_UID: Final = b"00000000-0000-4000-8000-000000000000"
_VERSION: Final = msgpack.packb("#")


def plant(state: State) -> bool:
    """Commit what a cluster has from its start and lacks; tell whether there was any."""
    now, version = rfc3339(state.wall()), msgpack.packb(str(state.store.revision + 1))
    time = now.encode()
    writes = []
    for key, packed in _packed():
        if state.store.get(key) is None:
            uid = _uid(f"{key} {now}").encode()
            value = packed.replace(_TIME, time).replace(_UID, uid).replace(_VERSION, version)
            writes.append(Write(key, value, 0))
    if not writes:
        return False
    try:
        cause = Cause(API_SERVER, _uid(f"start {now} {state.store.revision}"), 0, API_SERVER_USER)
        state.store.commit(writes, cause, at=state.wall())
    except (StoreFailed, StoreFull, CompareFailed):
        return False  # Whoever starts next does it.
    return True


def concerns(request: Request, outcome: Outcome) -> bool:
    """Tell whether a request may have changed what is seen to here."""
    return request.resource in ABOUT and request.verb not in READS and outcome.code < 300


def due(state: State) -> list[Request]:
    """Return the writes that bring all back to what it should be; [] if it is so."""
    new, other, gone = local_services.changes(
        local_services.custom(state.catalogue()), state.all(local_services.SERVICES)
    )
    requests = [*map(_create, new), *map(_update, other), *map(_delete, gone)]
    for id_ in (flows.LEVELS, flows.SCHEMAS):
        known = {obj["metadata"]["name"]: obj for obj in state.all(id_)}
        for _, name, template in _of(id_):
            found = known.get(name)
            if found is None:
                requests.append(_create(_bare(template)))
            elif (right := flows.repaired(found, template)) is not None:
                requests.append(_update(right))
    because, now = state.store.revision, state.now()  # The newest fact is one that made us look.
    return [
        replace(request, sender=API_SERVER, because=because, id=_uid(f"{because} {now} {number}"))
        for number, request in enumerate((*requests, *_dangling(state)))
    ]


def _dangling(state: State) -> Iterator[Request]:
    """Yield the writes that tell of each flow schema whether its level is there."""
    levels = {obj["metadata"]["name"] for obj in state.all(flows.LEVELS)}
    now = state.now()
    for obj in state.all(flows.SCHEMAS):
        level = obj["spec"]["priorityLevelConfiguration"]["name"]
        wanted = flows.dangling(level, level in levels)
        conditions = (obj.get("status") or {}).get("conditions") or []
        told: Object = next((one for one in conditions if one["type"] == wanted["type"]), {})
        if any(told.get(key) != value for key, value in wanted.items()):
            since = told.get("lastTransitionTime", now)
            at = since if told.get("status") == wanted["status"] else now
            kept = [one for one in conditions if one["type"] != wanted["type"]]
            status = {"conditions": [*kept, {**wanted, "lastTransitionTime": at}]}
            yield _update({**obj, "status": status}, "status")


def made() -> list[tuple[str, str, Object]]:
    """Return (id, name, object) of all there is from the start, made as any other object is.

    Times are those of the beginning, ids are nothing, versions are "#". What comes of it stands
    beside this file: `tools/generate_planted.py`.
    """
    core = Core(Store.memory(), wall=lambda: 0.0, bits=lambda count: 0, settings=Settings())
    objects = [
        *flows.levels(),
        *flows.schemas(),
        *local_services.built_in(),
        *bootstrap_roles(),
    ]
    for obj in objects:
        outcome = core.handle(_create(obj))
        assert outcome.code == 201, msgpack.unpackb(outcome.body)
    for request in _dangling(core.state):
        assert core.handle(request).code == 200
    told = []
    for obj in objects:
        id_, name = BY_KIND[obj["apiVersion"], obj["kind"]].id, obj["metadata"]["name"]
        found = core.state.get(id_, "", name)
        assert found is not None
        found["metadata"]["resourceVersion"] = "#"
        told.append((id_, name, found))
    return told


@lru_cache(1)
def _packed() -> tuple[tuple[str, bytes], ...]:
    """Return (key, packed object) of all of them, with placeholders."""
    raw = (files("kubeloop.actors.requests") / "planted.msgpack").read_bytes()
    return tuple((key, value) for key, value in msgpack.unpackb(raw))


@lru_cache(1)
def _templates() -> tuple[tuple[str, str, Object], ...]:
    """Return (id, name, object) of all of them."""
    found = []
    for key, value in _packed():
        _, _, id_, name = key.split("/")
        found.append((id_, name, msgpack.unpackb(value)))
    return tuple(found)


def _of(id_: str) -> Iterable[tuple[str, str, Object]]:
    return (one for one in _templates() if one[0] == id_)


def _uid(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return new_uid(lambda count: int.from_bytes(digest, "big") >> (256 - count))


def _bare(template: Object) -> Object:
    """Return what is asked for when one is made again."""
    metadata = {k: template["metadata"][k] for k in ("name", "annotations")}
    return {**{k: template[k] for k in ("apiVersion", "kind", "spec")}, "metadata": metadata}


def _create(obj: Object) -> Request:
    id_ = BY_KIND[obj["apiVersion"], obj["kind"]].id
    return Request("create", id_, body=msgpack.packb(obj), user=API_SERVER_USER)


def _update(obj: Object, subresource: str = "") -> Request:
    id_, name = BY_KIND[obj["apiVersion"], obj["kind"]].id, obj["metadata"]["name"]
    body = msgpack.packb(obj)
    return Request("update", id_, "", name, subresource, body, user=API_SERVER_USER)


def _delete(obj: Object) -> Request:
    id_, name = BY_KIND[obj["apiVersion"], obj["kind"]].id, obj["metadata"]["name"]
    options = {"preconditions": {"uid": obj["metadata"]["uid"]}}
    return Request("delete", id_, "", name, options=options, user=API_SERVER_USER)
