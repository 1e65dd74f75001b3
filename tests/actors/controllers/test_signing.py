"""Signing requests: approved, signed, refused, and gone in time, whoever crashes in between."""

import base64
import random
from typing import Any

from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import DISTURBANCES, ENDLESS_S, EPOCH, Mini, Obj, Op
from signing_requests import (
    CLIENT,
    NODE_CLIENT,
    SERVING,
    SIGNING_REQUESTS,
    request_pem,
    signing_request,
)

from kubeloop.actors.controller_manager import Settings
from kubeloop.actors.controllers.certificates import deadline_s
from kubeloop.api.times import rfc3339
from kubeloop.net.certificates import make_certificates

MADE = make_certificates([], ["127.0.0.1"], now=EPOCH, bits=random.Random(1).getrandbits)
SIGNS = Settings(
    node_grace_s=ENDLESS_S,
    authority=MADE.authority.decode(),
    authority_key=MADE.authority_key.decode(),
)
NODE = request_pem("system:node:n", ["system:nodes"])
CALLS = ("client auth", "digital signature")
HOUR_S, DAY_S = 3600.0, 24 * 3600.0


def a_cluster(*requests: Obj, **options: Any) -> Mini:
    mini = Mini(settings=SIGNS, nodes=(), **options)
    for request in requests:
        mini.create(request)
    return mini


def found(mini: Mini, name: str) -> Obj:
    return mini.get(SIGNING_REQUESTS, name, "") or {}


def decide(mini: Mini, name: str, type_: str = "Approved") -> None:
    csr = found(mini, name)
    condition = {"type": type_, "status": "True", "reason": "Test", "message": "as told"}
    mini.patch(csr, {"status": {"conditions": [condition]}}, subresource="approval")


def types(csr: Obj) -> list[str]:
    return [one["type"] for one in csr["status"].get("conditions") or ()]


def certificate(csr: Obj) -> x509.Certificate | None:
    told = csr["status"].get("certificate")
    return None if not told else x509.load_pem_x509_certificate(base64.b64decode(told))


ASKED = {
    "jane": (CLIENT, CALLS, request_pem("jane", ["dev"])),
    "wrong": (CLIENT, ("server auth",), request_pem("jane")),
    "serving": (SERVING, ("server auth", "digital signature"), request_pem(
        "system:node:n", ["system:nodes"], dns=["n"])),
    "kubelet": (NODE_CLIENT, CALLS, NODE),
    "other": ("example.com/own", CALLS, request_pem("jane")),
}  # fmt: skip
OPS = st.one_of(
    DISTURBANCES,
    st.tuples(st.just("decide"), st.sampled_from(sorted(ASKED)), st.booleans()),
)


@settings(max_examples=60)
@given(st.lists(OPS, max_size=25))
def test_what_is_approved_is_signed_once(ops: list[Op]) -> None:
    mini = a_cluster(*(signing_request(name, *asked) for name, asked in ASKED.items()))
    mini.start()
    decided: dict[str, str] = {}
    for op in ops:
        if not mini.disturb(op):
            _, name, approved = op
            if found(mini, name) and not types(found(mini, name)):
                decided[name] = "Approved" if approved else "Denied"
                decide(mini, name, decided[name])
    mini.settle(horizon_s=60.0)
    decided.setdefault("kubelet", "Approved")
    for name in ASKED:
        csr, told = found(mini, name), decided.get(name)
        signed = certificate(csr)
        assert types(csr)[:1] == ([told] if told else [])
        if name == "wrong" and told == "Approved":
            assert types(csr) == ["Approved", "Failed"] and signed is None
            failed = csr["status"]["conditions"][1]
            assert failed["reason"] == "SignerValidationFailure"
            assert failed["message"] == "invalid usage for client certificate: server auth"
        else:
            assert (signed is not None) == (told == "Approved" and name != "other")
    facts = [f for f in mini.changes(0) if f.resource == SIGNING_REQUESTS]
    times = dict.fromkeys(ASKED, 0)
    for fact in facts:
        csr = fact.object() or {"metadata": {"name": "wrong"}, "status": {}}
        times[csr["metadata"]["name"]] += "certificate" in csr["status"]
    assert max(times.values()) <= 1
    before = mini.store.revision
    mini.start()
    mini.settle(horizon_s=60.0)
    assert mini.store.revision == before, "what is settled is written no more"


def test_a_kubelet_is_approved_by_itself() -> None:
    mini = a_cluster(signing_request("kubelet", NODE_CLIENT, CALLS, NODE))
    mini.start()
    mini.settle(horizon_s=60.0)
    csr = found(mini, "kubelet")
    (condition,) = csr["status"]["conditions"]
    assert condition["reason"] == "AutoApproved"
    wanted = "Auto approving kubelet client certificate after SubjectAccessReview."
    assert condition["message"] == wanted
    assert certificate(csr) is not None


def test_what_a_kubelet_may_not_have_waits_for_somebody() -> None:
    alien = request_pem("system:node:n", ["system:nodes"], dns=["n"])
    mini = a_cluster(signing_request("kubelet", NODE_CLIENT, CALLS, alien))
    mini.start()
    mini.settle(horizon_s=60.0)
    assert types(found(mini, "kubelet")) == []


def test_without_a_key_it_stays_approved() -> None:
    mini = Mini(nodes=())
    mini.create(signing_request("jane", *ASKED["jane"]))
    mini.start()
    decide(mini, "jane")
    mini.settle(horizon_s=60.0)
    assert types(found(mini, "jane")) == ["Approved"]
    assert certificate(found(mini, "jane")) is None


def test_they_go_when_their_time_is_over() -> None:
    names = ("jane", "wrong", "other", "serving")
    mini = a_cluster(*(signing_request(name, *ASKED[name]) for name in names))
    mini.start()
    mini.settle(horizon_s=10.0)
    decide(mini, "jane")
    decide(mini, "wrong")
    decide(mini, "other", "Denied")
    mini.settle(horizon_s=10.0)
    for passed_s, left in ((HOUR_S - 60, names), (120.0, ("serving",)), (DAY_S, ())):
        mini.world.advance(mini.world.time + passed_s)
        mini.start()  # Whoever is new finds what is overdue, too.
        mini.settle(horizon_s=10.0)
        assert {o["metadata"]["name"] for o in mini.all(SIGNING_REQUESTS)} == set(left)


conditions = st.lists(
    st.tuples(st.sampled_from(["Approved", "Denied", "Failed", "Mine"]), st.integers(0, 9999)),
    max_size=3,
    unique_by=lambda one: one[0],
)


@given(conditions, st.booleans(), st.none() | st.floats(0, 9e9))
def test_until_when_one_is_kept(
    told: list[tuple[str, int]], issued: bool, expires_s: float | None
) -> None:
    made = [
        {"type": type_, "status": "True", "lastUpdateTime": rfc3339(EPOCH + since)}
        for type_, since in told
    ]
    status = {"conditions": made, **({"certificate": "QQ=="} if issued else {})}
    csr = {"metadata": {"creationTimestamp": rfc3339(EPOCH)}, "status": status}
    until = deadline_s(csr, lambda pem: expires_s)
    if not told:
        assert until == EPOCH + DAY_S
        return
    kept = [EPOCH + s + HOUR_S for t, s in told if t in ("Denied", "Failed")]
    kept += [EPOCH + s + HOUR_S for t, s in told if t == "Approved" and issued]
    kept += [expires_s for t, _ in told if t == "Approved" and issued and expires_s]
    assert until == min(kept, default=float("inf"))
