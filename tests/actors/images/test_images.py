"""Names of images, pulls and their back-off, and which images go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.images.collection import Limits, collect
from kubeloop.actors.images.names import full_name, repository
from kubeloop.actors.images.pulls import Present, Pulls, Refused, Wait, Waiter, image_id
from kubeloop.actors.runtimes.protocol import ImageRecord

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("rainbow/mc-user:1.0.RELEASE", "docker.io/rainbow/mc-user:1.0.RELEASE"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x/y:2", "localhost:5000/x/y:2"),
        ("registry.k8s.io/pause", "registry.k8s.io/pause:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"a.b/c:1@{DIGEST}", f"a.b/c:1@{DIGEST}"),
    ],
)
def test_full_names(image: str, name: str) -> None:
    assert full_name(image) == name
    assert full_name(name) == name


@pytest.mark.parametrize(
    "image", ["", "UPPER", "Foo/bar", "a b", "a:", ":1", "a//b", "a:b:c", "-a", "a@sha256:1"]
)
def test_what_is_no_name(image: str) -> None:
    with pytest.raises(ValueError, match="invalid reference format"):
        full_name(image)


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = full_name(text)
    except ValueError:
        return
    assert full_name(name) == name
    assert name.startswith(repository(text))


def test_an_image_id_names_repository_and_digest() -> None:
    found = image_id("nginx:1", ImageRecord(DIGEST, ("nginx:1",), 1))
    assert found == f"docker.io/library/nginx@{DIGEST}"


A, B = Waiter("a", "c"), Waiter("b", "c")
RECORD = ImageRecord(DIGEST, ("docker.io/library/i:1",), 10)


def test_one_pull_at_a_time_serves_all_who_wait() -> None:
    pulls = Pulls()
    assert pulls.want(A, "i:1", "IfNotPresent", 0) == Wait(begin=True)
    assert pulls.want(B, "docker.io/library/i:1", "Always", 1) == Wait(begin=False)
    pulls.forget("a")
    assert pulls.want(A, "i:1", "IfNotPresent", 2) == Wait(begin=False)
    assert pulls.pulled("i:1", RECORD, 5) == {B: 1, A: 2}
    assert pulls.want(A, "i:1", "IfNotPresent", 6) == Present(RECORD)
    assert pulls.want(A, "i:1", "Always", 6) == Wait(begin=True)


def test_a_failure_backs_off_for_the_pod_that_met_it_alone() -> None:
    pulls = Pulls()
    pulls.want(A, "i:1", "IfNotPresent", 0)
    assert pulls.failed("i:1", "ErrImagePull", "no route", 1) == {A: 0}
    refused = pulls.want(A, "i:1", "IfNotPresent", 2)
    assert isinstance(refused, Refused) and refused.retry_at == 11
    assert refused.message == 'Back-off pulling image "i:1": ErrImagePull: no route'
    assert refused.event is not None
    again = pulls.want(A, "i:1", "IfNotPresent", 3)
    assert isinstance(again, Refused) and again.event is None, "told once"
    assert pulls.want(B, "i:1", "IfNotPresent", 3) == Wait(begin=True)
    pulls.failed("i:1", "ErrImagePull", "no route", 4)
    assert pulls.want(A, "i:1", "IfNotPresent", 11) == Wait(begin=True)
    pulls.failed("i:1", "ErrImagePull", "no route", 12)
    refused = pulls.want(A, "i:1", "IfNotPresent", 13)
    assert isinstance(refused, Refused) and refused.retry_at == 32
    pulls.forget("a")
    assert pulls.want(A, "i:1", "IfNotPresent", 13) == Wait(begin=True)


def test_a_success_ends_the_back_off() -> None:
    pulls = Pulls()
    for at in (0, 20, 60):
        pulls.want(A, "i:1", "Always", at)
        pulls.failed("i:1", "ErrImagePull", "no route", at)
    pulls.want(A, "i:1", "Always", 200)
    pulls.pulled("i:1", RECORD, 200)
    pulls.want(A, "i:1", "Always", 201)
    pulls.failed("i:1", "ErrImagePull", "no route", 201)
    refused = pulls.want(A, "i:1", "Always", 202)
    assert isinstance(refused, Refused) and refused.retry_at == 211


def test_what_the_runtime_lost_is_pulled_again() -> None:
    pulls = Pulls()
    pulls.learn([RECORD], 0)
    assert pulls.want(A, "i:1", "Never", 0) == Present(RECORD)
    pulls.learn([], 1)
    assert isinstance(pulls.want(A, "i:1", "Never", 1), Refused)


sizes = st.lists(st.integers(1, 50), max_size=8)


@given(sizes, st.sets(st.integers(0, 7)), st.integers(1, 200))
def test_collection_frees_enough_or_says_that_it_cannot(
    sizes: list[int], used: set[int], capacity: int
) -> None:
    images = [ImageRecord(str(n), (f"i{n}",), size) for n, size in enumerate(sizes)]
    found = collect(
        images,
        in_use={str(n) for n in used},
        last_used=lambda digest: -float(digest),
        first_seen=lambda _: 0.0,
        limits=Limits(capacity_bytes=capacity),
        now=1000.0,
    )
    left = sum(image.size_bytes for image in images if image.digest not in found.digests)
    assert not {int(digest) for digest in found.digests} & used
    if sum(sizes) * 100 < capacity * 85:
        assert not found.digests and not found.problem
    elif not found.problem:
        assert left <= capacity * 80 // 100 + 1
        assert found.digests == sorted(found.digests, key=lambda d: -int(d))
    else:
        assert set(found.digests) == {str(n) for n in range(len(sizes))} - {str(n) for n in used}


def test_young_images_stay() -> None:
    found = collect(
        [RECORD],
        in_use=set(),
        last_used=lambda _: 0.0,
        first_seen=lambda _: 950.0,
        limits=Limits(capacity_bytes=5),
        now=1000.0,
    )
    assert not found.digests and "only found 0 bytes" in found.problem
