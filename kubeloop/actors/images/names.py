"""The names of images: "nginx" is "docker.io/library/nginx:latest". Pure.

Source: the grammar of the distribution project's reference package.
"""

import re
from functools import lru_cache
from typing import Final

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST: Final = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9-]+)*|\[[0-9a-fA-F:]+\])"
_REFERENCE: Final = re.compile(
    rf"(?:(?P<host>{_HOST}(?::[0-9]+)?)/)?"
    rf"(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_LENGTH_MAX: Final = 4096


@lru_cache(maxsize=4096)
def full_name(image: str) -> str:
    """Return the whole name of an image. Raises: ValueError if it is none."""
    match = _REFERENCE.fullmatch(image) if len(image) <= _LENGTH_MAX else None
    if match is None:
        raise ValueError("invalid reference format")
    host, path = match["host"], match["path"]
    if host and not ("." in host or ":" in host or host == "localhost"):
        host, path = "", f"{host}/{path}"
        if path != path.lower():
            raise ValueError("invalid reference format: repository name must be lowercase")
    host = host or "docker.io"
    if host == "docker.io" and "/" not in path:
        path = f"library/{path}"
    suffix = f":{match['tag']}" if match["tag"] else ""
    if match["digest"]:
        suffix += f"@{match['digest']}"
    return f"{host}/{path}{suffix or ':latest'}"


def repository(image: str) -> str:
    """Return the whole name without tag and digest; `image` must be a valid name."""
    name = full_name(image).partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
