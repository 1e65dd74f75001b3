"""Certificates follow from the bits they are made of; keys are for their owner only."""

import random
import ssl
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kubeloop.net.certificates import make_certificates, server_context, write_private

NOW = 1_795_413_600.0


@given(st.integers(0, 2**64))
def test_the_same_bits_make_the_same_certificates(seed: int) -> None:
    one, same, other = (
        make_certificates([], ["10.96.0.1"], now=NOW, bits=random.Random(s).getrandbits)
        for s in (seed, seed, seed + 1)
    )
    assert one == same
    assert one.key != other.key and one.authority_key not in (one.key, other.authority_key)
    server_context(one)
    ssl.create_default_context(cadata=one.authority.decode())


def test_a_key_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "server.key"
    write_private(path, b"secret")
    assert path.read_bytes() == b"secret"
    assert path.stat().st_mode & 0o777 == 0o600
