"""Nodes and pods for the tests of scheduling, and strategies of them."""

from typing import Any

from hypothesis import strategies as st

ZONE = "topology.kubernetes.io/zone"
CPUS = ("100m", "250m", "500m", "1", "1500m")
MEMORIES = ("64Mi", "200Mi", "1Gi", "1500M")


def node(
    name: str,
    *,
    cpu: str = "2",
    memory: str = "4Gi",
    pods: str = "10",
    labels: dict[str, str] | None = None,
    taints: list[dict[str, str]] | None = None,
    unschedulable: bool = False,
    images: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Return a Node object."""
    spec: dict[str, Any] = {"taints": taints or []}
    if unschedulable:
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels or {}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": pods},
            "images": [{"names": [n], "sizeBytes": size} for n, size in (images or {}).items()],
        },
    }


def container(
    requests: dict[str, str] | None = None,
    *,
    host_ports: tuple[int, ...] = (),
    image: str = "app:1",
    restart: str | None = None,
) -> dict[str, Any]:
    """Return a container."""
    made: dict[str, Any] = {"name": "c", "image": image, "resources": {}}
    if requests:
        made["resources"]["requests"] = requests
    if host_ports:
        made["ports"] = [{"containerPort": p, "hostPort": p} for p in host_ports]
    if restart:
        made["restartPolicy"] = restart
    return made


def pod(
    name: str = "web-0",
    *containers: dict[str, Any],
    owner: str = "",
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """Return a Pod object."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "labels": labels or {},
    }
    if owner:
        metadata["ownerReferences"] = [{"uid": owner, "controller": True, "kind": "ReplicaSet"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": list(containers) or [container()], **spec},
        "status": {"phase": "Pending"},
    }


label_maps = st.fixed_dictionaries(
    {},
    optional={
        "disk": st.sampled_from(["ssd", "hdd"]),
        "rank": st.sampled_from(["1", "5", "9", "x"]),
        ZONE: st.sampled_from(["z1", "z2"]),
    },
)
taint_lists = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["gpu", "old"]),
            "value": st.sampled_from(["", "yes"]),
            "effect": st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        }
    ),
    max_size=2,
)
tolerations = st.lists(
    st.fixed_dictionaries(
        {"operator": st.sampled_from(["Exists", "Equal"])},
        optional={
            "key": st.sampled_from(["gpu", "old", "node.kubernetes.io/unschedulable"]),
            "value": st.sampled_from(["", "yes"]),
            "effect": st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        },
    ),
    max_size=2,
)
expressions = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["disk", "rank", ZONE]),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from(["ssd", "5", "z1"]), min_size=1, max_size=2),
        }
    ),
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["disk", "rank", ZONE]),
            "operator": st.sampled_from(["Exists", "DoesNotExist"]),
        }
    ),
    st.fixed_dictionaries(
        {
            "key": st.just("rank"),
            "operator": st.sampled_from(["Gt", "Lt"]),
            "values": st.just(["4"]),
        }
    ),
)
terms = st.fixed_dictionaries(
    {},
    optional={
        "matchExpressions": st.lists(expressions, min_size=1, max_size=2),
        "matchFields": st.just([{"key": "metadata.name", "operator": "In", "values": ["n0"]}]),
    },
)
affinities = st.fixed_dictionaries(
    {},
    optional={
        "requiredDuringSchedulingIgnoredDuringExecution": st.fixed_dictionaries(
            {"nodeSelectorTerms": st.lists(terms, min_size=1, max_size=2)}
        ),
        "preferredDuringSchedulingIgnoredDuringExecution": st.lists(
            st.fixed_dictionaries({"weight": st.integers(1, 100), "preference": terms}), max_size=2
        ),
    },
)
requests = st.fixed_dictionaries(
    {}, optional={"cpu": st.sampled_from(CPUS), "memory": st.sampled_from(MEMORIES)}
)
containers = st.builds(
    container,
    requests,
    host_ports=st.sampled_from([(), (), (80,), (80, 81)]),
    image=st.sampled_from(["app:1", "big:1", "other"]),
)


def node_objects(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of nodes called `name`."""
    return st.builds(
        node,
        st.just(name),
        cpu=st.sampled_from(["500m", "2", "4"]),
        memory=st.sampled_from(["1Gi", "4Gi"]),
        pods=st.sampled_from(["1", "3", "10"]),
        labels=label_maps,
        taints=taint_lists,
        unschedulable=st.sampled_from([False, False, True]),
        images=st.dictionaries(
            st.sampled_from(["app:1", "big:1", "other:latest"]),
            st.integers(1, 3_000_000_000),
            max_size=2,
        ),
    )


def pod_objects(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of pods called `name`."""

    def build(
        many: list[dict[str, Any]], inits: list[dict[str, Any]], spec: dict[str, Any], owner: str
    ) -> dict[str, Any]:
        return pod(name, *many, owner=owner, initContainers=inits, **spec)

    return st.builds(
        build,
        st.lists(containers, min_size=1, max_size=2),
        st.lists(st.builds(container, requests, restart=st.sampled_from([None, "Always"])),
                 max_size=2),
        st.fixed_dictionaries(
            {},
            optional={
                "tolerations": tolerations,
                "nodeSelector": label_maps,
                "affinity": st.fixed_dictionaries({"nodeAffinity": affinities}),
                "overhead": st.just({"cpu": "50m"}),
            },
        ),
        st.sampled_from(["", "", "rs-1", "rs-2"]),
    )  # fmt: skip
