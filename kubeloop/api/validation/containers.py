"""Rules of containers: names, images, ports, environment, mounts."""

from collections.abc import Set
from typing import Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import probes, resources
from kubeloop.api.validation.volumes import local_path

PROTOCOLS: Final = ("SCTP", "TCP", "UDP")

_NOT_FOR_INIT: Final = "may not be set for init containers without restartPolicy=Always"
_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES: Final = ("FallbackToLogsOnError", "File")
_ENV_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_KNOWN_FIELDS: Final = (
    *_ENV_FIELDS,
    "metadata.annotations",
    "metadata.labels",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
)
_CONTAINER_RESOURCES: Final = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_SECURITY_FIELDS: Final = {  # As Kubernetes' own type of it prints.
    "Capabilities": "capabilities",
    "Privileged": "privileged",
    "SELinuxOptions": "seLinuxOptions",
    "WindowsOptions": "windowsOptions",
    "RunAsUser": "runAsUser",
    "RunAsGroup": "runAsGroup",
    "RunAsNonRoot": "runAsNonRoot",
    "ReadOnlyRootFilesystem": "readOnlyRootFilesystem",
    "AllowPrivilegeEscalation": "allowPrivilegeEscalation",
    "ProcMount": "procMount",
    "SeccompProfile": "seccompProfile",
    "AppArmorProfile": "appArmorProfile",
}
_SOURCES: Final = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def containers(problems: Problems, field: str, spec: Json, volumes: Set[str]) -> None:
    """Check the containers of a pod spec, of which there must be one."""
    given = items(spec, "containers")
    if not given:
        problems.required(field)
    seen: set[str] = set()
    for number, container in enumerate(given):
        at = f"{field}[{number}]"
        common(problems, at, container, volumes)
        unique(problems, at, container, seen)
        probes.lifecycle(problems, at, container)
        probes.probes(problems, at, container)
    _host_ports(problems, field, given)


def init_containers(problems: Problems, field: str, spec: Json, volumes: Set[str]) -> None:
    """Check the init containers of a pod spec."""
    seen = {str(container.get("name") or "") for container in items(spec, "containers")}
    for number, container in enumerate(items(spec, "initContainers")):
        at, policy = f"{field}[{number}]", container.get("restartPolicy")
        common(problems, at, container, volumes)
        if policy is not None:
            problems.one_of(f"{at}.restartPolicy", policy, ("Always",))
        unique(problems, at, container, seen)
        _host_ports(problems, field, [container])
        if policy == "Always":
            probes.lifecycle(problems, at, container)
            probes.probes(problems, at, container)
            continue
        for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if container.get(key) is not None:
                problems.forbidden(f"{at}.{key}", _NOT_FOR_INIT)


def only_in_pods(problems: Problems, field: str, given: list[Json]) -> None:
    """Check what is forgiven in templates: blanks round the name of an image."""
    for number, container in enumerate(given):
        image = container.get("image") or ""
        if image != image.strip():
            detail = "must not have leading or trailing whitespace"
            problems.invalid(f"{field}[{number}].image", image, detail)


def unique(problems: Problems, field: str, container: Json, seen: set[str]) -> None:
    name = container.get("name") or ""
    if name in seen:
        problems.duplicate(f"{field}.name", name)
    seen.add(name)


def common(problems: Problems, field: str, container: Json, volumes: Set[str]) -> None:
    """Check what every container has in common."""
    if name := container.get("name") or "":
        problems.invalid_each(f"{field}.name", name, names.dns1123_label(name))
    else:
        problems.required(f"{field}.name")
    if not container.get("image"):
        problems.required(f"{field}.image")
    policy = container.get("terminationMessagePolicy") or ""
    if policy:
        problems.one_of(f"{field}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
    else:
        problems.required(f"{field}.terminationMessagePolicy")
    _ports(problems, f"{field}.ports", items(container, "ports"))
    _env(problems, f"{field}.env", items(container, "env"))
    _env_from(problems, f"{field}.envFrom", items(container, "envFrom"))
    _mounts(problems, f"{field}.volumeMounts", items(container, "volumeMounts"), volumes)
    if pull := container.get("imagePullPolicy") or "":
        problems.one_of(f"{field}.imagePullPolicy", pull, _POLICIES)
    else:
        problems.required(f"{field}.imagePullPolicy")
    resources.requirements(problems, f"{field}.resources", maybe(container, "resources"))
    _security(problems, f"{field}.securityContext", maybe(container, "securityContext"))


def _ports(problems: Problems, field: str, ports: list[Json]) -> None:
    seen: set[str] = set()
    for number, port in enumerate(ports):
        at, name = f"{field}[{number}]", port.get("name") or ""
        if name:
            if wrong := names.port_name(name):
                problems.invalid_each(f"{at}.name", name, wrong)
            elif name in seen:
                problems.duplicate(f"{at}.name", name)
            seen.add(name)
        if not port.get("containerPort"):
            problems.required(f"{at}.containerPort")
        for key in ("containerPort", "hostPort"):
            if value := port.get(key):
                problems.invalid_each(f"{at}.{key}", value, names.port_number(value))
        if protocol := port.get("protocol") or "":
            problems.one_of(f"{at}.protocol", protocol, PROTOCOLS)
        else:
            problems.required(f"{at}.protocol")


def _host_ports(problems: Problems, field: str, given: list[Json]) -> None:
    """Check that no two containers want the same port of the host."""
    seen: set[str] = set()
    for number, container in enumerate(given):
        for index, port in enumerate(items(container, "ports")):
            if not port.get("hostPort"):
                continue
            claim = f"{port.get('protocol', '')}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if claim in seen:
                problems.duplicate(f"{field}[{number}].ports[{index}].hostPort", claim)
            seen.add(claim)


def _env(problems: Problems, field: str, variables: list[Json]) -> None:
    for number, variable in enumerate(variables):
        at, name = f"{field}[{number}]", variable.get("name") or ""
        if name:
            problems.invalid_each(f"{at}.name", name, names.env_var_name(name))
        else:
            problems.required(f"{at}.name")
        source = maybe(variable, "valueFrom")
        if source is not None:
            _value_from(problems, f"{at}.valueFrom", variable, source)


def _value_from(problems: Problems, field: str, variable: Json, source: Json) -> None:
    given = [name for name in _SOURCES if maybe(source, name) is not None]
    if field_ref := maybe(source, "fieldRef"):
        _field_ref(problems, f"{field}.fieldRef", field_ref)
    if resource := maybe(source, "resourceFieldRef"):
        told = resource.get("resource") or ""
        if not told:
            problems.required(f"{field}.resourceFieldRef.resource")
        elif not told.startswith(("limits.hugepages-", "requests.hugepages-")):
            at = f"{field}.resourceFieldRef.resource"
            problems.one_of(at, told, _CONTAINER_RESOURCES)
    for name in ("configMapKeyRef", "secretKeyRef"):
        if (reference := maybe(source, name)) is not None:
            _key_ref(problems, f"{field}.{name}", reference)
    if not given:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`"
            " or `secretKeyRef`"
        )
        problems.invalid(field, "", detail)
    elif variable.get("value"):
        problems.invalid(field, "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        problems.invalid(field, "", "may not have more than one field specified at a time")


def _field_ref(problems: Problems, field: str, reference: Json) -> None:
    path = reference.get("fieldPath") or ""
    if not reference.get("apiVersion"):
        problems.required(f"{field}.apiVersion")
    elif not path:
        problems.required(f"{field}.fieldPath")
    elif path.endswith("']") and path.startswith(("metadata.annotations['", "metadata.labels['")):
        key = path[path.index("'") + 1 : -2]
        problems.invalid_each(field, key, names.qualified_name(key.lower()))
    elif path not in _KNOWN_FIELDS:
        detail = f"error converting fieldPath: field label not supported: {path}"
        problems.invalid(f"{field}.fieldPath", path, detail)
    else:
        problems.one_of(f"{field}.fieldPath", path, _ENV_FIELDS)


def _key_ref(problems: Problems, field: str, reference: Json) -> None:
    if not reference.get("name"):
        problems.required(f"{field}.name")
    key = reference.get("key") or ""
    if key:
        problems.invalid_each(f"{field}.key", key, names.config_map_key(key))
    else:
        problems.required(f"{field}.key")


def _env_from(problems: Problems, field: str, sources: list[Json]) -> None:
    for number, source in enumerate(sources):
        at, prefix = f"{field}[{number}]", source.get("prefix") or ""
        if prefix:
            problems.invalid_each(f"{at}.prefix", prefix, names.env_var_name(prefix))
        given = [name for name in ("configMapRef", "secretRef") if maybe(source, name) is not None]
        for name in given:
            if not source[name].get("name"):
                problems.required(f"{at}.{name}.name")
        if not given:
            problems.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(given) > 1:
            problems.invalid(at, "", "may not have more than one field specified at a time")


def _mounts(problems: Problems, field: str, mounts: list[Json], volumes: Set[str]) -> None:
    seen: set[str] = set()
    for number, mount in enumerate(mounts):
        at, name, path = f"{field}[{number}]", mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            problems.required(f"{at}.name")
        if name not in volumes:
            problems.not_found(f"{at}.name", name)
        if not path:
            problems.required(f"{at}.mountPath")
        if path in seen:
            problems.invalid(f"{at}.mountPath", path, "must be unique")
        seen.add(path)
        for key in ("subPath", "subPathExpr"):
            if mount.get(key):
                local_path(problems, f"{at}.{key}", mount[key])
        if mount.get("subPath") and mount.get("subPathExpr"):
            detail = "subPathExpr and subPath are mutually exclusive"
            problems.invalid(f"{at}.subPathExpr", mount["subPathExpr"], detail)


def _security(problems: Problems, field: str, context: Json | None) -> None:
    if context is None:
        return
    for key in ("runAsUser", "runAsGroup"):
        value = context.get(key)
        if value is not None and not 0 <= value <= 2**31 - 1:
            problems.invalid(f"{field}.{key}", value, names.between(0, 2**31 - 1))
    if context.get("allowPrivilegeEscalation") is False and context.get("privileged"):
        detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        shown = {go: context.get(key) for go, key in _SECURITY_FIELDS.items()}
        problems.invalid(field, shown, detail)
