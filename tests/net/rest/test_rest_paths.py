"""Which resource a path means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import ApiError, BadRequest, PathNotFound
from kubeloop.api.resources import RESOURCES, Resource
from kubeloop.net.rest import paths

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0%"), min_size=1).filter(
    lambda name: name not in (".", "..")
)


def path_of(resource: Resource, namespace: str, name: str, subresource: str) -> str:
    root = f"/apis/{resource.group}" if resource.group else "/api"
    parts = [f"{root}/{resource.version}"]
    if namespace:
        parts += ["namespaces", quoted(namespace)]
    parts.append(resource.plural)
    parts += [quoted(name)] if name else []
    parts += [subresource] if subresource else []
    return "/".join(parts)


def quoted(name: str) -> str:
    return "".join(f"%{byte:02X}" for byte in name.encode())


@given(st.sampled_from(list(RESOURCES.values())), names, names, st.integers(0, 5))
def test_every_resource_path_is_found(resource: Resource, ns: str, name: str, sub: int) -> None:
    namespace = ns if resource.namespaced else ""
    subresources = ["", *(s.name for s in resource.subresources)]
    subresource = subresources[sub % len(subresources)]
    found = paths.find(paths.split(path_of(resource, namespace, name, subresource)))
    assert found == paths.Target(resource, namespace, name, subresource)
    if resource.namespaced or not subresource:
        collection = paths.find(paths.split(path_of(resource, namespace, "", "")))
        assert collection == paths.Target(resource, namespace)


@given(st.text(max_size=40))
def test_any_path_is_a_target_nothing_or_an_api_error(path: str) -> None:
    try:
        paths.find(paths.split("/api/v1/" + path))
    except ApiError as error:
        assert error.code in (400, 404)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1/pods", ("pods", "", "", "", False)),
        ("/api/v1/watch/pods", ("pods", "", "", "", True)),
        ("/api/v1/watch/namespaces/x/pods/p", ("pods", "x", "p", "", True)),
        ("/api/v1/namespaces/x", ("namespaces", "", "x", "", False)),
        ("/api/v1/namespaces/x/status", ("namespaces", "", "x", "status", False)),
        ("/api/v1/namespaces/pods/pods", ("pods", "pods", "", "", False)),
        ("/api/v1/namespaces/x/pods/p/exec", ("pods", "x", "p", "exec", False)),
        ("/apis/apps/v1/deployments/", ("deployments.apps", "", "", "", False)),
    ],
)
def test_paths(path: str, target: tuple[str, str, str, str, bool]) -> None:
    found = paths.find(paths.split(path))
    assert found is not None
    told = (found.resource.id, found.namespace, found.name, found.subresource, found.watch)
    assert told == target


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/apis/apps/v1", "/apis/nope/v1/x"])
def test_these_are_no_resources(path: str) -> None:
    assert paths.find(paths.split(path)) is None


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nope",
        "/api/v1/pods/p",
        "/api/v1/namespaces/x/pods/p/nope",
        "/api/v1/namespaces/x/pods/p/log/more",
        "/api/v1/namespaces/x/nodes",
        "/api/v1/namespaces//pods",
        "/api/v1/watch",
        "/apis/apps/v9/deployments",
        "/apis/apps/v9",
    ],
)
def test_these_are_not_there(path: str) -> None:
    with pytest.raises(PathNotFound):
        paths.find(paths.split(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a%2Fb", "may not contain '/'"),
        ("a%00", "may not contain NUL"),
        ("%2e%2e", "may not be '..'"),
        (".", "may not be '.'"),
        ("a%25b", "may not contain '%'"),
        ("a%zz", "invalid URL escape"),
        ("%ff", "not UTF-8"),
    ],
)
def test_names_that_hide_something_are_refused(name: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        paths.find(paths.split(f"/api/v1/namespaces/x/pods/{name}"))
