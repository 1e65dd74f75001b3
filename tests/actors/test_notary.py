"""What the notary signs is what was asked for, by its authority, for as long as it may."""

import random
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from signing_requests import key_pem, request_pem

from kubeloop.actors.notary import Notary, read_request
from kubeloop.api.signers import EXTENDED, SHORT_S, SIGNED_USAGES, Unsigned, Wish
from kubeloop.net.certificates import make_certificates

NOW = 1_795_413_600
MADE = make_certificates([], ["127.0.0.1"], now=NOW, bits=random.Random(1).getrandbits)
NOTARY = Notary(MADE.authority.decode(), MADE.authority_key.decode())
AUTHORITY = x509.load_pem_x509_certificate(MADE.authority)

words = st.text("abcdefghij:-.", min_size=1, max_size=20)


@given(
    name=words,
    organizations=st.lists(words, max_size=3),
    dns=st.lists(st.sampled_from(["a.example", "b"]), max_size=2, unique=True),
    addresses=st.lists(st.sampled_from(["10.0.0.1", "::1"]), max_size=2, unique=True),
)
def test_a_request_is_read_and_signed_as_it_is(**asked: Any) -> None:
    name, organizations = asked.pop("name"), asked.pop("organizations")
    pem = request_pem(name, organizations, **asked)
    assert NOTARY.read(pem) == Wish(
        common_name=name,
        organizations=tuple(organizations),
        dns_names=tuple(asked["dns"]),
        addresses=tuple(asked["addresses"]),
    )
    signed = NOTARY.sign(pem, ["client auth", "digital signature"], seconds=600, now_s=NOW)
    assert signed == NOTARY.sign(pem, ["client auth", "digital signature"], seconds=600, now_s=NOW)
    made = x509.load_pem_x509_certificate(signed)
    made.verify_directly_issued_by(AUTHORITY)
    assert [one.value for one in made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [name]
    found = made.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert [one.value for one in found] == organizations
    has_names = bool(asked["dns"] or asked["addresses"])
    oid = x509.SubjectAlternativeName.oid
    assert any(one.oid == oid for one in made.extensions) == has_names
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and not constraints.value.ca


@given(st.integers(600, 400 * 24 * 3600))
def test_it_is_good_for_as_long_as_the_authority_at_most(seconds: int) -> None:
    signed = NOTARY.sign(request_pem("a"), ["client auth"], seconds=seconds, now_s=NOW)
    made = x509.load_pem_x509_certificate(signed)
    assert made.not_valid_before_utc.timestamp() == NOW - 300
    ends = made.not_valid_after_utc.timestamp()
    wanted = NOW + seconds - (300 if seconds >= SHORT_S else 0)
    assert ends == min(wanted, AUTHORITY.not_valid_after_utc.timestamp())
    assert NOTARY.expires_s(signed) == ends


@given(st.lists(st.sampled_from(sorted({*SIGNED_USAGES, *EXTENDED})), min_size=1, unique=True))
def test_what_it_may_be_used_for(usages: list[str]) -> None:
    signed = NOTARY.sign(request_pem("a"), usages, seconds=600, now_s=NOW)
    extensions = x509.load_pem_x509_certificate(signed).extensions
    extended = {EXTENDED[one] for one in usages if one in EXTENDED}
    told = [one.value for one in extensions if one.oid == x509.ExtendedKeyUsage.oid]
    assert {oid.dotted_string for value in told for oid in value} == extended
    assert (EXTENDED["client auth"] in extended) == any(
        ExtendedKeyUsageOID.CLIENT_AUTH in value for value in told
    )
    bits = [one.value for one in extensions if one.oid == x509.KeyUsage.oid]
    assert bool(bits) == any(one in SIGNED_USAGES for one in usages)
    for value in bits:
        signs = {"signing", "digital signature"} & set(usages)
        assert value.digital_signature == bool(signs)
        assert value.key_encipherment == ("key encipherment" in usages)


@pytest.mark.parametrize("pem", [b"", b"no", key_pem(), request_pem("a").replace(b"M", b"N", 1)])
def test_what_is_no_request_is_refused(pem: bytes) -> None:
    with pytest.raises(Unsigned):
        read_request(pem)


def test_a_request_somebody_else_signed_is_refused() -> None:
    one, other = request_pem("a").splitlines(), request_pem("b").splitlines()
    assert len(one) == len(other)
    forged = b"\n".join([*one[:2], *other[2:]])
    with pytest.raises(Unsigned):
        NOTARY.sign(forged, ["client auth"], seconds=600, now_s=NOW)


def test_an_authority_that_has_expired_signs_nothing() -> None:
    with pytest.raises(Unsigned, match="expired"):
        NOTARY.sign(request_pem("a"), ["client auth"], seconds=600, now_s=NOW + 400 * 24 * 3600)


def test_without_a_key_nothing_is_signed() -> None:
    assert NOTARY.signs and not Notary("", "").signs
    assert Notary("", "").expires_s(b"no") is None
