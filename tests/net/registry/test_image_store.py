"""The image store: builds that can be repeated, names that change at once, nothing left over."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kubeloop.net.registry import DefinitionError, ImageStore, Reference, StoreError

EXAMPLE = Path(__file__).parents[3] / "examples" / "mc-user"


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def context(directory: Path, definition: str, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Containerfile").write_text(definition)
    for name, content in files.items():
        (directory / name).write_text(content)
    return directory


def manifest(store: ImageStore, name: str) -> dict[str, Any]:
    found = store.find(Reference.parse(name))
    assert found is not None
    return store.read_json(found["digest"])


def config(store: ImageStore, name: str) -> dict[str, Any]:
    return store.read_json(manifest(store, name)["config"]["digest"])


def members(store: ImageStore, name: str) -> list[str]:
    found: list[str] = []
    for layer in manifest(store, name)["layers"]:
        path = store.blob(layer["digest"])
        assert path is not None
        with tarfile.open(path) as archive:
            for member in archive:
                assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
                found.append(member.name)
    return found


def blobs(store: ImageStore) -> set[str]:
    return {path.name for path in (store.path / "blobs" / "sha256").iterdir()}


def test_the_example_builds_and_is_small(store: ImageStore) -> None:
    image = store.build(EXAMPLE, "rainbow/mc-user:1.0.RELEASE")
    assert image.familiar == "rainbow/mc-user:1.0.RELEASE"
    assert image.size_bytes < 10_000
    assert store.list() == [image]
    assert config(store, image.name)["config"] == {
        "Cmd": ["python3", "-S", "main.py"],
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"kubeloop.base": "host", "org.opencontainers.image.title": "mc-user"},
        "WorkingDir": "/app",
    }


def test_the_same_files_give_the_same_image(tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        build = context(tmp_path / str(number), "FROM host\nCOPY . /x\n", a="1", b="2")
        (build / "a").chmod(0o600 if number else 0o644)
        digests.add(ImageStore(tmp_path / f"s{number}").build(build, "x:1").digest)
    assert len(digests) == 1


def test_copy_goes_where_docker_would(store: ImageStore, tmp_path: Path) -> None:
    definition = """FROM scratch
        WORKDIR /w
        COPY d /tree
        COPY a b.txt into/
        COPY a renamed
        COPY *.txt /globbed/
        COPY . .
        """
    build = context(tmp_path / "c", definition, a="", **{"b.txt": ""})
    (build / "d" / "e").mkdir(parents=True)
    (build / "d" / "e" / "f").write_text("")
    (build / "d" / "link").symlink_to("e/f")
    store.build(build, "x:1")
    assert members(store, "x:1") == [
        "tree", "tree/e", "tree/e/f", "tree/link",
        "w/into/a", "w/into/b.txt",
        "w/renamed",
        "globbed/b.txt",
        "w", "w/Containerfile", "w/a", "w/b.txt", "w/d", "w/d/e", "w/d/e/f", "w/d/link",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("FROM host\nCOPY nope /", "Containerfile:2: COPY nope: there is no such file"),
        ("FROM host\nCOPY *.nope /", "there is no such file"),
        ("FROM host\nCOPY away /", "away leads out of"),
        ("FROM host\nCOPY broken /", "broken is a link to nothing"),
        ("FROM nope:1", "FROM nope:1: the store has no such image; it can be scratch, host"),
        ("FROM Nope", "is no name of an image"),
    ],
)
def test_a_build_that_fails_leaves_nothing(
    store: ImageStore, tmp_path: Path, definition: str, message: str
) -> None:
    build = context(tmp_path / "c", definition)
    (build / "away").symlink_to("/etc/passwd")
    (build / "broken").symlink_to("nothing")
    with pytest.raises(DefinitionError) as error:
        store.build(build, "x:1")
    assert message in str(error.value)
    assert store.list() == []
    with pytest.raises(DefinitionError, match="no Containerfile or Dockerfile"):
        store.build(tmp_path, "x:1")


def test_an_image_is_built_upon_another(store: ImageStore, tmp_path: Path) -> None:
    store.build(
        context(tmp_path / "a", 'FROM host\nENV A=1 B=1\nCOPY f /f\nCMD ["a"]', f="f"), "base:1"
    )
    derived = context(tmp_path / "b", 'FROM base:1\nENV B=2\nCOPY g /g\nENTRYPOINT ["b"]', g="g")
    store.build(derived, "derived:1")
    assert members(store, "derived:1") == ["f", "g"]
    assert config(store, "derived:1")["config"] == {
        "Env": ["A=1", "B=2"], "Entrypoint": ["b"], "Labels": {"kubeloop.base": "host"},
    }  # fmt: skip


def test_removing_an_image_removes_what_only_it_needs(store: ImageStore, tmp_path: Path) -> None:
    build = context(tmp_path / "a", "FROM host\nCOPY f /f", f="f")
    store.build(build, "one:1")
    before = blobs(store)
    store.build(build, "other:1")
    store.build(context(build, "FROM host\nCOPY f /f\nCOPY g /g", f="f", g="g"), "two:1")
    store.remove("two:1")
    assert blobs(store) == before
    store.remove("other:1")
    assert blobs(store) == before
    store.remove("one:1")
    assert blobs(store) == set()
    with pytest.raises(StoreError, match="there is no image one:1; the store has: nothing"):
        store.remove("one:1")


def test_another_process_sees_changes_at_once(store: ImageStore, tmp_path: Path) -> None:
    other = ImageStore(store.path)
    assert other.list() == []
    store.build(context(tmp_path / "a", "FROM host"), "a:1")
    assert [image.familiar for image in other.list()] == ["a:1"]
    store.remove("a:1")
    assert other.list() == []


def test_names_are_checked(store: ImageStore, tmp_path: Path) -> None:
    for name in ("Not Good", "a@sha256:" + "0" * 64):
        with pytest.raises(StoreError):
            store.build(context(tmp_path / "a", "FROM host"), name)


def save(archive: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(archive, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive


def layout(store: ImageStore) -> dict[str, bytes]:
    return {
        path.relative_to(store.path).as_posix(): path.read_bytes()
        for path in store.path.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def test_an_oci_layout_is_loaded(store: ImageStore, tmp_path: Path) -> None:
    built = ImageStore(tmp_path / "other").build(EXAMPLE, "mc:1")
    files = layout(ImageStore(tmp_path / "other"))
    assert store.load(save(tmp_path / "image.tar", files)) == [built]
    assert store.list() == [built]
    damaged = {name: content[:-1] if len(content) > 900 and "blobs" in name else content
               for name, content in files.items()}  # fmt: skip
    with pytest.raises(StoreError, match="is damaged"):
        store.load(save(tmp_path / "damaged.tar", damaged))
    missing = {name: content for name, content in files.items() if built.digest[7:] not in name}
    with pytest.raises(StoreError, match="is incomplete"):
        store.load(save(tmp_path / "missing.tar", missing))


def test_what_docker_save_wrote_is_loaded(store: ImageStore, tmp_path: Path) -> None:
    config_ = json.dumps({"config": {"Cmd": ["x"]}, "rootfs": {"diff_ids": ["sha256:0"]}}).encode()
    index = [{"Config": "c.json", "RepoTags": ["a:1", "b:1"], "Layers": ["l/layer.tar"]}]
    files = {
        "c.json": config_,
        "l/layer.tar": b"layer",
        "manifest.json": json.dumps(index).encode(),
    }
    loaded = store.load(save(tmp_path / "image.tar", files))
    assert [image.familiar for image in loaded] == ["a:1", "b:1"]
    assert config(store, "b:1")["config"] == {"Cmd": ["x"]}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x": b""}, "holds no images"),
        ({"index.json": b"{"}, "is no JSON"),
        ({"index.json": b"{}"}, "is no list"),
        ({"manifest.json": b'[{"Config": "../c", "RepoTags": ["a"], "Layers": []}]'}, "incomplete"),
    ],
)
def test_what_is_no_image_is_refused(
    store: ImageStore, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        store.load(save(tmp_path / "image.tar", files))
    (tmp_path / "no.tar").write_bytes(b"no tar")
    with pytest.raises(StoreError, match="is no tar file"):
        store.load(tmp_path / "no.tar")
