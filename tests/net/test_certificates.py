"""Keys are for their owner only."""

from pathlib import Path

from kubeloop.net.certificates import write_private


def test_a_key_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "server.key"
    write_private(path, b"secret")
    assert path.read_bytes() == b"secret"
    assert path.stat().st_mode & 0o777 == 0o600
