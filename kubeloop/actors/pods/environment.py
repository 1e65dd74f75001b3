"""What a container is started with: variables, command, mounted files. Pure."""

from typing import Final

from kubeloop.actors.pods.downward import ConfigError, Host, field_of, resource_of
from kubeloop.actors.pods.expansion import expand
from kubeloop.actors.pods.references import References, data_of
from kubeloop.actors.pods.state import Object, Pod
from kubeloop.actors.pods.volumes import mounted
from kubeloop.actors.runtimes.protocol import ContainerSpec, SandboxSpec

_SOURCES: Final = (("configMap", "configmaps"), ("secret", "secrets"))
_TITLES: Final = {"configmaps": "ConfigMap", "secrets": "Secret"}


def sandbox_spec(pod: Pod, address: str) -> SandboxSpec:
    """Return what the runtime needs to make the sandbox of a pod."""
    return SandboxSpec(
        pod_uid=pod.uid,
        namespace=pod.namespace,
        name=pod.name,
        ip=address,
        hostname=pod.spec["spec"].get("hostname") or pod.name[:63].rstrip("-."),
    )


def container_spec(
    pod: Pod, name: str, attempt: int, references: References, host: Host
) -> ContainerSpec:
    """Return what the runtime needs to start a container. Raises: ConfigError, MountError."""
    spec = pod.container_spec(name)
    env = variables(pod, spec, references, host)
    found = mounted(pod, spec, references, host, env)
    return ContainerSpec(
        pod_uid=pod.uid,
        name=name,
        attempt=attempt,
        image=spec["image"],
        command=[expand(part, env) for part in spec.get("command") or ()],
        args=[expand(part, env) for part in spec.get("args") or ()],
        env=env,
        working_dir=spec.get("workingDir") or "",
        stdin=bool(spec.get("stdin")),
        stdin_once=bool(spec.get("stdinOnce")),
        tty=bool(spec.get("tty")),
        annotations=pod.spec["metadata"].get("annotations") or {},
        files=found.files,
        shared=found.shared,
        mounts=found.mounts,
    )


def variables(pod: Pod, spec: Object, references: References, host: Host) -> dict[str, str]:
    """Return the environment of a container. Raises: ConfigError."""
    links = pod.spec["spec"].get("enableServiceLinks")
    env = dict(references.service_variables(pod.namespace, links=links is not False))
    for source in spec.get("envFrom") or ():
        env |= _all_of(pod, source, references)
    for variable in spec.get("env") or ():
        name = variable["name"]
        if variable.get("valueFrom"):
            value = _value_from(pod, spec, variable["valueFrom"], references, host)
            if value is not None:
                env[name] = value
        else:
            env[name] = expand(variable.get("value") or "", env)
    return env


def _all_of(pod: Pod, source: Object, references: References) -> dict[str, str]:
    """Return the variables of one envFrom entry."""
    for field, resource in _SOURCES:
        wanted = source.get(f"{field}Ref")
        if wanted is None:
            continue
        found = references.get(resource, pod.namespace, wanted["name"])
        if found is None:
            if wanted.get("optional"):
                return {}
            raise _not_found(resource, wanted["name"])
        prefix = source.get("prefix") or ""
        return {prefix + key: _text(value) for key, value in data_of(found).items()}
    return {}


def _value_from(
    pod: Pod, spec: Object, source: Object, references: References, host: Host
) -> str | None:
    """Return the value of a variable; None if it is optional and missing."""
    if source.get("fieldRef"):
        return field_of(pod, host, source["fieldRef"]["fieldPath"])
    if source.get("resourceFieldRef"):
        return resource_of(pod, host, spec, source["resourceFieldRef"])
    for field, resource in _SOURCES:
        wanted = source.get(f"{field}KeyRef")
        if wanted is None:
            continue
        name, key = wanted.get("name", ""), wanted["key"]
        found = references.get(resource, pod.namespace, name)
        if found is not None and key in data_of(found):
            return _text(data_of(found)[key])
        if wanted.get("optional"):
            return None
        if found is None:
            raise _not_found(resource, name)
        raise ConfigError(f"couldn't find key {key} in {_TITLES[resource]} {pod.namespace}/{name}")
    raise ConfigError(f"unsupported valueFrom: {', '.join(source)}")


def _not_found(resource: str, name: str) -> ConfigError:
    return ConfigError(f'{_TITLES[resource].lower()} "{name}" not found')


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
