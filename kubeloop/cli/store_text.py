"""What `kubeloop store` prints. Pure."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack
import yaml

from kubeloop.store import tree as trees
from kubeloop.store.backup import Content, Loss, Refused
from kubeloop.store.facts import Fact
from kubeloop.store.history import Stored

REDACTED: Final = "REDACTED"
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class Source(NamedTuple):
    """Where something was read. path: of a store's directory, or of a backup."""

    path: Path
    is_backup: bool
    content: Content


def render_loss(loss: Loss, aside: Path) -> str:
    """Return what going back means."""
    damage = loss.damage
    rows = [
        f"{damage.path} is damaged at byte {damage.offset}: {damage.why}",
        f"revision {loss.revision} is the newest before that; what came after it is lost",
        f"put aside in {aside}: {', '.join(loss.aside)}",
    ]
    if loss.cut is not None:
        rows.append(f"the first {loss.cut[1]:,} bytes of {loss.cut[0]} stay, too")
    return "\n".join(rows)


def render_verified(source: Source, names: Sequence[str]) -> str:
    """Return what was found to be good. names: of the files in a store's directory."""
    recovery, history = source.content.recovery, source.content.history
    keys = trees.count(history.version().tree)
    what = f"revision {recovery.revision}, {keys:,} keys"
    if source.is_backup:
        what = f"a backup of {what}"
    else:
        begin = f"a snapshot of revision {recovery.snapshot}, then " if recovery.snapshot else ""
        what += f"; {begin}{recovery.transactions:,} transactions, in {len(names)} files"
    rows = [f"{source.path} is good: {what}"]
    if recovery.cut is not None:
        cut = recovery.cut
        rows.append(
            f"{cut.path} ends at byte {cut.offset} in a write that was cut short, and never "
            f"acknowledged: {cut.why}; the next start removes {cut.size:,} bytes"
        )
    return "\n".join(rows)


def statistics(source: Source, sizes: dict[str, int], holder: int | None) -> dict[str, Any]:
    """Return what `stat` shows. sizes: of files in bytes, by name."""
    recovery, history = source.content.recovery, source.content.history
    resources: dict[str, int] = {}
    keys = history.list("").keys
    for key in keys:
        resource = key.split("/")[2]
        resources[resource] = resources.get(resource, 0) + 1
    cut = recovery.cut
    torn = cut and {"file": cut.path, "offset": cut.offset, "bytes": cut.size, "why": cut.why}
    return {
        "directory": str(source.path),
        "clusterId": recovery.cluster_id.hex(),
        "revision": recovery.revision,
        "floor": recovery.snapshot,
        "keys": len(keys),
        "valueBytes": history.value_bytes,
        "resources": dict(sorted(resources.items())),
        "files": [{"name": name, "bytes": size} for name, size in sizes.items()],
        "tornTail": torn,
        "holder": holder,
    }


def render_stat(content: dict[str, Any]) -> str:
    """Return statistics as text."""
    torn, holder = content["tornTail"], content["holder"]
    rows = [
        ("directory", content["directory"]),
        ("cluster", content["clusterId"]),
        ("revision", content["revision"]),
        ("floor", f"{content['floor']} (the oldest revision on disk)"),
        ("keys", f"{content['keys']:,}"),
        *((f"  {resource}", f"{n:,}") for resource, n in content["resources"].items()),
        ("values", f"{content['valueBytes']:,} bytes"),
        *((file["name"], f"{file['bytes']:,} bytes") for file in content["files"]),
        ("torn tail", f"{torn['bytes']:,} bytes: {torn['why']}" if torn else "none"),
        ("open in", f"process {holder}" if holder else "no process"),
    ]
    width = max(len(title) for title, _ in rows) + 2
    return "\n".join(f"{title + ':':<{width}}{value}" for title, value in rows)


def render_objects(items: Sequence[Stored], output: str, *, show_secrets: bool) -> Iterator[str]:
    """Yield objects: as YAML documents, or "json": one a line, with key and revision."""
    for item in items:
        content = _decoded(item)
        if not show_secrets:
            content = redacted(item.key, content)
        if output == "json":
            row = {"key": item.key, "revision": item.revision, "object": content}
            yield json.dumps(row, ensure_ascii=False)
        else:
            yield f"---\n# {item.key} revision {item.revision}\n{_yaml(content)}"


def redacted(key: str, content: Any) -> Any:
    """Return an object without what a Secret hides, also in what was last applied."""
    if not key.startswith("/registry/secrets/") or not isinstance(content, dict):
        return content
    shown = dict(content)
    for field in ("data", "stringData"):
        hidden = shown.get(field)
        if hidden:
            is_map = isinstance(hidden, dict)
            shown[field] = dict.fromkeys(hidden, REDACTED) if is_map else REDACTED
    metadata = shown.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else metadata
    if isinstance(annotations, dict) and isinstance(metadata, dict):
        if _LAST_APPLIED in annotations:
            annotations = annotations | {_LAST_APPLIED: REDACTED}
            shown["metadata"] = metadata | {"annotations": annotations}
    elif annotations is not None:
        shown["metadata"] = REDACTED  # Nobody knows what it is.
    return shown


def render_log(facts: Sequence[Fact], output: str | None) -> Iterator[str]:
    """Yield the transactions that led to some facts, in order: as text, "json" lines or "yaml"."""
    for revision, group in groupby(facts, key=lambda fact: fact.revision):
        told = _transaction(revision, list(group))
        if output == "json":
            yield json.dumps(told)
        elif output == "yaml":
            yield f"---\n{yaml.dump(told, Dumper=yaml.CSafeDumper, sort_keys=False).rstrip()}"
        else:
            yield _transaction_line(told)


def _transaction(revision: int, facts: Sequence[Fact]) -> dict[str, Any]:
    cause = facts[0].cause
    return {
        "revision": revision,
        "time": _time(facts[0].at),
        "user": cause.user,
        "actor": cause.actor,
        "message": cause.message,
        "cause": cause.revision,
        "written": [fact.key for fact in facts if fact.value is not None],
        "deleted": [fact.key for fact in facts if fact.value is None],
    }


def _transaction_line(told: dict[str, Any]) -> str:
    """Return a transaction as one line; "-" stands for nothing."""
    keys = [f"+{key}" for key in told["written"]] + [f"-{key}" for key in told["deleted"]]
    return (
        f"{told['revision']} {told['time']} user={told['user'] or '-'} "
        f"actor={told['actor'] or '-'} cause={told['cause'] or '-'} {' '.join(keys)}"
    )


def _time(at: float) -> str:
    """Return a time as Kubernetes writes it; what is beyond the calendar, in seconds since 1970."""
    try:
        time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, OSError, ValueError):
        return f"{at} s"
    return time.replace("+00:00", "Z")


def _yaml(content: Any) -> str:
    """Return an object in YAML; in JSON, which is YAML, too, if it is nested too deeply."""
    try:
        text = yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    except RecursionError:
        return json.dumps(content, ensure_ascii=False)
    return str(text).rstrip()


def _decoded(item: Stored) -> Any:
    """Return an object, of what there is in JSON. Raises: Refused."""
    try:
        content = msgpack.unpackb(item.value)
        json.dumps(content)
    except (TypeError, ValueError, RecursionError) as error:
        what = f"the value of {item.key} at revision {item.revision} is no object: {error}"
        raise Refused(what) from error
    return content
