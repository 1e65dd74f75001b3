"""The kinds of certificates.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import GET_AND_CHANGE, STATUS, Resource, Subresource

ROWS: Final = (
    Resource(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        "certificatesigningrequest",
        namespaced=False,
        short_names=("csr",),
        subresources=(Subresource("approval", GET_AND_CHANGE), STATUS),
        fields=("spec.signerName",),
    ),
)
