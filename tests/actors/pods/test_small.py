"""The small pure parts: expansion, back-off, durations, addresses, references, the downward API."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kubeloop.actors.pods.addresses import Addresses
from kubeloop.actors.pods.backoff import Backoff, go_duration
from kubeloop.actors.pods.downward import ConfigError, Host, field_of, resource_of
from kubeloop.actors.pods.expansion import expand
from kubeloop.actors.pods.state import new_pod

# Cases of k8s.io/kubernetes' third_party/forked/golang/expansion documentation.
EXPANSIONS = [
    ("$(A)", "a"),
    ("x-$(A)-$(B)", "x-a-b"),
    ("$(NOBODY)", "$(NOBODY)"),
    ("$$(A)", "$(A)"),
    ("$$$(A)", "$a"),
    ("$$$$(A)", "$$(A)"),
    ("$(A", "$(A"),
    ("$A", "$A"),
    ("$()", "$()"),
    ("$", "$"),
    ("", ""),
    ("$(A)$(A)", "aa"),
]


@pytest.mark.parametrize(("text", "expected"), EXPANSIONS)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, {"A": "a", "B": "b"}) == expected


@given(st.text())
def test_text_without_a_dollar_stays(text: str) -> None:
    assert expand(text.replace("$", ""), {"A": "a"}) == text.replace("$", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.012, "12ms"),
        (0.9999, "1s"),
        (1.5, "1.5s"),
        (10, "10s"),
        (80, "1m20s"),
        (300, "5m0s"),
        (3600, "1h0m0s"),
        (3661.25, "1h1m1.25s"),
    ],
)
def test_go_duration(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_a_back_off_doubles_is_bounded_and_starts_over() -> None:
    backoff, now, pauses = Backoff(), 0.0, []
    assert backoff.until(now) == now
    for _ in range(7):
        backoff.next(now, now)
        pauses.append(backoff.until(now) - now)
        now = backoff.until(now)
    assert pauses == [10, 20, 40, 80, 160, 300, 300]
    assert backoff.until(now + 601) == now + 601
    backoff.next(now + 601, now + 601)
    assert backoff.pause_s == 10


class AddressMachine(RuleBasedStateMachine):
    """No two owners ever share an address, and none is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses, self.held = Addresses("10.0.0.0/29"), dict[str, str]()

    @rule(owner=st.sampled_from("abcdefgh"))
    def take(self, owner: str) -> None:
        found = self.addresses.take(owner)
        if found is None:
            assert len(self.held) == 5, "of eight, two lead and one ends the network"
        else:
            assert self.held.setdefault(owner, found) == found

    @rule(owner=st.sampled_from("abcdefgh"), last=st.integers(2, 6))
    def claim(self, owner: str, last: int) -> None:
        address = f"10.0.0.{last}"
        if owner not in self.held and self.addresses.claim(owner, address):
            self.held[owner] = address

    @rule(owner=st.sampled_from("abcdefgh"))
    def free(self, owner: str) -> None:
        self.addresses.free(owner)
        self.held.pop(owner, None)

    @invariant()
    def unique(self) -> None:
        assert len(set(self.held.values())) == len(self.held)


TestAddresses = AddressMachine.TestCase


def test_a_freed_address_is_given_out_last() -> None:
    addresses = Addresses("10.0.0.0/24")
    assert [addresses.take(name) for name in "ab"] == ["10.0.0.2", "10.0.0.3"]
    addresses.free("a")
    assert addresses.take("c") == "10.0.0.4"


HOST = Host(name="node-1", ip="127.1.0.1", allocatable={"cpu": "4", "memory": "1Gi"})


def pod() -> Any:
    container = {"name": "c", "resources": {"requests": {"cpu": "250m"}}}
    metadata = {"uid": "u", "namespace": "ns", "name": "p", "labels": {"b": 'x"y', "a": "1"}}
    return new_pod(
        {"metadata": metadata, "spec": {"containers": [container], "serviceAccountName": "sa"}},
        wall_s=0,
        now=0,
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['a']", "1"),
        ("metadata.annotations['none']", ""),
        ("metadata.labels", 'a="1"\nb="x\\"y"'),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "sa"),
        ("status.hostIP", "127.1.0.1"),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert field_of(pod(), HOST, path) == value


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ConfigError, match="unsupported fieldPath"):
        field_of(pod(), HOST, "status.phase")


@pytest.mark.parametrize(
    ("selector", "value"),
    [
        ({"resource": "requests.cpu"}, "1"),
        ({"resource": "requests.cpu", "divisor": "1m"}, "250"),
        ({"resource": "limits.cpu"}, "4"),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "1024"),
        ({"resource": "requests.memory"}, "0"),
    ],
)
def test_resources(selector: dict[str, str], value: str) -> None:
    found = pod()
    assert resource_of(found, HOST, found.container_spec("c"), selector) == value
