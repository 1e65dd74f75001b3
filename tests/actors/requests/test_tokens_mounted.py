"""What a new pod gets of its service account: a volume with a token, and secrets to pull with."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_server import Server, pod

from kubeloop.actors.requests.state import Settings
from kubeloop.api.admission.service_accounts import TOKEN_PATH, mount_token

Json = dict[str, Any]
KNOWS = Settings(mounts_tokens=True)
OWN = {"name": "mine", "mountPath": TOKEN_PATH}
KUBE = re.compile("kube-api-access-[bcdfghjklmnpqrstvwxz2456789]{5}")


def account(server: Server, name: str = "default", **fields: Any) -> None:
    kind = {"apiVersion": "v1", "kind": "ServiceAccount"}
    server.create({**kind, "metadata": {"name": name}, **fields})


def test_the_volume_is_kubernetes_own() -> None:
    server = Server(KNOWS)
    account(server)
    spec = server.create(pod("p", initContainers=[{"name": "i", "image": "b"}]))["spec"]
    (volume,) = spec["volumes"]
    assert KUBE.fullmatch(volume["name"])
    assert volume["projected"] == {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {
                "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }
            },
            {
                "downwardAPI": {
                    "items": [
                        {
                            "path": "namespace",
                            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                        }
                    ]
                }
            },
        ],
        "defaultMode": 420,
    }
    mount = {"name": volume["name"], "readOnly": True, "mountPath": TOKEN_PATH}
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["volumeMounts"] == [mount]


@pytest.mark.parametrize("told_by_pod", [None, True, False])
@pytest.mark.parametrize("told_by_account", [None, True, False])
def test_who_says_whether_it_is_mounted(
    told_by_pod: bool | None, told_by_account: bool | None
) -> None:
    server = Server(KNOWS)
    said = {} if told_by_account is None else {"automountServiceAccountToken": told_by_account}
    account(server, "robot", **said)
    told = {} if told_by_pod is None else {"automountServiceAccountToken": told_by_pod}
    made = server.create(pod("p", serviceAccountName="robot", **told))
    wanted = told_by_account is not False if told_by_pod is None else told_by_pod
    assert bool(made["spec"].get("volumes")) == wanted


def test_without_an_authority_to_publish_nothing_is_mounted() -> None:
    server = Server()
    account(server)
    assert "volumes" not in server.create(pod("p"))["spec"]


def test_a_pod_pulls_with_the_secrets_of_its_account() -> None:
    server = Server()
    account(server, imagePullSecrets=[{"name": "registry"}])
    assert server.create(pod("p"))["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    own = server.create(pod("q", imagePullSecrets=[{"name": "own"}]))
    assert own["spec"]["imagePullSecrets"] == [{"name": "own"}]


mounts = st.lists(st.sampled_from([OWN, {"name": "data", "mountPath": "/data"}]), max_size=2)
containers = st.lists(
    st.builds(
        lambda given: {"name": "c", "volumeMounts": given} if given else {"name": "c"}, mounts
    ),
    max_size=3,
)


@given(
    containers,
    containers,
    st.lists(st.sampled_from(["mine", "data", "kube-api-access-old"]), unique=True),
)
def test_every_container_has_one_thing_there_and_once_is_enough(
    init: list[Json], main: list[Json], volumes: list[str]
) -> None:
    spec: Json = {"initContainers": init, "containers": main}
    spec["volumes"] = [{"name": name, "emptyDir": {}} for name in volumes]
    mine = {id(c) for c in (*init, *main) if OWN in c.get("volumeMounts", ())}
    mount_token(spec, None, lambda base: f"{base}fresh")
    names = [volume["name"] for volume in spec["volumes"]]
    assert names[: len(volumes)] == volumes
    for container in (*init, *main):
        there = [m for m in container["volumeMounts"] if m["mountPath"] == TOKEN_PATH]
        if id(container) not in mine:
            assert [m["name"] for m in there] == [
                "kube-api-access-old" if "kube-api-access-old" in volumes else names[-1]
            ]
        else:
            assert all(m is OWN for m in there)
    assert ("kube-api-access-fresh" in names) == (
        "kube-api-access-old" not in volumes and len(mine) < len({id(c) for c in (*init, *main)})
    )
    again = repr(spec)
    mount_token(spec, None, lambda base: f"{base}again")
    assert repr(spec) == again
