"""Reviews and tokens: who one is, what one may do, and for how long a token is good."""

import base64
import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_server import NOW, Server

from kubeloop.actors.requests import tokens
from kubeloop.api.calls import Request
from kubeloop.api.identity import ISSUER, account_of, account_user, groups_of, may_do_anything

ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
AUTHN, AUTHZ = "authentication.k8s.io", "authorization.k8s.io"
Json = dict[str, Any]


def ask(
    server: Server, kind: str, spec: Json | None = None, *, user: str = "", **more: Any
) -> Json:
    group = AUTHN if kind in ("TokenReview", "SelfSubjectReview") else AUTHZ
    body = {"apiVersion": f"{group}/v1", "kind": kind, **({"spec": spec} if spec else {})}
    where = more.pop("namespace", "")
    request = Request("create", f"{kind.lower()}s.{group}", where, body=msgpack.packb(body),
                      user=user, options=more)  # fmt: skip
    told: Json = msgpack.unpackb(server.core.handle(request).body)
    return told


def token_of(server: Server, **spec: Any) -> Json:
    body = {"apiVersion": f"{AUTHN}/v1", "kind": "TokenRequest", "spec": spec}
    told: Json = server.ok("create", "serviceaccounts", "robot", body, subresource="token")
    return told


def status_of(server: Server, token: str, **spec: Any) -> Json:
    told: Json = ask(server, "TokenReview", {"token": token, **spec})["status"]
    return told


def claims_in(token: str) -> Json:
    part = token.split(".")[1]
    told: Json = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return told


def test_a_token_says_whose_it_is() -> None:
    server = Server()
    uid = server.create(ACCOUNT)["metadata"]["uid"]
    made = token_of(server)
    assert made["spec"]["expirationSeconds"] == 3600
    claims = claims_in(made["status"]["token"])
    assert claims["sub"] == "system:serviceaccount:default:robot"
    assert (claims["iat"], claims["exp"]) == (NOW, NOW + 3600)
    status = status_of(server, made["status"]["token"])
    assert status["authenticated"] and status["audiences"] == [ISSUER]
    assert (status["user"]["uid"], status["user"]["username"]) == (uid, claims["sub"])
    assert "system:serviceaccounts:default" in status["user"]["groups"]


def test_a_token_ends_with_its_time_its_account_and_what_it_is_bound_to() -> None:
    server = Server()
    server.create(ACCOUNT)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    server.create(secret)
    short = token_of(server, expirationSeconds=600)["status"]["token"]
    reference = {"apiVersion": "v1", "kind": "Secret", "name": "s"}
    bound = token_of(server, boundObjectRef=reference)["status"]["token"]
    server.now += 599
    assert status_of(server, short)["authenticated"]
    server.now += 1
    assert "expired" in status_of(server, short)["error"]
    assert status_of(server, bound)["authenticated"]
    server.ok("delete", "secrets", "s")
    assert "invalidated" in status_of(server, bound)["error"]
    other = token_of(server, audiences=["vault"])["status"]["token"]
    assert "audiences" in status_of(server, other)["error"]
    assert status_of(server, other, audiences=["a", "vault"])["audiences"] == ["vault"]
    server.ok("delete", "serviceaccounts", "robot")
    server.create(ACCOUNT)  # Of the same name, and another.
    assert "invalidated" in status_of(server, other, audiences=["vault"])["error"]


@given(st.data())
def test_a_token_that_was_touched_is_nobodys(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(TOKEN) - 1))
    char = data.draw(st.sampled_from("AZaz09-_."))
    touched = TOKEN[:place] + char + TOKEN[place + 1 :]
    if touched.split(".")[:2] == TOKEN.split(".")[:2] and place >= len(TOKEN) - 1:
        return  # The last digit has bits that say nothing.
    assert status_of(SERVER, touched).get("authenticated", False) == (touched == TOKEN)


SERVER = Server()
SERVER.create(ACCOUNT)
TOKEN: str = token_of(SERVER)["status"]["token"]


def test_the_same_seed_gives_the_same_token() -> None:
    server = Server()
    server.create(ACCOUNT)
    assert token_of(server)["status"]["token"] == TOKEN


@pytest.mark.parametrize(
    ("spec", "code", "said"),
    [
        ({"expirationSeconds": 5}, 422, 'TokenRequest.authentication.k8s.io "" is invalid:'
         " spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10"
         " minutes"),
        ({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}}, 404,
         'pods "p" not found'),
        ({"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "p"}}, 400,
         "cannot bind token to object of type v1, ConfigMap"),
    ],
)  # fmt: skip
def test_tokens_that_are_refused(spec: Json, code: int, said: str) -> None:
    body = {"apiVersion": f"{AUTHN}/v1", "kind": "TokenRequest", "spec": spec}
    status = SERVER.refused("create", "serviceaccounts", "robot", body, subresource="token")
    assert (status["code"], status["message"]) == (code, said)


def test_reviews_say_what_is_so() -> None:
    pods = {"namespace": "default", "verb": "get", "resource": "pods"}
    server = Server()
    mine = ask(server, "SelfSubjectAccessReview", {"resourceAttributes": pods}, user="me")
    assert mine["status"] == {"allowed": True}
    assert mine["spec"] == {"resourceAttributes": pods}
    nobody = {"resourceAttributes": pods, "user": "system:anonymous"}
    assert ask(server, "SubjectAccessReview", nobody)["status"] == {"allowed": False}
    here = {"resourceAttributes": pods, "groups": ["us"]}
    told = ask(server, "LocalSubjectAccessReview", here, namespace="default")
    assert told["status"] == {"allowed": True} and told["metadata"]["namespace"] == "default"
    elsewhere = ask(server, "LocalSubjectAccessReview", here, namespace="kube-system")
    assert "must match namespace: default" in elsewhere["message"]
    rules = ask(server, "SelfSubjectRulesReview", {"namespace": "default"}, user="me")["status"]
    assert rules["resourceRules"][0]["verbs"] == ["*"] and rules["incomplete"] is False
    who = ask(server, "SelfSubjectReview", user="system:admin")["status"]["userInfo"]
    groups = ["system:masters", "system:authenticated"]
    assert who == {"username": "system:admin", "groups": groups}
    known = ask(server, "TokenReview", {"token": "x"}, tokenOf="system:admin")["status"]
    assert known["authenticated"] and known["user"]["groups"] == groups
    assert server.store.get(tokens.KEY) is None, "nothing was kept"


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("SelfSubjectAccessReview", {"nothing": 1}, "exactly one of nonResourceAttributes or"),
        ("SubjectAccessReview", {"resourceAttributes": {"verb": "get"}},
         'spec.user: Invalid value: "": at least one of user or group must be specified'),
        ("SelfSubjectAccessReview", {"resourceAttributes": {}, "nonResourceAttributes": {}},
         "cannot be specified in combination with resourceAttributes"),
        ("SelfSubjectRulesReview", None, "no namespace on request"),
        ("TokenReview", None, "token is required for TokenReview in authentication"),
    ],
)  # fmt: skip
def test_questions_that_make_no_sense(kind: str, spec: Json | None, said: str) -> None:
    assert said in ask(Server(), kind, spec)["message"]


def test_questions_are_only_asked() -> None:
    server = Server()
    for verb in ("list", "get", "delete", "update", "watch"):
        assert server.refused(verb, f"tokenreviews.{AUTHN}", "x")["code"] == 405


def test_users() -> None:
    assert account_of(account_user("n", "a")) == ("n", "a")
    assert account_of("system:admin") is None
    assert groups_of("someone") == ["system:authenticated"]
    assert may_do_anything("someone", []) and not may_do_anything("", [])
    assert not may_do_anything("x", ["system:unauthenticated"])
