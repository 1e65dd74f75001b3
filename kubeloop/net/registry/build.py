"""Building an image: the files of a directory, archived the same way every time.

The same directory gives the same digests on every machine: entries are sorted, belong to root, date
from 1970, and have one of two modes.
"""

import gzip
import hashlib
import json
import os
import platform
import posixpath
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kubeloop.net.registry.containerfile import (
    Copy,
    Definition,
    DefinitionError,
    Settings,
    evaluate,
    parse,
)
from kubeloop.net.registry.reference import Reference

if TYPE_CHECKING:
    from kubeloop.net.registry.store import ImageStore

FILES: Final = ("Containerfile", "Dockerfile")
HOST_LABEL: Final = "kubeloop.base"
EPOCH: Final = "1970-01-01T00:00:00Z"
ARCHITECTURES: Final = {
    "x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm",
    "i686": "386", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64",
}  # fmt: skip


def build(
    store: "ImageStore", directory: Path, *, file: str, arguments: Mapping[str, str]
) -> dict[str, Any]:
    """Build what a directory defines into the store; return the manifest's descriptor.

    Raises: DefinitionError, StoreError, OSError.
    """
    from kubeloop.net.registry.store import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST

    path = _definition_file(directory, file)
    definition = evaluate(parse(_text(path), path.name), path.name, arguments=arguments)
    config, layers = _base(store, definition)
    for copy in definition.copies:
        members = list(_members(directory, copy, definition.file))
        with store.writing() as (out, finish):
            plain = _archive(members, out)
            layers.append(finish(f"{OCI_LAYER}+gzip"))
        config["rootfs"]["diff_ids"].append(plain)
        config["history"].append({"created": EPOCH, "created_by": f"COPY to {copy.target}"})
    _apply(config["config"], definition.settings)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": store.put(_json(config), OCI_CONFIG),
        "layers": layers,
    }
    return store.put(_json(manifest), OCI_MANIFEST)


def architecture() -> str:
    """Return what OCI calls the architecture of this machine."""
    machine = platform.machine().lower()
    return ARCHITECTURES.get(machine, machine)


def _definition_file(directory: Path, file: str) -> Path:
    if not directory.is_dir():
        raise DefinitionError(f"{directory} is no directory")
    for name in (file,) if file else FILES:
        if (directory / name).is_file():
            return directory / name
    wanted = file or " or ".join(FILES)
    raise DefinitionError(f"there is no {wanted} in {directory}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{path.name}: this is no UTF-8 text: {error}") from error


def _base(store: "ImageStore", definition: Definition) -> tuple[dict[str, Any], list[Any]]:
    """Return the configuration and the layers to begin with."""
    config: dict[str, Any] = {
        "created": EPOCH,
        "architecture": architecture(),
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }
    if definition.base == "scratch":
        return config, []
    if definition.base == "host":
        config["config"]["Labels"] = {HOST_LABEL: "host"}
        return config, []
    try:
        reference = Reference.parse(definition.base)
    except ValueError as error:
        raise DefinitionError(f"{definition.file}: FROM {definition.base}: {error}") from error
    found = store.find(reference)
    if found is None:
        raise DefinitionError(
            f"{definition.file}: FROM {definition.base}: the store has no such image; it can be "
            "scratch, host, or an image that was built or loaded before"
        )
    manifest = store.read_json(found["digest"])
    inherited = store.read_json(manifest["config"]["digest"])
    for key in ("architecture", "os", "variant", "rootfs", "config"):
        if inherited.get(key):
            config[key] = inherited[key]
    config["history"] = list(inherited.get("history") or ())
    return config, list(manifest["layers"])


def _apply(config: dict[str, Any], settings: Settings) -> None:
    """Write the settings of a definition over those of its base."""
    environment = dict(line.partition("=")[::2] for line in config.get("Env") or ())
    environment.update(settings.environment)
    if environment:
        config["Env"] = [f"{name}={value}" for name, value in environment.items()]
    labels = {**(config.get("Labels") or {}), **settings.labels}
    if labels:
        config["Labels"] = labels
    if settings.ports:
        config["ExposedPorts"] = {
            **(config.get("ExposedPorts") or {}),
            **{port: {} for port in settings.ports},
        }
    if settings.working_dir:
        config["WorkingDir"] = settings.working_dir
    if settings.user:
        config["User"] = settings.user
    if settings.entrypoint is not None:
        config["Entrypoint"] = list(settings.entrypoint)
        config.pop("Cmd", None)  # That of the base was meant for its own entrypoint.
    if settings.command is not None:
        config["Cmd"] = list(settings.command)


def _members(directory: Path, copy: Copy, file: str) -> Iterator[tuple[str, Path]]:
    """Yield (path in the image, file or directory here) for a COPY, sorted."""
    found: dict[str, Path] = {}
    for pattern in copy.sources:
        for source in _sources(directory, pattern, f"{file}:{copy.line}"):
            if source.is_dir():
                found.setdefault(copy.target.rstrip("/"), source)
                found.update(_below(source, copy.target.rstrip("/")))
            else:
                into = copy.target.endswith("/")
                found[posixpath.join(copy.target, source.name) if into else copy.target] = source
    for target in sorted(found):
        if target.strip("/"):
            yield target.strip("/"), found[target]


def _below(source: Path, target: str) -> Iterator[tuple[str, Path]]:
    for parent, directories, files in os.walk(source):
        base = Path(parent)
        for name in (*directories, *files):
            inside = (base / name).relative_to(source).as_posix()
            yield f"{target}/{inside}", base / name


def _sources(directory: Path, pattern: str, where: str) -> list[Path]:
    """Return what a source of COPY names, all of it inside the directory."""
    plain = pattern.strip("/") or "."
    inside = os.path.realpath(directory)
    if any(char in plain for char in "*?["):
        found = sorted(directory.glob(plain))
    else:
        found = [directory / plain] if os.path.lexists(directory / plain) else []
    if not found:
        raise DefinitionError(f"{where}: COPY {pattern}: there is no such file in {directory}")
    for path in found:
        real = os.path.realpath(path)
        if real != inside and not real.startswith(inside + os.sep):
            raise DefinitionError(f"{where}: COPY {pattern}: {path.name} leads out of {directory}")
        if not os.path.exists(real):
            raise DefinitionError(f"{where}: COPY {pattern}: {path.name} is a link to nothing")
    return [Path(os.path.realpath(path)) if path.is_symlink() else path for path in found]


def _archive(members: list[tuple[str, Path]], out: Any) -> str:
    """Write a tar+gzip of the members; return the digest of the plain tar."""
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as packed:
        hashing: Any = _Hashing(packed)
        with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for name, path in members:
                _add(archive, name, path)
    return f"sha256:{hashing.sha.hexdigest()}"


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    found = path.lstat()
    member = tarfile.TarInfo(name)
    if stat.S_ISDIR(found.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(member)
    elif stat.S_ISLNK(found.st_mode):
        member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, os.readlink(path)
        archive.addfile(member)
    elif stat.S_ISREG(found.st_mode):
        member.mode = 0o755 if found.st_mode & 0o111 else 0o644
        with open(path, "rb") as file:
            member.size = os.fstat(file.fileno()).st_size
            archive.addfile(member, file)
    else:
        raise DefinitionError(f"{path} is neither a file, a directory nor a link: leave it out")


class _Hashing:
    """A writable file that remembers the digest of what was written."""

    def __init__(self, file: Any) -> None:
        self.file, self.sha = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha.update(data)
        written: int = self.file.write(data)
        return written


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
