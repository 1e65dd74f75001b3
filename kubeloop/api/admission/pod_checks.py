"""The checks of the Pod Security Standards, in the order in which Kubernetes tells of them. Pure.

A check takes the metadata and the spec of a pod and returns what is wrong, or nothing. It counts
from a version of Kubernetes on, until another of the same name does.

Source: Kubernetes, "Pod Security Standards"; k8s.io/pod-security-admission/policy in behaviour.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

PRIVILEGED: Final = "privileged"
BASELINE: Final = "baseline"
RESTRICTED: Final = "restricted"

Json = Mapping[str, Any]
Found = tuple[str, str] | None
Rule = Callable[[Json, Json], Found]

_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD: Final = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP: Final = "container.seccomp.security.alpha.kubernetes.io/"
_PROFILES: Final = ("RuntimeDefault", "Localhost")
_CAPABILITIES: Final = frozenset(
    (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
        *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)
_SELINUX: Final = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
_SYSCTLS: Final = {
    0: (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_syncookies",
    ),
    27: ("net.ipv4.ip_local_reserved_ports",),
    29: (
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
    ),
    32: ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
}
_VOLUMES: Final = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a level.

    rules:    from which version of Kubernetes on it says what: 1.x → rule.
    replaces: the check of the baseline that it makes needless.
    """

    name: str
    level: str
    rules: Mapping[int, Rule]
    replaces: str = ""

    def rule(self, minor: int) -> Rule | None:
        """Return what counts in a version."""
        since = max((one for one in self.rules if one <= minor), default=None)
        return None if since is None else self.rules[since]


def violations(level: str, minor: int, metadata: Json, spec: Json) -> list[tuple[str, str]]:
    """Return what a pod violates of a level in version 1.minor: reasons and details."""
    found = (rule(metadata, spec) for rule in _rules(level, minor))
    return [one for one in found if one is not None]


@cache
def _rules(level: str, minor: int) -> Sequence[Rule]:
    if level == PRIVILEGED:
        return ()
    known = [(one, one.rule(minor)) for one in CHECKS if level == RESTRICTED or one.level == level]
    gone = {one.replaces for one, rule in known if rule is not None}
    return [rule for one, rule in known if rule is not None and one.name not in gone]


# Tools.


def _containers(spec: Json) -> Iterator[Json]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def _at(obj: Any, *path: str) -> Any:
    """Return what a path leads to, None if it is not there."""
    for name in path:
        obj = obj.get(name) if isinstance(obj, Mapping) else None
    return obj


def _secured(obj: Json, *path: str) -> Any:
    return _at(obj, "securityContext", *path)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _many(word: str, names: Sequence[Any]) -> str:
    return word if len(names) == 1 else f"{word}s"


def _who(names: Sequence[str], word: str = "container") -> str:
    return f"{_many(word, names)} {_quoted(names)}"


def _setters(pod: bool, names: Sequence[str]) -> str:
    """Return who sets something: the pod, containers, or both; "" if nobody."""
    return " and ".join([*(["pod"] if pod else []), *([_who(names)] if names else [])])


def _names(spec: Json, bad: Callable[[Json], Any]) -> list[str]:
    return [one["name"] for one in _containers(spec) if bad(one)]


def _windows(spec: Json) -> bool:
    return bool(_at(spec, "os", "name") == "windows")


def _unless_windows(rule: Rule) -> Rule:
    return lambda metadata, spec: None if _windows(spec) else rule(metadata, spec)


def _unless_own_users(rule: Rule) -> Rule:
    """Pass over pods in a user namespace of their own."""
    return lambda metadata, spec: None if spec.get("hostUsers") is False else rule(metadata, spec)


# The baseline.


def _app_armor(metadata: Json, spec: Json) -> Found:
    def bad(obj: Json) -> str:
        told = _secured(obj, "appArmorProfile", "type")
        return "" if told is None or told in _PROFILES else str(told)

    def fine(profile: str) -> bool:
        return profile in ("", "runtime/default") or profile.startswith("localhost/")

    names = _names(spec, bad)
    values = sorted({bad(one) for one in (spec, *_containers(spec))} - {""})
    notes = sorted(
        f'{key}="{value}"'
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_APPARMOR) and not fine(value)
    )
    setters = _setters(bool(bad(spec)), names)
    if notes:
        setters = " and ".join([*([setters] if setters else []), _many("annotation", notes)])
    if not setters:
        return None
    values += notes
    why = f"{setters} must not set AppArmor profile type to {_quoted(values)}"
    return _many("forbidden AppArmor profile", values), why


def _capabilities(metadata: Json, spec: Json) -> Found:
    def bad(one: Json) -> set[str]:
        return set(_secured(one, "capabilities", "add") or ()) - _CAPABILITIES

    names = _names(spec, bad)
    if not names:
        return None
    values = sorted(set[str]().union(*map(bad, _containers(spec))))
    where = "in securityContext.capabilities.add"
    why = f"{_who(names)} must not include {_quoted(values)} {where}"
    return "non-default capabilities", why


def _host_namespaces(metadata: Json, spec: Json) -> Found:
    found = [name for name in ("hostIPC", "hostNetwork", "hostPID") if spec.get(name)]
    return ("host namespaces", ", ".join(f"{one}=true" for one in found)) if found else None


def _host_paths(metadata: Json, spec: Json) -> Found:
    names = [one["name"] for one in spec.get("volumes") or () if one.get("hostPath") is not None]
    return ("hostPath volumes", _who(names, "volume")) if names else None


def _host_ports(metadata: Json, spec: Json) -> Found:
    def bad(one: Json) -> list[str]:
        return [str(port["hostPort"]) for port in one.get("ports") or () if port.get("hostPort")]

    names = _names(spec, bad)
    if not names:
        return None
    ports = sorted({port for one in _containers(spec) for port in bad(one)})
    use = "uses" if len(names) == 1 else "use"
    return "hostPort", f"{_who(names)} {use} {_many('hostPort', ports)} {', '.join(ports)}"


_HANDLERS: Final = (
    ("livenessProbe",),
    ("readinessProbe",),
    ("startupProbe",),
    ("lifecycle", "postStart"),
    ("lifecycle", "preStop"),
)


def _host_probes(metadata: Json, spec: Json) -> Found:
    def bad(one: Json) -> set[str]:
        hosts = (
            _at(one, *path, action, "host")
            for path in _HANDLERS
            for action in ("httpGet", "tcpSocket")
        )
        return {host for host in hosts if host}

    names = sorted(set(_names(spec, bad)))
    if not names:
        return None
    hosts = sorted(set[str]().union(*map(bad, _containers(spec))))
    use = "uses" if len(names) == 1 else "use"
    what = _many("probe or lifecycle host", hosts)
    return "probe or lifecycle host", f"{_who(names)} {use} {what} {_quoted(hosts)}"


def _privileged(metadata: Json, spec: Json) -> Found:
    names = _names(spec, lambda one: _secured(one, "privileged"))
    why = f"{_who(names)} must not set securityContext.privileged=true"
    return ("privileged", why) if names else None


def _proc_mount(metadata: Json, spec: Json) -> Found:
    def bad(one: Json) -> Any:
        told = _secured(one, "procMount")
        return told if told not in (None, "Default") else None

    names = _names(spec, bad)
    values = sorted({bad(one) for one in _containers(spec)} - {None})
    why = f"{_who(names)} must not set securityContext.procMount to {_quoted(values)}"
    return ("procMount", why) if names else None


def _selinux(allowed: frozenset[str], metadata: Json, spec: Json) -> Found:
    def options(obj: Json) -> Json:
        return _secured(obj, "seLinuxOptions") or {}

    def bad(obj: Json) -> bool:
        told = options(obj)
        return (told.get("type") or "") not in allowed or bool(told.get("user") or told.get("role"))

    setters = _setters(bad(spec), _names(spec, bad))
    if not setters:
        return None
    all_ = [options(one) for one in (spec, *_containers(spec))]
    types = sorted({one.get("type") or "" for one in all_} - allowed)
    details = [f"{_many('type', types)} {_quoted(types)}"] if types else []
    details += [
        f"{one} may not be set" for one in ("user", "role") if any(o.get(one) for o in all_)
    ]
    forbidden = f"set forbidden securityContext.seLinuxOptions: {'; '.join(details)}"
    return "seLinuxOptions", f"{setters} {forbidden}"


def _seccomp_notes(metadata: Json, spec: Json) -> Found:
    """As it was before there was a field."""

    def fine(value: str) -> bool:
        return value in ("runtime/default", "docker/default") or value.startswith("localhost/")

    notes = metadata.get("annotations") or {}
    keys = [_SECCOMP_POD, *(f"{_SECCOMP}{one['name']}" for one in _containers(spec))]
    found = sorted(
        {f'{key}="{notes[key]}"' for key in keys if key in notes and not fine(notes[key])}
    )
    if not found:
        return None
    return "seccompProfile", f"forbidden {_many('annotation', found)} {', '.join(found)}"


def _bad_seccomp(obj: Json) -> str | None:
    """Return a profile that is not allowed; "" of one without a type."""
    profile = _secured(obj, "seccompProfile")
    if profile is None or profile.get("type") in _PROFILES:
        return None
    return str(profile.get("type") or "")


def _seccomp(metadata: Json, spec: Json) -> Found:
    names = _names(spec, lambda one: _bad_seccomp(one) is not None)
    setters = _setters(_bad_seccomp(spec) is not None, names)
    if not setters:
        return None
    values = {_bad_seccomp(one) for one in (spec, *_containers(spec))} - {None}
    told = _quoted(sorted(str(one) for one in values))
    return "seccompProfile", f"{setters} must not set securityContext.seccompProfile.type to {told}"


def _sysctls(allowed: frozenset[str], metadata: Json, spec: Json) -> Found:
    names = [one["name"] for one in _secured(spec, "sysctls") or () if one["name"] not in allowed]
    return ("forbidden sysctls", ", ".join(names)) if names else None


def _host_process(metadata: Json, spec: Json) -> Found:
    def bad(obj: Json) -> bool:
        return _secured(obj, "windowsOptions", "hostProcess") is True

    setters = _setters(bad(spec), _names(spec, bad))
    why = f"{setters} must not set securityContext.windowsOptions.hostProcess=true"
    return ("hostProcess", why) if setters else None


# What is restricted further.


def _escalation(metadata: Json, spec: Json) -> Found:
    names = _names(spec, lambda one: _secured(one, "allowPrivilegeEscalation") is not False)
    why = f"{_who(names)} must set securityContext.allowPrivilegeEscalation=false"
    return ("allowPrivilegeEscalation != false", why) if names else None


def _few_capabilities(metadata: Json, spec: Json) -> Found:
    def adds(one: Json) -> set[str]:
        return set(_secured(one, "capabilities", "add") or ()) - {"NET_BIND_SERVICE"}

    keeps = _names(spec, lambda one: "ALL" not in (_secured(one, "capabilities", "drop") or ()))
    added, details = _names(spec, adds), []
    if keeps:
        details.append(f'{_who(keeps)} must set securityContext.capabilities.drop=["ALL"]')
    if added:
        values = sorted(set[str]().union(*map(adds, _containers(spec))))
        where = "in securityContext.capabilities.add"
        details.append(f"{_who(added)} must not include {_quoted(values)} {where}")
    return ("unrestricted capabilities", "; ".join(details)) if details else None


def _few_volumes(metadata: Json, spec: Json) -> Found:
    bad = [
        one
        for one in spec.get("volumes") or ()
        if not any(one.get(kind) is not None for kind in _VOLUMES)
    ]
    if not bad:
        return None
    names = [one["name"] for one in bad]
    types = sorted({next((k for k in one if k != "name"), "unknown") for one in bad})
    use = "uses" if len(names) == 1 else "use"
    what = _many("restricted volume type", types)
    return "restricted volume types", f"{_who(names, 'volume')} {use} {what} {_quoted(types)}"


def _non_root(metadata: Json, spec: Json) -> Found:
    reason = "runAsNonRoot != true"
    pod = _secured(spec, "runAsNonRoot")
    setters = _setters(
        pod is False, _names(spec, lambda one: _secured(one, "runAsNonRoot") is False)
    )
    if setters:
        return reason, f"{setters} must not set securityContext.runAsNonRoot=false"
    if pod:
        return None
    names = _names(spec, lambda one: _secured(one, "runAsNonRoot") is None)
    why = f"pod or {_who(names)} must set securityContext.runAsNonRoot=true"
    return (reason, why) if names else None


def _not_user_zero(metadata: Json, spec: Json) -> Found:
    def bad(obj: Json) -> bool:
        return bool(_secured(obj, "runAsUser") == 0)

    setters = _setters(bad(spec), _names(spec, bad))
    return ("runAsUser=0", f"{setters} must not set runAsUser=0") if setters else None


def _needs_seccomp(metadata: Json, spec: Json) -> Found:
    found = _seccomp(metadata, spec)
    if found is not None or _secured(spec, "seccompProfile") is not None:
        return found
    names = _names(spec, lambda one: _secured(one, "seccompProfile") is None)
    why = (
        f"pod or {_who(names)} must set securityContext.seccompProfile.type to "
        '"RuntimeDefault" or "Localhost"'
    )
    return ("seccompProfile", why) if names else None


def _by_version(rule: Callable[[frozenset[str], Json, Json], Found]) -> Mapping[int, Rule]:
    """Return a rule about sysctls from each version on in which more are safe."""
    return {
        minor: partial(
            rule, frozenset(s for m, told in _SYSCTLS.items() if m <= minor for s in told)
        )
        for minor in _SYSCTLS
    }


CHECKS: Final[Sequence[Check]] = (
    Check("appArmorProfile", BASELINE, {0: _app_armor}),
    Check("capabilities_baseline", BASELINE, {0: _capabilities}),
    Check("hostNamespaces", BASELINE, {0: _host_namespaces}),
    Check("hostPathVolumes", BASELINE, {0: _host_paths}),
    Check("hostPorts", BASELINE, {0: _host_ports}),
    Check("hostProbesAndHostLifecycle", BASELINE, {34: _host_probes}),
    Check("privileged", BASELINE, {0: _privileged}),
    Check("procMount", BASELINE, {0: _proc_mount, 35: _unless_own_users(_proc_mount)}),
    Check(
        "seLinuxOptions",
        BASELINE,
        {
            0: partial(_selinux, _SELINUX),
            31: partial(_selinux, _SELINUX | {"container_engine_t"}),
        },
    ),
    Check("seccompProfile_baseline", BASELINE, {0: _seccomp_notes, 19: _seccomp}),
    Check("sysctls", BASELINE, _by_version(_sysctls)),
    Check("windowsHostProcess", BASELINE, {0: _host_process}),
    Check(
        "allowPrivilegeEscalation",
        RESTRICTED,
        {8: _escalation, 25: _unless_windows(_escalation)},
    ),
    Check(
        "capabilities_restricted",
        RESTRICTED,
        {22: _few_capabilities, 25: _unless_windows(_few_capabilities)},
        replaces="capabilities_baseline",
    ),
    Check("procMount_restricted", RESTRICTED, {35: _proc_mount}, replaces="procMount"),
    Check("restrictedVolumes", RESTRICTED, {0: _few_volumes}, replaces="hostPathVolumes"),
    Check("runAsNonRoot", RESTRICTED, {0: _non_root, 35: _unless_own_users(_non_root)}),
    Check("runAsUser", RESTRICTED, {23: _not_user_zero, 35: _unless_own_users(_not_user_zero)}),
    Check(
        "seccompProfile_restricted",
        RESTRICTED,
        {19: _needs_seccomp, 25: _unless_windows(_needs_seccomp)},
        replaces="seccompProfile_baseline",
    ),
)
"""All checks, by level and name: so they are told."""
