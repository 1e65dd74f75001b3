"""What images are called: "nginx" means docker.io/library/nginx:latest. Pure.

Source: the grammar of the distribution project, and its rules for short names.
"""

import re
from dataclasses import dataclass
from typing import Final

DEFAULT_DOMAIN: Final = "docker.io"
NAME_MAX: Final = 255

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")


@dataclass(frozen=True, slots=True)
class Reference:
    """The whole name of an image. tag and digest: "" if it names none; never both are empty."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Return what `text` means. Raises: ValueError."""
        rest, at, digest = text.partition("@")
        domain, path = _split_domain(rest)
        path, colon, tag = path.partition(":")
        if domain == DEFAULT_DOMAIN and "/" not in path:
            path = f"library/{path}"
        valid = (
            _DOMAIN.fullmatch(domain)
            and _PATH.fullmatch(path)
            and (not colon or _TAG.fullmatch(tag))
            and (not at or _DIGEST.fullmatch(digest))
        )
        if not valid:
            raise ValueError(f"{text!r} is no name of an image: invalid reference format")
        if len(f"{domain}/{path}") > NAME_MAX:
            raise ValueError(f"the name of an image has at most {NAME_MAX} characters")
        return cls(domain, path, tag or ("" if digest else "latest"), digest)

    @property
    def name(self) -> str:
        """The name without tag and digest: docker.io/library/nginx."""
        return f"{self.domain}/{self.path}"

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest if there is one, else the tag."""
        return self.digest or self.tag

    @property
    def familiar(self) -> str:
        """The name as people write it: nginx:latest."""
        text = str(self)
        for prefix in ("docker.io/library/", "docker.io/"):
            shorter = text.removeprefix(prefix)
            if shorter != text and _means(shorter, self):
                return shorter
        return text

    def __str__(self) -> str:
        text = self.name
        if self.tag:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text


def _means(text: str, reference: Reference) -> bool:
    try:
        return Reference.parse(text) == reference
    except ValueError:
        return False


def _split_domain(text: str) -> tuple[str, str]:
    """Return (domain, the rest): a first part without dot or port is no domain."""
    first, slash, rest = text.partition("/")
    if not slash or not (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    ):
        return DEFAULT_DOMAIN, text
    return ("docker.io" if first == "index.docker.io" else first), rest
