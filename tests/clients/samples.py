"""The least valid object of every built-in kind that can be created, by its plural name."""

import base64
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Json = dict[str, Any]

_APP = {"app": "sample"}
_BY_APP = {"matchLabels": _APP}
_POD = {"containers": [{"name": "c", "image": "web:1"}], "terminationGracePeriodSeconds": 0}
_TEMPLATE = {"metadata": {"labels": _APP}, "spec": _POD}
_JOB = {"template": {"spec": {**_POD, "restartPolicy": "Never"}}}
_CEL = {
    "matchConstraints": {
        "resourceRules": [
            {
                "apiGroups": ["sample.example"],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["nothings"],
            }
        ]
    },
}
_HOOKS = {
    "webhooks": [
        {
            "name": "hook.sample.example",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"url": "https://hook.sample.example/"},
        }
    ]
}


def _request() -> str:
    """Return a certificate signing request, as it stands in an object."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sample")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


_ROLE = {"apiGroup": "rbac.authorization.k8s.io", "name": "nobody"}
_RULES = {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
_VOLUME = {
    "spec": {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/srv/files"},
        "storageClassName": "sample",
    }
}
_CLAIM = {
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "sample",
    }
}
_QUEUES = {"queues": 4, "handSize": 2, "queueLengthLimit": 10}
_LIMITED = {
    "type": "Limited",
    "limited": {"limitResponse": {"type": "Queue", "queuing": _QUEUES}},
}

# plural → everything but metadata.name; a name "*" in a value becomes the object's name.
SAMPLES: dict[str, Json] = {
    "configmaps": {"data": {"a": "b"}},
    "secrets": {"stringData": {"a": "b"}},
    "serviceaccounts": {},
    "namespaces": {},
    "nodes": {},
    "endpoints": {"subsets": [{"addresses": [{"ip": "10.9.9.9"}], "ports": [{"port": 80}]}]},
    "limitranges": {"spec": {"limits": [{"type": "Container", "max": {"cpu": "100"}}]}},
    "resourcequotas": {"spec": {"hard": {"count/widgets.sample.example": "1"}}},
    "persistentvolumes": _VOLUME,
    "persistentvolumeclaims": _CLAIM,
    "pods": {"spec": {**_POD, "schedulerName": "nobody"}},
    "podtemplates": {"template": _TEMPLATE},
    "replicationcontrollers": {
        "spec": {"replicas": 0, "selector": _APP, "template": _TEMPLATE},
    },
    "services": {"spec": {"ports": [{"port": 80}], "selector": {"app": "none"}}},
    "daemonsets": {
        "spec": {
            "selector": _BY_APP,
            "template": {**_TEMPLATE, "spec": {**_POD, "nodeSelector": {"no": "node"}}},
        }
    },
    "deployments": {"spec": {"replicas": 0, "selector": _BY_APP, "template": _TEMPLATE}},
    "replicasets": {"spec": {"replicas": 0, "selector": _BY_APP, "template": _TEMPLATE}},
    "statefulsets": {
        "spec": {"replicas": 0, "serviceName": "s", "selector": _BY_APP, "template": _TEMPLATE}
    },
    "controllerrevisions": {"revision": 1, "data": {"a": "b"}},
    "jobs": {"spec": {**_JOB, "suspend": True}},
    "cronjobs": {"spec": {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": _JOB}}},
    "horizontalpodautoscalers": {
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"},
        }
    },
    "poddisruptionbudgets": {"spec": {"minAvailable": 1, "selector": _BY_APP}},
    "ingresses": {
        "spec": {"defaultBackend": {"service": {"name": "none", "port": {"number": 80}}}}
    },
    "ingressclasses": {"spec": {"controller": "sample.example/none"}},
    "networkpolicies": {"spec": {"podSelector": {}}},
    "servicecidrs": {"spec": {"cidrs": ["172.30.0.0/24"]}},
    "ipaddresses": {
        "spec": {
            "parentRef": {
                "group": "",
                "resource": "services",
                "namespace": "default",
                "name": "x",
            }
        }
    },
    "storageclasses": {"provisioner": "sample.example/none"},
    "csidrivers": {"spec": {}},
    "csinodes": {"spec": {"drivers": []}},
    "csistoragecapacities": {"storageClassName": "sample"},
    "volumeattachments": {
        "spec": {
            "attacher": "sample.example",
            "nodeName": "none",
            "source": {"persistentVolumeName": "none"},
        }
    },
    "volumeattributesclasses": {"driverName": "sample.example", "parameters": {"a": "b"}},
    "roles": _RULES,
    "clusterroles": _RULES,
    "rolebindings": {"roleRef": {**_ROLE, "kind": "Role"}, "subjects": []},
    "clusterrolebindings": {"roleRef": {**_ROLE, "kind": "ClusterRole"}, "subjects": []},
    "leases": {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}},
    "endpointslices": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.9.9.9"]}],
        "ports": [{"port": 80, "name": ""}],
    },
    "priorityclasses": {"value": 7},
    "runtimeclasses": {"handler": "sample"},
    "mutatingwebhookconfigurations": _HOOKS,
    "validatingwebhookconfigurations": _HOOKS,
    "validatingadmissionpolicies": {"spec": {**_CEL, "validations": [{"expression": "true"}]}},
    "validatingadmissionpolicybindings": {
        "spec": {"policyName": "none.sample.example", "validationActions": ["Deny"]}
    },
    "mutatingadmissionpolicies": {
        "spec": {
            **_CEL,
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": "Object{}"},
                }
            ],
        }
    },
    "mutatingadmissionpolicybindings": {"spec": {"policyName": "none.sample.example"}},
    "customresourcedefinitions": {
        "spec": {
            "group": "sample.example",
            "scope": "Namespaced",
            "names": {"plural": "*", "kind": "*"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        }
    },
    "apiservices": {
        "spec": {
            "group": "*.sample.example",
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": "default", "name": "none"},
        }
    },
    "flowschemas": {
        "spec": {"priorityLevelConfiguration": {"name": "none"}, "matchingPrecedence": 9000}
    },
    "prioritylevelconfigurations": {"spec": _LIMITED},
    "certificatesigningrequests": {
        "spec": {
            "signerName": "sample.example/none",
            "usages": ["client auth"],
            "request": _request(),
        }
    },
    "clustertrustbundles": {"spec": {"trustBundle": ""}},
    "podcertificaterequests": {
        "spec": {
            "signerName": "sample.example/none",
            "podName": "p",
            "podUID": "u",
            "serviceAccountName": "default",
            "serviceAccountUID": "u",
            "nodeName": "n",
            "nodeUID": "u",
            "pkixPublicKey": "",
            "stubPKCS10Request": "",
            "proofOfPossession": "",
        }
    },
    "tokenreviews": {"spec": {"token": "nobody's"}},
    "selfsubjectreviews": {},
    "selfsubjectrulesreviews": {"spec": {"namespace": "default"}},
    "selfsubjectaccessreviews": {
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}
    },
    "subjectaccessreviews": {
        "spec": {"user": "me", "resourceAttributes": {"verb": "get", "resource": "pods"}}
    },
    "localsubjectaccessreviews": {
        "spec": {
            "user": "me",
            "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "sample"},
        }
    },
}
