"""Rules of volumes: exactly one source, of which the necessary is said."""

from typing import Any, Final

from kubeloop.api import names, quantities
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems

_REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "hostPath": ("path",),
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "secret": ("secretName",),
    "nfs": ("server", "path"),
    "glusterfs": ("endpoints", "path"),
    "flocker": (),
    "persistentVolumeClaim": ("claimName",),
    "cinder": ("volumeID",),
    "configMap": ("name",),
    "csi": ("driver",),
    "image": (),
}
_MODES: Final = ("secret", "configMap", "downwardAPI", "projected")
_HOST_PATH_TYPES: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)


def volumes(problems: Problems, field: str, given: list[Json]) -> set[str]:
    """Check the volumes of a pod; return the names of the good ones."""
    good: set[str] = set()
    for number, volume in enumerate(given):
        at, found = f"{field}[{number}]", Problems()
        source(found, at, volume)
        name = volume.get("name") or ""
        if name:
            found.invalid_each(f"{at}.name", name, names.dns1123_label(name))
        else:
            found.required(f"{at}.name")
        if name in good:
            found.duplicate(f"{at}.name", name)
        if not found:
            good.add(name)
        problems.extend(found)
    return good


def local_path(problems: Problems, field: str, path: str) -> None:
    """Check a path that must stay below where it begins."""
    if path.startswith("/"):
        problems.invalid(field, path, "must be a relative path")
    no_backsteps(problems, field, path)


def no_backsteps(problems: Problems, field: str, path: str) -> None:
    """Check that a path does not climb."""
    if ".." in path.split("/"):
        problems.invalid(field, path, "must not contain '..'")


def source(problems: Problems, field: str, volume: Json) -> None:
    """Check where a volume comes from: exactly one source is told, with what it needs."""
    sources = [key for key, value in volume.items() if key != "name" and value is not None]
    if not sources:
        problems.required(field, "must specify a volume type")
    for number, kind in enumerate(sources):
        at, settings = f"{field}.{kind}", maybe(volume, kind) or {}
        if number:
            problems.forbidden(at, "may not specify more than one volume type")
            continue
        for key in _REQUIRED.get(kind, ()):
            if not settings.get(key):
                problems.required(f"{at}.{key}")
        if kind in _MODES:
            _mode(problems, f"{at}.defaultMode", settings.get("defaultMode"))
        if kind in ("secret", "configMap"):
            _items(problems, at, settings)
        elif kind == "projected":
            _projected(problems, at, settings)
        elif kind == "emptyDir":
            _empty_dir(problems, at, settings)
        elif kind == "hostPath":
            no_backsteps(problems, f"{at}.path", settings.get("path") or "")
            problems.one_of(f"{at}.type", settings.get("type") or "", _HOST_PATH_TYPES)


def _empty_dir(problems: Problems, field: str, settings: Json) -> None:
    limit = settings.get("sizeLimit")
    try:
        negative = limit is not None and quantities.parse(limit) < 0
    except ValueError:
        negative = True
    if negative:
        detail = "SizeLimit field must be a valid resource quantity"
        problems.forbidden(f"{field}.sizeLimit", detail)


def _projected(problems: Problems, field: str, settings: Json) -> None:
    for number, source in enumerate(items(settings, "sources")):
        at = f"{field}.sources[{number}]"
        given = [key for key, value in source.items() if value is not None]
        if not given:
            problems.required(at, "must specify a projection source")
        for later in given[1:]:
            detail = "may not specify more than 1 volume type per source"
            problems.forbidden(f"{at}.{later}", detail)
        for kind in ("secret", "configMap"):
            if (projection := maybe(source, kind)) is not None:
                if not projection.get("name"):
                    problems.required(f"{at}.{kind}.name")
                _items(problems, f"{at}.{kind}", projection)


def _items(problems: Problems, field: str, settings: Json) -> None:
    for number, item in enumerate(items(settings, "items")):
        at = f"{field}.items[{number}]"
        if not item.get("key"):
            problems.required(f"{at}.key")
        if not item.get("path"):
            problems.required(f"{at}.path")
        local_path(problems, f"{at}.path", item.get("path") or "")
        _mode(problems, f"{at}.mode", item.get("mode"))


def _mode(problems: Problems, field: str, mode: Any) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        detail = "must be a number between 0 and 0777 (octal), both inclusive"
        problems.invalid(field, mode, detail)
