"""Signing requests for tests: keys that are the same in every run, and what is asked for them."""

import base64
import ipaddress
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECRET = 0x5EED
SIGNING_REQUESTS = "certificatesigningrequests.certificates.k8s.io"
NODE_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
CLIENT = "kubernetes.io/kube-apiserver-client"
SERVING = "kubernetes.io/kubelet-serving"


def key_pem() -> bytes:
    """Return the key all requests are about."""
    return _key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def request_pem(
    name: str,
    organizations: Sequence[str] = (),
    *,
    dns: Sequence[str] = (),
    addresses: Sequence[str] = (),
    emails: Sequence[str] = (),
    uris: Sequence[str] = (),
) -> bytes:
    """Return a signing request in PEM."""
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
    if name:
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    names: list[x509.GeneralName] = [x509.DNSName(one) for one in dns]
    names += [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
    names += [x509.RFC822Name(one) for one in emails]
    names += [x509.UniformResourceIdentifier(one) for one in uris]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(_key(), hashes.SHA256(), ecdsa_deterministic=True)
    return made.public_bytes(serialization.Encoding.PEM)


def signing_request(
    name: str, signer: str, usages: Sequence[str], pem: bytes, **spec: Any
) -> dict[str, Any]:
    """Return a CertificateSigningRequest."""
    request = base64.b64encode(pem).decode()
    told = {"signerName": signer, "usages": list(usages), "request": request, **spec}
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    return {**kind, "metadata": {"name": name}, "spec": told}


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(SECRET, ec.SECP256R1())
