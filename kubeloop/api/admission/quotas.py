"""Admission by quotas: what an object takes is taken from each with the object, or it is refused.

A quota's `status.used` is written in the transaction that writes the object. So it is never less
than what there is, whoever else writes at the same time; what is given back when objects go is
told by the quota controller.

Source: Kubernetes, "Resource Quotas"; the plugin ResourceQuota in behaviour.
"""

from collections.abc import Iterable, Mapping, Sequence

from kubeloop.api.defaulting.tools import Json, maybe
from kubeloop.api.errors import Forbidden
from kubeloop.api.pod_resources import Amounts, add, read
from kubeloop.api.quantities import Quantity
from kubeloop.api.usage import counted_by, missing, of_quota, usage


def charge(resource_id: str, obj: Json, old: Json | None, quotas: Sequence[Json]) -> list[Json]:
    """Return the quotas an object takes from, with what it takes.

    old: what the object was before its change, None if it is new. Raises: Forbidden.
    """
    concerned: list[tuple[Json, Amounts]] = []
    name = obj["metadata"].get("name") or ""
    for quota in quotas:
        status = quota.get("status") or {}
        hard = read(maybe(status, "hard"))
        limited = [one for one in hard if counted_by(one) == resource_id]
        if not limited or not of_quota(quota, resource_id, obj):
            continue
        title = quota["metadata"]["name"]
        if resource_id == "pods" and (lacking := missing(limited, obj)):
            raise Forbidden(resource_id, name, f"failed quota: {title}: must specify {lacking}")
        if not {*limited} <= (maybe(status, "used") or {}).keys():
            told = ",".join(sorted(limited))
            why = f"status unknown for quota: {title}, resources: {told}"
            raise Forbidden(resource_id, name, why)
        concerned.append((quota, hard))
    if not concerned:
        return []
    delta = _delta(resource_id, obj, old)
    charged = (_take(resource_id, name, delta, quota, hard) for quota, hard in concerned)
    return [quota for quota in charged if quota is not None]


def _delta(resource_id: str, obj: Json, old: Json | None) -> Amounts:
    """Return what an object takes more than before, or less."""
    taken = usage(resource_id, obj)
    if old is None:
        return {name: amount for name, amount in taken.items() if amount.number}
    before = usage(resource_id, old)
    more = {
        name: Quantity(amount.number - before[name].number, amount.family)
        if name in before
        else amount
        for name, amount in taken.items()
    }
    return {name: amount for name, amount in more.items() if amount.number}


def _take(resource_id: str, name: str, delta: Amounts, quota: Json, hard: Amounts) -> Json | None:
    """Return a quota with more taken from it, None if nothing is. Raises: Forbidden."""
    wanted = {one: amount for one, amount in delta.items() if one in hard}
    if not wanted:
        return None
    status = quota["status"]
    used = read(status["used"])
    after = add(used, wanted)
    exceeded = [
        one for one in wanted if wanted[one].number > 0 and after[one].number > hard[one].number
    ]
    if exceeded:
        raise Forbidden(
            resource_id,
            name,
            f"exceeded quota: {quota['metadata']['name']},"
            f" requested: {_shown(wanted, exceeded)},"
            f" used: {_shown(used, exceeded)},"
            f" limited: {_shown(hard, exceeded)}",
        )
    told = {**status["used"], **{one: str(after[one]) for one in wanted}}
    return {**quota, "status": {**status, "used": told}}


def _shown(amounts: Mapping[str, Quantity], names: Iterable[str]) -> str:
    return ",".join(f"{name}={amounts[name]}" for name in sorted(names))
