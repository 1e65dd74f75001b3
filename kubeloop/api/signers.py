"""Signers of certificates.k8s.io: what each of Kubernetes' own signs, and for how long. Pure.

What stands in a request is read elsewhere (`actors/notary.py`) and comes here as a `Wish`.

Source: Kubernetes, "Certificates and Certificate Signing Requests: Signers"; in behaviour
kube-controller-manager's certificates controllers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

CLIENT: Final = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT: Final = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING: Final = "kubernetes.io/kubelet-serving"
LEGACY: Final = "kubernetes.io/legacy-unknown"
SIGNERS: Final = (CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY)

LONGEST_S: Final = 365 * 24 * 3600  # --cluster-signing-duration.
SHORTEST_S: Final = 600
BACKDATED_S: Final = 300
SHORT_S: Final = 8 * 3600  # What is good for less does not end earlier for being backdated.

NODES: Final = "system:nodes"
_NODE: Final = "system:node:"
_DIGITAL: Final = "digital signature"
_ENCIPHER: Final = "key encipherment"
_CLIENT_AUTH: Final = "client auth"
_SERVER_AUTH: Final = "server auth"

SIGNED_USAGES: Final[Mapping[str, str]] = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
"""Usage → bit of a certificate's key usage, as RFC 5280 has them."""

EXTENDED: Final[Mapping[str, str]] = {
    "any": "2.5.29.37.0",
    "server auth": "1.3.6.1.5.5.7.3.1",
    "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}
"""Usage → object identifier of an extended key usage."""


class Unsigned(ValueError):
    """A request that cannot be read, or not be signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """For whom a certificate is asked."""

    common_name: str = ""
    organizations: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()


def why_not(signer: str, wish: Wish, usages: Sequence[str]) -> str:
    """Return why a signer refuses to sign, "" if it does not. signer: one of SIGNERS."""
    match signer:
        case "kubernetes.io/kubelet-serving":
            return _kubelet_serving(wish, usages)
        case "kubernetes.io/kube-apiserver-client-kubelet":
            return kubelet_client(wish, usages)
        case "kubernetes.io/kube-apiserver-client":
            return _client(usages)
    return ""  # Of the legacy signer nothing was ever required.


def kubelet_client(wish: Wish, usages: Sequence[str]) -> str:
    """Return why a certificate is none by which a kubelet may call the API server, "" if it is."""
    if wish.organizations != (NODES,):
        return f"subject organization is not {NODES}"
    if wish.dns_names:
        return "DNS subjectAltNames are not allowed"
    if wish.emails:
        return "Email subjectAltNames are not allowed"
    if wish.addresses:
        return "IP subjectAltNames are not allowed"
    if wish.uris:
        return "URI subjectAltNames are not allowed"
    if not wish.common_name.startswith(_NODE):
        return f"subject common name does not begin with {_NODE}"
    return _exactly(usages, _CLIENT_AUTH)


def seconds_of(wanted: int | None) -> int:
    """Return how long a certificate is good for. wanted: the request's expirationSeconds."""
    return LONGEST_S if wanted is None else min(max(wanted, SHORTEST_S), LONGEST_S)


def _kubelet_serving(wish: Wish, usages: Sequence[str]) -> str:
    if wish.organizations != (NODES,):
        return f"subject organization is not {NODES}"
    if not wish.dns_names and not wish.addresses:
        return "DNS or IP subjectAltName is required"
    if wish.emails:
        return "Email subjectAltNames are not allowed"
    if wish.uris:
        return "URI subjectAltNames are not allowed"
    if why := _exactly(usages, _SERVER_AUTH):
        return why
    if not wish.common_name.startswith(_NODE):
        return f"subject common name does not begin with {_NODE}"
    return ""


def _client(usages: Sequence[str]) -> str:
    for usage in usages:
        if usage not in (_DIGITAL, _ENCIPHER, _CLIENT_AUTH):
            return f"invalid usage for client certificate: {usage}"
    if _CLIENT_AUTH not in usages:
        return f"missing required usage for client certificate: {_CLIENT_AUTH}"
    return ""


def _exactly(usages: Sequence[str], auth: str) -> str:
    """Return why usages are not those of a kubelet, "" if they are."""
    wanted = {_DIGITAL, _ENCIPHER, auth}
    if set(usages) in (wanted, wanted - {_ENCIPHER}):
        return ""
    return f"usages did not match [{' '.join(sorted(wanted))}]"
