"""What an administrator may set of the controllers; the defaults are Kubernetes' own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Tunables of the controller manager.

    node_grace_s:           a node that is silent for so long is Unknown.
    terminated_pods_max:    finished pods kept before the oldest are deleted.
    load_balancer_cidr:     the addresses that LoadBalancer Services are given; "": they wait.
    authority:              PEM of the cluster's CA, published as kube-root-ca.crt; "" for none.
    authority_key:          PEM of its key, which signs certificates; "": none are signed.
    """

    node_grace_s: float = 50.0
    terminated_pods_max: int = 12_500
    load_balancer_cidr: str = ""
    authority: str = ""
    authority_key: str = ""
