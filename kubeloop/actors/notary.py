"""The notary: reads what is asked for in PEM, and signs it. The only controllers' way to X.509.

What it signs follows from what it is given: the key, the request, the time. So the same seed gives
the same certificates. `cryptography` is heavy (80 ms), so it is imported when it is needed.

Source: RFC 2986, RFC 5280; kube-controller-manager's certificate authority in behaviour.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from kubeloop.api.signers import (
    BACKDATED_S,
    EXTENDED,
    SHORT_S,
    SIGNED_USAGES,
    Unsigned,
    Wish,
)

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_SERIAL_BYTES: Final = 19  # So a serial number is positive, and has at most 20 bytes.


def read_request(pem: bytes) -> Wish:
    """Return what a signing request asks for. Raises: Unsigned if it cannot be read."""
    return _wish(_request(pem))


def expires_s(pem: bytes) -> float | None:
    """Return when a certificate expires [s since 1970]; None if it cannot be read."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    except ValueError:
        return None


class Notary:
    """Signs with the key of an authority, if it was told one.

    authority, key: PEM; both "" if there is none.
    """

    def __init__(self, authority: str, key: str) -> None:
        self._authority, self._key = authority, key

    @property
    def signs(self) -> bool:
        """Whether there is a key to sign with."""
        return bool(self._key)

    def read(self, pem: bytes) -> Wish:
        """Return what a signing request asks for. Raises: Unsigned if it cannot be read."""
        return read_request(pem)

    def expires_s(self, pem: bytes) -> float | None:
        """Return when a certificate expires [s since 1970]; None if it cannot be read."""
        return expires_s(pem)

    def sign(self, pem: bytes, usages: Sequence[str], *, seconds: int, now_s: float) -> bytes:
        """Return a certificate as a request wants it, in PEM. Raises: Unsigned.

        seconds: how long it is good for;  now_s: seconds since 1970.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding

        request = _request(pem)
        authority = x509.load_pem_x509_certificate(self._authority.encode())
        key = self._loaded()
        begins, ends = _validity(seconds, now_s, authority.not_valid_after_utc)
        mark = f"{now_s!r}|{seconds}|".encode() + pem
        serial = int.from_bytes(hashlib.sha256(mark).digest()[:_SERIAL_BYTES], "big") or 1
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(authority.subject)
            .public_key(request.public_key())
            .serial_number(serial)
            .not_valid_before(begins)
            .not_valid_after(ends)
        )
        builder = _with_usages(builder, usages)
        constraints = x509.BasicConstraints(ca=False, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        names = _alternatives(request)
        if names is not None:
            builder = builder.add_extension(names.value, critical=names.critical)
        made = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
        return made.public_bytes(Encoding.PEM)

    def _loaded(self) -> "EllipticCurvePrivateKey":
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(self._key.encode(), None)
        assert isinstance(key, EllipticCurvePrivateKey), "authorities have keys of P-256"
        return key


def _request(pem: bytes) -> "x509.CertificateSigningRequest":
    """Return a request whose signature is right. Raises: Unsigned."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        request = x509.load_pem_x509_csr(pem)
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unsigned(str(error)) from error
    if not valid:
        raise Unsigned("unable to verify certificate request signature: it does not match")
    return request


def _wish(request: "x509.CertificateSigningRequest") -> Wish:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    organizations = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    found = _alternatives(request)
    value = x509.SubjectAlternativeName([]) if found is None else found.value
    return Wish(
        common_name=str(names[-1].value) if names else "",
        organizations=tuple(str(one.value) for one in organizations),
        dns_names=tuple(value.get_values_for_type(x509.DNSName)),
        addresses=tuple(str(one) for one in value.get_values_for_type(x509.IPAddress)),
        emails=tuple(value.get_values_for_type(x509.RFC822Name)),
        uris=tuple(value.get_values_for_type(x509.UniformResourceIdentifier)),
    )


def _alternatives(
    request: "x509.CertificateSigningRequest",
) -> "x509.Extension[x509.SubjectAlternativeName] | None":
    """Return the other names a request asks for. Raises: Unsigned."""
    from cryptography import x509

    try:
        return request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return None
    except ValueError as error:
        raise Unsigned(str(error)) from error


def _validity(seconds: int, now_s: float, authority_ends: datetime) -> tuple[datetime, datetime]:
    """Return from when to when a certificate is valid. Raises: Unsigned."""
    now, backdated = datetime.fromtimestamp(int(now_s), UTC), timedelta(seconds=BACKDATED_S)
    ends = now + timedelta(seconds=seconds)
    if seconds >= SHORT_S:
        ends -= backdated
    if now >= authority_ends:
        raise Unsigned(f"refusing to sign a certificate that expired in the past: {authority_ends}")
    return now - backdated, min(ends, authority_ends)


def _with_usages(
    builder: "x509.CertificateBuilder", usages: Sequence[str]
) -> "x509.CertificateBuilder":
    """Return a builder with what a certificate may be used for."""
    from cryptography import x509

    wanted = {SIGNED_USAGES[usage] for usage in usages if usage in SIGNED_USAGES}
    names = sorted({*SIGNED_USAGES.values(), "encipher_only", "decipher_only"})
    if wanted:
        flags = {name: name in wanted for name in names}
        if not flags["key_agreement"]:  # X.509 knows these two beside it only.
            flags["encipher_only"] = flags["decipher_only"] = False
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    extended = [x509.ObjectIdentifier(EXTENDED[u]) for u in usages if u in EXTENDED]
    if extended:
        purposes = x509.ExtendedKeyUsage(list(dict.fromkeys(extended)))
        builder = builder.add_extension(purposes, critical=False)
    return builder
