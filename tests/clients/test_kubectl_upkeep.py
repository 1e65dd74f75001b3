"""What every cluster has from its start, as kubectl and the official client see it."""

from typing import Any

import pytest
import yaml
from kubectl_tool import Kubectl

from kubeloop.sync import SyncCluster

SCHEMAS = """\
exempt exempt 1 <none>
probes exempt 2 <none>
system-leader-election leader-election 100 ByUser
endpoint-controller workload-high 150 ByUser
workload-leader-election leader-election 200 ByUser
system-node-high node-high 400 ByUser
system-nodes system 500 ByUser
kube-controller-manager workload-high 800 ByNamespace
kube-scheduler workload-high 800 ByNamespace
kube-system-service-accounts workload-high 900 ByNamespace
service-accounts workload-low 9000 ByUser
global-default global-default 9900 ByUser
catch-all catch-all 10000 ByUser
"""
LEVELS = """\
catch-all Limited 5 <none> <none> <none>
exempt Exempt <none> <none> <none> <none>
global-default Limited 20 128 6 50
leader-election Limited 10 16 4 50
node-high Limited 40 64 6 50
system Limited 30 64 6 50
workload-high Limited 40 128 6 50
workload-low Limited 100 128 6 50
"""
THINGS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.upkeep.example"},
    "spec": {
        "group": "upkeep.example",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }
        ],
    },
}


def rows(table: str, width: int) -> set[tuple[str, ...]]:
    return {tuple(line.split()[:width]) for line in table.splitlines()}


def test_flows_and_levels(kubectl: Kubectl) -> None:
    assert rows(SCHEMAS, 4) <= rows(kubectl("get flowschemas --no-headers"), 4)
    assert rows(LEVELS, 6) <= rows(kubectl("get prioritylevelconfigurations --no-headers"), 6)
    assert kubectl("get flowschema exempt --no-headers").split()[-1] == "False"
    told = kubectl("describe flowschema catch-all")
    assert "apf.kubernetes.io/autoupdate-spec: true" in told and "Dangling" in told


def test_api_services_come_and_go_with_definitions(kubectl: Kubectl) -> None:
    listed = kubectl("get apiservices --no-headers")
    assert ("v1.", "Local", "True") in rows(listed, 3)
    assert ("v2.autoscaling", "Local", "True") in rows(listed, 3)
    versions = set(kubectl("api-versions").split()) - {"apiregistration.k8s.io/v1"}
    named = {row[0].partition(".")[::2] for row in rows(listed, 1)}
    served = {f"{group}/{version}" if group else version for version, group in named}
    assert versions <= served | {v for v in versions if ".example" in v}
    kubectl("create -f -", stdin=yaml.safe_dump(THINGS))
    kubectl("wait crd/things.upkeep.example --for=condition=Established --timeout=30s")
    assert "upkeep.example/v1" in kubectl("api-versions").split()
    name = "v1.upkeep.example"
    assert kubectl(f"get apiservice {name} --no-headers").split()[:3] == [name, "Local", "True"]
    assert kubectl.path(f"apiservice/{name}", ".spec.groupPriorityMinimum") == "1000"
    kubectl("delete crd things.upkeep.example")
    assert "NotFound" in kubectl.fails(f"get apiservice {name}")


def test_the_official_client_sees_them(shared_cluster: SyncCluster) -> None:
    official: Any = pytest.importorskip("kubernetes", reason="pip install kubernetes").client
    config = pytest.importorskip("kubernetes").config
    with config.new_client_from_config_dict(shared_cluster.kubeconfig) as api:
        services = official.ApiregistrationV1Api(api).list_api_service().items
        (core,) = [one for one in services if one.metadata.name == "v1."]
        assert core.metadata.labels == {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
        assert (core.spec.group_priority_minimum, core.spec.version_priority) == (18000, 1)
        flows = official.FlowcontrolApiserverV1Api(api)
        exempt = flows.read_priority_level_configuration("exempt")
        assert exempt.spec.type == "Exempt" and exempt.spec.exempt.lendable_percent == 0
        assert len(flows.list_flow_schema().items) >= 13
