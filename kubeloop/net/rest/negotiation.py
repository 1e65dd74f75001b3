"""In which language to answer: the Accept header → Media.

Source: k8s.io/apiserver, pkg/endpoints/handlers/negotiation.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from kubeloop.api.errors import NotAcceptable

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
MSGPACK: Final = "application/msgpack"
OFFERED: Final = (JSON, YAML, PROTOBUF)
"""What Kubernetes offers, as its errors tell."""
SPOKEN: Final = (*OFFERED, MSGPACK)

Form = Literal["", "Table", "PartialObjectMetadata"]
_FORMS: Final = {
    "Table": "Table",
    "PartialObjectMetadata": "PartialObjectMetadata",
    "PartialObjectMetadataList": "PartialObjectMetadata",
}
_DISCOVERY_VERSIONS: Final = ("v2", "v2beta1")


@dataclass(frozen=True, slots=True)
class Media:
    """The language of an answer.

    type:    JSON, YAML, PROTOBUF or MSGPACK.
    form:    "" the object as it is; or a Table, or PartialObjectMetadata, in `version`.
    pretty:  with line breaks and indentation.
    """

    type: str
    form: Form = ""
    version: str = ""
    pretty: bool = False


@lru_cache(maxsize=256)
def media_of(accept: str, *, watch: bool = False) -> Media:
    """Return the best media an Accept header asks for; JSON if it says nothing.

    A client that lists protobuf before JSON gets JSON: it is written much faster here, and whoever
    sends both reads both. Watches are told in JSON only.
    Raises: NotAcceptable.
    """
    best: Media | None = None
    for type_, parameters in _clauses(accept or "*/*"):
        media = _media(type_, parameters)
        if media is None or (watch and media.type != JSON):
            continue
        if media.type != PROTOBUF:
            return media
        best = best or media
    if best is None:
        raise NotAcceptable((JSON, f"{JSON};stream=watch") if watch else OFFERED)
    return best


@lru_cache(maxsize=64)
def discovery_version(accept: str) -> str:
    """Return "v2" or "v2beta1" if aggregated discovery is asked for first, "" for the legacy one.

    Raises: NotAcceptable.
    """
    for type_, parameters in _clauses(accept or "*/*"):
        if type_ not in ("*/*", "application/*", JSON):
            continue
        if "as" not in parameters:
            return ""
        version = parameters.get("v", "")
        asked = (parameters.get("g"), parameters["as"])
        wanted = ("apidiscovery.k8s.io", "APIGroupDiscoveryList")
        if asked == wanted and version in _DISCOVERY_VERSIONS:
            return version
    if any(type_ == PROTOBUF for type_, _ in _clauses(accept)):
        return ""
    raise NotAcceptable(OFFERED)


def _media(type_: str, parameters: dict[str, str]) -> Media | None:
    if type_ in ("*/*", "application/*"):
        type_ = JSON
    if type_ not in SPOKEN:
        return None
    pretty = parameters.get("pretty") in ("1", "true")
    if "as" not in parameters:
        return Media(type_, pretty=pretty)
    form, version = _FORMS.get(parameters["as"]), parameters.get("v", "")
    if form is None or parameters.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
        return None
    if type_ == PROTOBUF:
        return None
    return Media(type_, form, version, pretty)  # type: ignore[arg-type]


def _clauses(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Return (type, parameters) of every clause, the most wanted first."""
    clauses: list[tuple[float, str, dict[str, str]]] = []
    for clause in accept.split(","):
        type_, *rest = (part.strip() for part in clause.split(";"))
        if not type_:
            continue
        parameters = {}
        for part in rest:
            name, _, value = part.partition("=")
            parameters[name.strip()] = value.strip().strip('"')
        clauses.append((_quality(parameters), type_.lower(), parameters))
    clauses.sort(key=lambda clause: -clause[0])
    return [(type_, parameters) for quality, type_, parameters in clauses if quality > 0]


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.pop("q", "1"))
    except ValueError:
        return 0.0
