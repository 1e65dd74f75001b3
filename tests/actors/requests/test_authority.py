"""All who serve one store have the authority that was offered first; no client is ever told it."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_server import Server

from kubeloop.actors.requests.authority import KEY
from kubeloop.api.calls import Request
from kubeloop.api.errors import PathNotFound
from kubeloop.api.identity import AUTHORITY
from kubeloop.net.rest.paths import find


@given(st.lists(st.tuples(st.binary(), st.binary()), min_size=1, max_size=4))
def test_the_first_one_offered_is_it(offers: list[tuple[bytes, bytes]]) -> None:
    server = Server()
    told = []
    for certificate, key in offers:
        body = msgpack.packb({"certificate": certificate, "key": key})
        outcome = server.core.handle(Request("create", AUTHORITY, body=body))
        assert outcome.code == 200
        kept = msgpack.unpackb(outcome.body)
        told.append((kept["certificate"], kept["key"]))
    assert set(told) == {offers[0]}
    stored = server.store.get(KEY)
    assert stored is not None and outcome.revision == stored.revision


@pytest.mark.parametrize("path", ["api/v1/authority", "api/v1/signingkeys", "api/v1/keys"])
def test_no_path_leads_to_it(path: str) -> None:
    with pytest.raises(PathNotFound):
        find(tuple(path.split("/")), Server().core.state.catalogue())
