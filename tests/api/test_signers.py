"""What Kubernetes' own signers sign, and in which words they refuse."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.signers import (
    CLIENT,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    LEGACY,
    LONGEST_S,
    SHORTEST_S,
    Wish,
    kubelet_client,
    seconds_of,
    why_not,
)

NODE = Wish(common_name="system:node:n", organizations=("system:nodes",))
CALLS = ("client auth", "digital signature", "key encipherment")
SERVES = ("server auth", "digital signature", "key encipherment")
SERVER = replace(NODE, dns_names=("n",), addresses=("10.0.0.1",))


@pytest.mark.parametrize(
    ("signer", "wish", "usages", "why"),
    [
        (KUBELET_CLIENT, NODE, CALLS, ""),
        (KUBELET_CLIENT, NODE, CALLS[:2], ""),
        (KUBELET_CLIENT, NODE, CALLS[:1],
         "usages did not match [client auth digital signature key encipherment]"),
        (KUBELET_CLIENT, replace(NODE, organizations=("system:nodes", "x")), CALLS,
         "subject organization is not system:nodes"),
        (KUBELET_CLIENT, replace(NODE, dns_names=("n",)), CALLS,
         "DNS subjectAltNames are not allowed"),
        (KUBELET_CLIENT, replace(NODE, addresses=("10.0.0.1",)), CALLS,
         "IP subjectAltNames are not allowed"),
        (KUBELET_CLIENT, replace(NODE, emails=("a@b.c",)), CALLS,
         "Email subjectAltNames are not allowed"),
        (KUBELET_CLIENT, replace(NODE, uris=("a:b",)), CALLS,
         "URI subjectAltNames are not allowed"),
        (KUBELET_CLIENT, replace(NODE, common_name="n"), CALLS,
         "subject common name does not begin with system:node:"),
        (KUBELET_SERVING, SERVER, SERVES, ""),
        (KUBELET_SERVING, NODE, SERVES, "DNS or IP subjectAltName is required"),
        (KUBELET_SERVING, SERVER, CALLS,
         "usages did not match [digital signature key encipherment server auth]"),
        (CLIENT, Wish(common_name="jane"), ("client auth",), ""),
        (CLIENT, Wish(common_name="jane"), ("client auth", "server auth"),
         "invalid usage for client certificate: server auth"),
        (CLIENT, Wish(common_name="jane"), ("digital signature",),
         "missing required usage for client certificate: client auth"),
        (LEGACY, Wish(), (), ""),
    ],
)  # fmt: skip
def test_what_is_signed(signer: str, wish: Wish, usages: tuple[str, ...], why: str) -> None:
    assert why_not(signer, wish, usages) == why


texts = st.sampled_from(["system:nodes", "system:node:n", "n", ""])
wishes = st.builds(
    Wish,
    common_name=texts,
    organizations=st.lists(texts, max_size=2).map(tuple),
    dns_names=st.lists(texts, max_size=1).map(tuple),
    addresses=st.lists(texts, max_size=1).map(tuple),
    emails=st.lists(texts, max_size=1).map(tuple),
    uris=st.lists(texts, max_size=1).map(tuple),
)


@given(wishes, st.permutations(CALLS), st.integers(0, 3))
def test_only_a_node_gets_a_certificate_of_a_node(
    wish: Wish, usages: list[str], count: int
) -> None:
    calls = not kubelet_client(wish, usages[:count])
    is_node = wish.common_name.startswith("system:node:") and wish.organizations == (
        "system:nodes",
    )
    others = wish.dns_names or wish.addresses or wish.emails or wish.uris
    needed = {"client auth", "digital signature"}
    assert calls == (is_node and not others and needed <= set(usages[:count]))
    if not why_not(KUBELET_SERVING, wish, SERVES):
        assert is_node and (wish.dns_names or wish.addresses)


@given(st.none() | st.integers(-1, 2 * LONGEST_S))
def test_how_long_it_lasts(wanted: int | None) -> None:
    seconds = seconds_of(wanted)
    assert SHORTEST_S <= seconds <= LONGEST_S
    if wanted is not None and SHORTEST_S <= wanted <= LONGEST_S:
        assert seconds == wanted
