"""The kinds of admissionregistration.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import STATUS, Resource

ROWS: Final = (
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        "mutatingwebhookconfiguration",
        namespaced=False,
        categories=("api-extensions",),
    ),
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        "validatingwebhookconfiguration",
        namespaced=False,
        categories=("api-extensions",),
    ),
    *(
        Resource(
            "admissionregistration.k8s.io",
            "v1",
            kind,
            plural,
            kind.lower(),
            namespaced=False,
            categories=("api-extensions",),
            subresources=subresources,
        )
        for kind, plural, subresources in (
            ("MutatingAdmissionPolicy", "mutatingadmissionpolicies", ()),
            ("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", ()),
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", (STATUS,)),
            ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", ()),
        )
    ),
)
