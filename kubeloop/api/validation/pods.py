"""Rules of pods and pod templates, and of the little that may change in a running pod."""

from dataclasses import replace
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems, diff
from kubeloop.api.validation import containers, metadata, persistence, resources, selectors
from kubeloop.api.validation.volumes import volumes

_INT32_MAX: Final = 2**31 - 1
_RESTART: Final = ("Always", "OnFailure", "Never")
_DNS: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION: Final = ("Never", "PreemptLowerPriority")
_MIRROR: Final = "kubernetes.io/config.mirror"
_CHANGEABLE: Final = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_GATES: Final = "only deletion is allowed, but found new scheduling gate"
_ADDRESSES_MAX: Final = 2


def pod(problems: Problems, obj: Json) -> None:
    """Check what holds of a pod at any time."""
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    notes = meta.get("annotations") or {}
    if _MIRROR in notes and not spec.get("nodeName"):
        detail = "must set spec.nodeName if mirror pod annotation is set"
        problems.invalid(f"metadata.annotations[{_MIRROR}]", notes[_MIRROR], detail)
    pod_spec(problems, "spec", spec)
    for kind in ("containers", "initContainers"):
        containers.only_in_pods(problems, f"spec.{kind}", items(spec, kind))


def on_create(problems: Problems, obj: Json) -> None:
    """Check what may not be in a new pod."""
    if (obj.get("spec") or {}).get("ephemeralContainers"):
        problems.forbidden("spec.ephemeralContainers", "cannot be set on create")


def on_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check a changed pod: apart from a few fields its spec is what it was."""
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    for name in ("containers", "initContainers"):
        if len(items(spec, name)) != len(items(was, name)):
            problems.forbidden(f"spec.{name}", "pod updates may not add or remove containers")
            return
        for number, container in enumerate(items(spec, name)):
            if not container.get("image"):
                problems.required(f"spec.{name}[{number}].image")
    if not _deadline(problems, spec, was):
        return
    _only_added_tolerations(problems, spec, was)
    _only_deleted_gates(problems, spec, was)
    allowed = _with_allowed_changes(spec, was)
    if allowed != was:
        detail = f"pod updates may not change fields other than {_CHANGEABLE}\n{diff(allowed, was)}"
        problems.forbidden("spec", detail)


def on_status_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check a new status of a pod."""
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    status, old_status = obj.get("status") or {}, old.get("status") or {}
    if (spec.get("nodeName") or "") != (was.get("nodeName") or ""):
        problems.forbidden("status.nodeName", "may not be changed directly")
    if nominated := status.get("nominatedNodeName"):
        wrong = names.dns1123_subdomain(nominated)
        problems.invalid_each("status.nominatedNodeName", nominated, wrong)
    policy = was.get("restartPolicy")
    for kind in ("containerStatuses", "initContainerStatuses"):
        once = policy == "OnFailure" if kind == "containerStatuses" else policy != "Never"
        if policy == "Never" or once:
            _never_back(
                problems, f"status.{kind}", items(status, kind), items(old_status, kind), once
            )
    _addresses(problems, "status.podIPs", items(status, "podIPs"))
    _addresses(problems, "status.hostIPs", items(status, "hostIPs"))


def template(problems: Problems, field: str, obj: Json) -> None:
    """Check a pod template."""
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    metadata.labels(problems, f"{field}.labels", meta.get("labels"))
    metadata.annotations(problems, f"{field}.annotations", meta.get("annotations"))
    pod_spec(problems, f"{field}.spec", spec)
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        problems.forbidden(f"{field}.spec.ephemeralContainers", detail)


def _ephemeral(problems: Problems, field: str, given: list[Json]) -> set[str]:
    """Check the claims that ephemeral volumes are; return the names of the bad ones."""
    bad: set[str] = set()
    for number, volume in enumerate(given):
        if (source := maybe(volume, "ephemeral")) is None:
            continue
        at, found = f"{field}[{number}].ephemeral.volumeClaimTemplate", Problems()
        template = maybe(source, "volumeClaimTemplate")
        if template is None:
            problems.required(at)
        else:
            persistence.claim(found, template)
            problems.extend(replace(one, field=f"{at}.{one.field}") for one in found)
        if found or template is None:
            bad.add(str(volume.get("name")))
    return bad


def pod_spec(problems: Problems, field: str, spec: Json) -> None:
    """Check what pods and templates share."""
    good = volumes(problems, f"{field}.volumes", items(spec, "volumes"))
    good -= _ephemeral(problems, f"{field}.volumes", items(spec, "volumes"))
    containers.containers(problems, f"{field}.containers", spec, good)
    containers.init_containers(problems, f"{field}.initContainers", spec, good)
    if (requirements := maybe(spec, "resources")) is not None:
        resources.requirements(problems, f"{field}.resources", requirements)
    for key, supported in (("restartPolicy", _RESTART), ("dnsPolicy", _DNS)):
        if value := spec.get(key) or "":
            problems.one_of(f"{field}.{key}", value, supported)
        else:
            problems.required(f"{field}.{key}")
    metadata.labels(problems, f"{field}.nodeSelector", spec.get("nodeSelector"))
    if spec.get("hostNetwork"):
        _host_network(problems, field, spec)
    for number, secret in enumerate(items(spec, "imagePullSecrets")):
        if not secret.get("name"):
            problems.required(f"{field}.imagePullSecrets[{number}].name")
    selectors.affinity(problems, f"{field}.affinity", maybe(spec, "affinity"))
    for number, gate in enumerate(items(spec, "readinessGates")):
        at, kind = (
            f"{field}.readinessGates[{number}].conditionType",
            gate.get("conditionType") or "",
        )
        problems.invalid_each(at, kind, names.qualified_name(kind))
    _names(problems, field, spec)
    selectors.tolerations(problems, f"{field}.tolerations", items(spec, "tolerations"))
    _host_aliases(problems, f"{field}.hostAliases", items(spec, "hostAliases"))
    if priority := spec.get("priorityClassName"):
        wrong = names.dns1123_subdomain(priority)
        problems.invalid_each(f"{field}.priorityClassName", priority, wrong)
    if preemption := spec.get("preemptionPolicy"):
        problems.one_of(f"{field}.preemptionPolicy", preemption, _PREEMPTION)
    if overhead := maybe(spec, "overhead"):
        resources.requirements(problems, f"{field}.overhead", {"limits": overhead})


def _names(problems: Problems, field: str, spec: Json) -> None:
    """Check what names other things, and the deadline, which Kubernetes checks among them."""
    for key in ("serviceAccountName", "nodeName"):
        if name := spec.get(key):
            problems.invalid_each(f"{field}.{key}", name, names.dns1123_subdomain(name))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _INT32_MAX:
        at = f"{field}.activeDeadlineSeconds"
        problems.invalid(at, deadline, names.between(1, _INT32_MAX))
    for key in ("hostname", "subdomain"):
        if name := spec.get(key):
            problems.invalid_each(f"{field}.{key}", name, names.dns1123_label(name))


def _host_network(problems: Problems, field: str, spec: Json) -> None:
    for number, container in enumerate(items(spec, "containers")):
        for index, port in enumerate(items(container, "ports")):
            host = port.get("hostPort")
            # In a template there may be none yet: the pod made of it gets the container's port.
            if host and host != port.get("containerPort"):
                at = f"{field}.containers[{number}].ports[{index}].hostPort"
                detail = "must match `containerPort` when `hostNetwork` is true"
                problems.invalid(at, host, detail)


def _host_aliases(problems: Problems, field: str, aliases: list[Json]) -> None:
    for number, alias in enumerate(aliases):
        address = alias.get("ip") or ""
        problems.invalid_each(f"{field}[{number}].ip", address, names.ip(address))
        for name in alias.get("hostnames") or ():
            at = f"{field}[{number}].hostnames"
            problems.invalid_each(at, name, names.dns1123_subdomain(name))


def _deadline(problems: Problems, spec: Json, was: Json) -> bool:
    """Check that the deadline only comes nearer; return whether to look any further."""
    field = "spec.activeDeadlineSeconds"
    new, old = spec.get("activeDeadlineSeconds"), was.get("activeDeadlineSeconds")
    if new is None:
        if old is not None:
            detail = "must not update from a positive integer to nil value"
            problems.invalid(field, None, detail)
    elif not 0 <= new <= _INT32_MAX:
        problems.invalid(field, new, names.between(0, _INT32_MAX))
        return False
    elif old is not None and old < new:
        problems.invalid(field, new, "must be less than or equal to previous value")
        return False
    return True


def _only_added_tolerations(problems: Problems, spec: Json, was: Json) -> None:
    """Check that every old toleration is still there; its seconds alone may differ."""

    def alike(toleration: Json) -> Json:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    new = [alike(toleration) for toleration in items(spec, "tolerations")]
    if any(alike(old) not in new for old in items(was, "tolerations")):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        problems.forbidden("spec.tolerations", detail)


def _only_deleted_gates(problems: Problems, spec: Json, was: Json) -> None:
    old = [gate.get("name") for gate in items(was, "schedulingGates")]
    for number, gate in enumerate(items(spec, "schedulingGates")):
        if gate.get("name") not in old:
            detail = f"{_GATES} '{gate.get('name')}'"
            problems.forbidden(f"spec.schedulingGates[{number}]", detail)


def _with_allowed_changes(spec: Json, was: Json) -> Json:
    """Return the new spec with all taken back that may change: what remains must equal the old."""
    allowed = dict(spec)
    for name in ("containers", "initContainers"):
        if name in allowed:
            pairs = zip(items(spec, name), items(was, name), strict=True)
            allowed[name] = [{**new, "image": old.get("image")} for new, old in pairs]
    changing = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    grace, old_grace = (s.get("terminationGracePeriodSeconds") for s in (spec, was))
    if grace == 1 and isinstance(old_grace, int) and old_grace < 0:
        changing.append("terminationGracePeriodSeconds")
    for key in changing:
        allowed.pop(key, None)
        if key in was:
            allowed[key] = was[key]
    return allowed


def _never_back(
    problems: Problems, field: str, new: list[Json], old: list[Json], failed_may: bool
) -> None:
    """Check that no container comes back to life whose policy says it stays dead."""
    after = {status.get("name"): status for status in new}
    for number, before in enumerate(old):
        ended = maybe(maybe(before, "state"), "terminated")
        if ended is None or (failed_may and ended.get("exitCode")):
            continue
        now = after.get(before.get("name"))
        if now is not None and maybe(maybe(now, "state"), "terminated") is None:
            detail = "may not be transitioned to non-terminated state"
            problems.forbidden(f"{field}[{number}].state", detail)


def _addresses(problems: Problems, field: str, addresses: list[Json]) -> None:
    for number, address in enumerate(addresses):
        text = address.get("ip") or ""
        problems.invalid_each(f"{field}[{number}]", text, names.ip(text))
    if len(addresses) > _ADDRESSES_MAX:
        shown: list[Any] = [{"IP": address.get("ip") or ""} for address in addresses]
        problems.invalid(field, shown, "may specify no more than one IP for each IP family")
