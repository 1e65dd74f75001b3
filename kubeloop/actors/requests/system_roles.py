"""ClusterRoles of the system, and whom they are bound to: those that others build upon.

Discovery for everybody who is known, delegated authentication for API servers of others, signing,
and the add-ons' roles. Roles of Kubernetes' own components are not here: these are actors.

Source: Kubernetes, "Using RBAC Authorization: Default roles and role bindings"; the bootstrap
policy of 1.36 in behaviour.
"""

from typing import Final

Rule = tuple[str, str, str]
"""Verbs, API group, resources; blanks between them."""

_READ: Final = "get list watch"
_EVENTS: Final = "create patch update"
_INFO: Final = "/healthz /livez /readyz /version /version/"
_SIGNERS: Final = (
    "kube-apiserver-client",
    "kube-apiserver-client-kubelet",
    "kubelet-serving",
    "legacy-unknown",
)
_CERTIFICATES: Final = "certificates.k8s.io"

RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "system:auth-delegator": (
        ("create", "authentication.k8s.io", "tokenreviews"),
        ("create", "authorization.k8s.io", "subjectaccessreviews"),
    ),
    "system:basic-user": (
        ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        ("create", "authentication.k8s.io", "selfsubjectreviews"),
    ),
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": (
        ("create", _CERTIFICATES, "certificatesigningrequests/nodeclient"),
    ),
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": (
        ("create", _CERTIFICATES, "certificatesigningrequests/selfnodeclient"),
    ),
    "system:node-bootstrapper": (
        ("create get list watch", _CERTIFICATES, "certificatesigningrequests"),
    ),
    "system:node-problem-detector": (
        ("get", "", "nodes"),
        ("patch", "", "nodes/status"),
        (_EVENTS, "", "events"),
    ),
    "system:persistent-volume-provisioner": (
        ("create delete get list watch", "", "persistentvolumes"),
        ("get list update watch", "", "persistentvolumeclaims"),
        (_READ, "storage.k8s.io", "storageclasses"),
        ("watch", "", "events"),
        (_EVENTS, "", "events"),
    ),
    "system:volume-scheduler": (
        ("get list patch update watch", "", "persistentvolumes"),
        (_READ, "storage.k8s.io", "storageclasses"),
        ("get list patch update watch", "", "persistentvolumeclaims"),
    ),
}
"""Role → what it may do with resources."""

URLS: Final = {
    "system:discovery": "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz"
    " /version /version/",
    "system:monitoring": "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz"
    " /readyz/*",
    "system:public-info-viewer": _INFO,
    "system:service-account-issuer-discovery": "/.well-known/openid-configuration"
    " /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
}
"""Role → which paths that are no resources it may get."""

APPROVERS: Final = {
    f"system:certificates.k8s.io:{signer}-approver": f"kubernetes.io/{signer}"
    for signer in _SIGNERS
}
"""Role → for which signer it may approve."""

BOUND: Final = {
    "system:basic-user": ("system:authenticated",),
    "system:discovery": ("system:authenticated",),
    "system:monitoring": ("system:monitoring",),
    "system:public-info-viewer": ("system:authenticated", "system:unauthenticated"),
    "system:service-account-issuer-discovery": ("system:serviceaccounts",),
}
"""Role → the groups it is bound to, by a binding of its name."""
