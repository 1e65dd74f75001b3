"""Certificates for one cluster: an authority, and a server's certificate signed by it.

EC P-256, and whoever makes them keeps them. `cryptography` is heavy (80 ms), so it is
imported when the first certificate is made.
"""

import ipaddress
import os
import ssl
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder

_SERIAL_BITS: Final = 159  # As many as a serial number may have, and it is positive.
_VALID: Final = timedelta(days=365)
_SKEW: Final = timedelta(hours=1)  # Clocks differ: valid a little before now.
KUBERNETES_NAMES: Final = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM: what a server presents, what a client checks it with, and what signs for others."""

    authority: bytes
    certificate: bytes
    key: bytes
    authority_key: bytes


def make_certificates(
    names: Sequence[str],
    addresses: Sequence[str],
    *,
    now: float,
    bits: Callable[[int], int],
    by: tuple[bytes, bytes] | None = None,
) -> Certificates:
    """Return a server certificate for these names and IP addresses, and who signed it.

    names: beside those Kubernetes' API server always has.
    now:   seconds since 1970; they are valid for a year from then.
    bits:  n → n random bits that nobody else knows; the same bits give the same certificates.
    by:    PEM of the authority that signs and of its key; None: a new one.
    Cost:  about 1 ms.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    today = datetime.fromtimestamp(now, UTC)
    if by is None:
        authority_key = _fresh_key(bits)
        authority = _authority(authority_key, today, bits(_SERIAL_BITS))
    else:
        authority, authority_key = _loaded(*by)
    key = _fresh_key(bits)
    all_names = list(dict.fromkeys([*KUBERNETES_NAMES, *names]))
    certificate = _server(
        authority, authority_key, key, all_names, addresses, today, bits(_SERIAL_BITS)
    )
    return Certificates(
        authority=authority.public_bytes(Encoding.PEM),
        certificate=certificate.public_bytes(Encoding.PEM),
        key=_pem(key),
        authority_key=_pem(authority_key),
    )


def server_context(certificates: Certificates) -> ssl.SSLContext:
    """Return what a server speaks TLS with.

    Python reads a key from a file only: it is there for as long as that takes.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(prefix="kubeloop-") as file:  # Nobody else may read it.
        file.write(certificates.key + certificates.certificate)
        file.flush()
        context.load_cert_chain(file.name)
    context.set_alpn_protocols(["http/1.1"])
    # Who shows a certificate is known by it; who shows none has a token.
    context.load_verify_locations(cadata=certificates.authority.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read; whoever reads it sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _loaded(authority: bytes, key: bytes) -> "tuple[Certificate, EllipticCurvePrivateKey]":
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = load_pem_private_key(key, None)
    assert isinstance(found, EllipticCurvePrivateKey), "authorities have keys of P-256"
    return x509.load_pem_x509_certificate(authority), found


def _fresh_key(bits: Callable[[int], int]) -> "EllipticCurvePrivateKey":
    """Return a key nobody knows."""
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = ec.SECP256R1()
    return ec.derive_private_key(1 + bits(384) % (curve.group_order - 1), curve)


def _authority(key: "EllipticCurvePrivateKey", now: datetime, serial: int) -> "Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    builder = _builder("kubeloop-ca", "kubeloop-ca", key, now, serial)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return builder.add_extension(identifier, critical=False).sign(
        key, hashes.SHA256(), ecdsa_deterministic=True
    )


def _server(
    authority: "Certificate",
    authority_key: "EllipticCurvePrivateKey",
    key: "EllipticCurvePrivateKey",
    names: Sequence[str],
    addresses: Sequence[str],
    now: datetime,
    serial: int,
) -> "Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    builder = _builder("kube-apiserver", "kubeloop-ca", key, now, serial)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    builder = builder.add_extension(purpose, critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(signer, critical=False)
    return builder.sign(authority_key, hashes.SHA256(), ecdsa_deterministic=True)


def _builder(
    subject: str, issuer: str, key: "EllipticCurvePrivateKey", now: datetime, serial: int
) -> "CertificateBuilder":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    return (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
    )


def _usage(*, signs_certificates: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
