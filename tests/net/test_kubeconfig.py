"""kubeconfigs: whole, and merged into a user's own without losing anything of it."""

import base64
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.net import kubeconfig
from kubeloop.net.kubeconfig import KubeconfigError

names = st.sampled_from(["a", "b", "kubeloop-a", "kubeloop-b", "prod"])
entries = st.lists(names, unique=True, max_size=4)


def ours(name: str = "a", url: str = "https://127.0.0.1:1") -> kubeconfig.Config:
    return kubeconfig.kubeconfig(name, url=url, token="t", authority=b"PEM")


def theirs(of_names: list[str], current: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": n, "cluster": {"server": "https://theirs"}} for n in of_names],
        "users": [{"name": n, "user": {}} for n in of_names],
        "contexts": [{"name": n, "context": {"cluster": n, "user": n}} for n in of_names],
        "current-context": current,
        "preferences": {"colors": True},
    }


def test_it_is_complete_in_itself() -> None:
    config = ours()
    assert config["current-context"] == "kubeloop-a"
    (cluster,), (user,), (context,) = config["clusters"], config["users"], config["contexts"]
    data = cluster["cluster"]["certificate-authority-data"]
    assert base64.b64decode(data) == b"PEM"
    assert cluster["cluster"]["server"] == "https://127.0.0.1:1"
    assert user["user"] == {"token": "t"}
    assert context["context"]["cluster"] == cluster["name"]
    assert context["context"]["user"] == user["name"]
    assert kubeconfig.kubeconfig("a", url="http://x", token="t")["clusters"][0]["cluster"] == {
        "server": "http://x",
        "disable-compression": True,
    }


@given(entries, st.sampled_from(["", "prod", "kubeloop-a"]))
def test_merging_keeps_what_is_theirs(of_names: list[str], current: str) -> None:
    before = theirs(of_names, current)
    merged = kubeconfig.merged(before, ours())
    for field in ("clusters", "users", "contexts"):
        found = {entry["name"]: entry for entry in merged[field]}
        assert len(found) == len(merged[field])
        assert found["kubeloop-a"] == ours()[field][0]
        for entry in before[field]:
            assert entry["name"] == "kubeloop-a" or found[entry["name"]] == entry
    assert merged["current-context"] == "kubeloop-a"
    assert merged["preferences"] == {"colors": True}
    assert kubeconfig.merged(merged, ours()) == merged, "twice is once"
    parted = kubeconfig.without(merged, "a")
    rest = [name for name in of_names if name != "kubeloop-a"]
    assert [entry["name"] for entry in parted["contexts"]] == rest
    assert parted["current-context"] == ""


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config"
    kubeconfig.merge(path, ours("a"))
    kubeconfig.merge(path, ours("b"))
    found = yaml.safe_load(path.read_text())
    assert [c["name"] for c in found["contexts"]] == ["kubeloop-a", "kubeloop-b"]
    assert path.stat().st_mode & 0o77 == 0
    kubeconfig.remove(path, "b")
    assert [c["name"] for c in yaml.safe_load(path.read_text())["contexts"]] == ["kubeloop-a"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["config"], "no lock, no part is left"
    kubeconfig.write(tmp_path / "own", ours())
    assert yaml.safe_load((tmp_path / "own").read_text()) == ours()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("")
    link.symlink_to(target)
    kubeconfig.merge(link, ours())
    assert link.is_symlink()
    assert yaml.safe_load(target.read_text())["current-context"] == "kubeloop-a"


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config"
    threads = [
        threading.Thread(target=kubeconfig.merge, args=(path, ours(f"c{n}"))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {c["name"] for c in yaml.safe_load(path.read_text())["contexts"]}
    assert found == {f"kubeloop-c{n}" for n in range(8)}


@pytest.mark.parametrize("text", ["[]", "a: [", "contexts: 1", "users: [1]", "\0"])
def test_what_is_no_kubeconfig_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(KubeconfigError):
        kubeconfig.merge(path, ours())
    assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["config"]


def test_a_lock_of_kubectl_is_respected(tmp_path: Path) -> None:
    (tmp_path / "config.lock").touch()
    with pytest.raises(KubeconfigError, match=r"config is locked: .* remove .*config\.lock"):
        kubeconfig.merge(tmp_path / "config", ours())
    assert not (tmp_path / "config").exists()
