"""Which language an Accept header asks for."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import NotAcceptable
from kubeloop.net.rest.negotiation import (
    JSON,
    PROTOBUF,
    YAML,
    Media,
    discovery_version,
    media_of,
)

TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,"
    "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", Media(JSON)),
        ("*/*", Media(JSON)),
        ("application/*", Media(JSON)),
        ("application/json, */*", Media(JSON)),
        ("Application/JSON", Media(JSON)),
        ("application/json;pretty=1", Media(JSON, pretty=True)),
        ("application/yaml", Media(YAML)),
        ("application/json;q=0.1, application/yaml;q=0.9", Media(YAML)),
        ("text/html, application/json;q=0.5", Media(JSON)),
        (TABLE, Media(JSON, "Table", "v1")),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", Media(JSON, "Table", "v1beta1")),
        ("application/json;as=Table;v=v7;g=meta.k8s.io,application/json", Media(JSON)),
        (
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            Media(JSON, "PartialObjectMetadata", "v1"),
        ),
        (f"{PROTOBUF},{JSON}", Media(JSON)),
        (PROTOBUF, Media(PROTOBUF)),
        (f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{JSON}", Media(JSON)),
    ],
)
def test_media(accept: str, media: Media) -> None:
    assert media_of(accept) == media


@pytest.mark.parametrize(
    "accept", ["text/css", "application/json;q=0", "application/json;as=Nope;g=x;v=v1"]
)
def test_what_cannot_be_had_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable) as refused:
        media_of(accept)
    assert refused.value.message == (
        "only the following media types are accepted: application/json, application/yaml, "
        "application/vnd.kubernetes.protobuf"
    )


def test_a_watch_is_told_in_json_only() -> None:
    assert media_of(f"{YAML},{JSON}", watch=True) == Media(JSON)
    assert media_of(f"{PROTOBUF};stream=watch,{JSON}", watch=True) == Media(JSON)
    for accept in (YAML, PROTOBUF):
        with pytest.raises(NotAcceptable):
            media_of(accept, watch=True)


@given(st.text(max_size=60))
def test_no_header_breaks_it(accept: str) -> None:
    with contextlib.suppress(NotAcceptable):
        media_of(accept)


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        ("", ""),
        (JSON, ""),
        (f"{V2},{V2BETA1},{JSON}", "v2"),
        (f"{V2BETA1},{JSON}", "v2beta1"),
        (f"{JSON},{V2}", ""),
        (f"{V2.replace('v2;', 'v3;')},{JSON}", ""),
    ],
)
def test_aggregated_discovery(accept: str, version: str) -> None:
    assert discovery_version(accept) == version
