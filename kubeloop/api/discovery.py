"""Discovery: which resources there are, told from the catalogue in both of Kubernetes' ways. Pure.

Legacy: /api, /apis, and one list per version. Aggregated: everything at /api and /apis at once,
for clients that ask for it by Accept.
"""

import base64
import hashlib
from typing import Any

from kubeloop.api.catalogue import Catalogue
from kubeloop.api.resources import Resource, Subresource

Json = dict[str, Any]


def api_versions(address: str = "") -> Json:
    """Return the APIVersions of /api. address: "127.0.0.1:6443", where the server answers."""
    where = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": where}


def api_groups(catalogue: Catalogue) -> Json:
    """Return the APIGroupList of /apis."""
    groups = []
    for group in catalogue.groups:
        document = _group(catalogue, group)
        groups.append({k: v for k, v in document.items() if k not in ("kind", "apiVersion")})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(catalogue: Catalogue, group: str) -> Json | None:
    """Return the APIGroup of /apis/GROUP, None if there is no such group."""
    return _group(catalogue, group) if group in catalogue.groups else None


def resource_list(catalogue: Catalogue, group: str, version: str) -> Json | None:
    """Return the APIResourceList of a version, None if there is no such version."""
    if (group, version) not in catalogue.group_versions:
        return None
    rows: list[Json] = []
    for resource in _resources(catalogue, group, version):
        rows.append(_resource_row(resource))
        rows += [_subresource_row(resource, sub) for sub in resource.subresources]
    rows.sort(key=lambda row: str(row["name"]))
    head: Json = {"kind": "APIResourceList"}
    if group:
        head["apiVersion"] = "v1"
    return {
        **head,
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": rows,
    }


def aggregated(catalogue: Catalogue, *, core: bool, version: str) -> Json:
    """Return the APIGroupDiscoveryList of /api (core) or /apis. version: "v2" or "v2beta1"."""
    items = []
    for group in [""] if core else catalogue.groups:
        versions = [
            _aggregated_version(catalogue, group, v)
            for g, v in catalogue.group_versions
            if g == group
        ]
        metadata = {"name": group} if group else {}
        items.append({"metadata": metadata, "versions": versions})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def paths(catalogue: Catalogue) -> list[str]:
    """Return the paths of all versions and groups, as / lists them."""
    found = ["/api", "/api/v1", "/apis", "/apis/"]
    for group in catalogue.groups:
        found.append(f"/apis/{group}")
        found += [f"/apis/{group}/{v}" for g, v in catalogue.group_versions if g == group]
    return sorted(found)


def _resources(catalogue: Catalogue, group: str, version: str) -> list[Resource]:
    found = [r for r in catalogue.resources if (r.group, r.version) == (group, version)]
    return sorted(found, key=lambda resource: resource.plural)


def _group(catalogue: Catalogue, group: str) -> Json:
    versions = [
        {"groupVersion": f"{group}/{version}", "version": version}
        for g, version in catalogue.group_versions
        if g == group
    ]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group,
        "versions": versions,
        "preferredVersion": versions[0],
    }


def _resource_row(resource: Resource) -> Json:
    row: Json = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    if resource.stored:
        row["storageVersionHash"] = _storage_version_hash(resource)
    return row


def _subresource_row(resource: Resource, sub: Subresource) -> Json:
    row: Json = {
        "name": f"{resource.plural}/{sub.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
    }
    if sub.version:
        row |= {"group": sub.group, "version": sub.version}
    return {**row, "kind": sub.kind or resource.kind, "verbs": list(sub.verbs)}


def _aggregated_version(catalogue: Catalogue, group: str, version: str) -> Json:
    rows = []
    for resource in _resources(catalogue, group, version):
        row: Json = {
            "resource": resource.plural,
            "responseKind": {"group": "", "version": "", "kind": resource.kind},
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            row["shortNames"] = list(resource.short_names)
        if resource.categories:
            row["categories"] = list(resource.categories)
        if resource.subresources:
            subs = sorted(resource.subresources, key=lambda sub: sub.name)
            row["subresources"] = [_aggregated_subresource(resource, sub) for sub in subs]
        rows.append(row)
    return {"version": version, "resources": rows, "freshness": "Current"}


def _aggregated_subresource(resource: Resource, sub: Subresource) -> Json:
    return {
        "subresource": sub.name,
        "responseKind": {
            "group": sub.group,
            "version": sub.version,
            "kind": sub.kind or resource.kind,
        },
        "verbs": list(sub.verbs),
    }


def _storage_version_hash(resource: Resource) -> str:
    """Return the first 8 bytes of SHA-256 over "group/version/kind", as apiserver makes it."""
    group, version = resource.group, resource.version
    if resource.versioned is not None:
        group, _, version = resource.versioned.storage.rpartition("/")
    text = f"{group}/{version}/{resource.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()
