"""Cases of server-side apply: what is done, step by step, and who manages what in the end.

Source: Kubernetes, "Server-Side Apply", and the test suites of structured-merge-diff, in behaviour.
"""

from dataclasses import dataclass, field
from typing import Any

Fragment = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One write.

    how:  apply, force (an apply, too), merge (a merge patch), create.
    code: what it is met with, if that is not success.
    """

    how: str
    manager: str
    body: Fragment
    code: int = 0
    subresource: str = ""


@dataclass(frozen=True)
class Case:
    """A case.

    kind:     which object of `KINDS` it is about.
    managers: who manages what in the end: "m1" applied, "m1/Update" wrote otherwise,
              "m1/Update/status" did so through a subresource; fields as conflicts name them.
    has:      what the object has in the end, by path; None for what it must not have.
    told:     what the last step is told, if it is refused.
    """

    name: str
    kind: str
    steps: tuple[Step, ...]
    managers: dict[str, str] = field(default_factory=dict)
    has: dict[str, Any] = field(default_factory=dict)
    told: str = ""


def apply(manager: str, code: int = 0, /, **body: Any) -> Step:
    return Step("apply", manager, body, code)


def force(manager: str, /, **body: Any) -> Step:
    return Step("force", manager, body)


def merge(manager: str, /, subresource: str = "", **body: Any) -> Step:
    return Step("merge", manager, body, subresource=subresource)


def create(manager: str, /, **body: Any) -> Step:
    return Step("create", manager, body)


def spec(**fields: Any) -> Fragment:
    return {"spec": fields}


def template(*containers: Fragment, **more: Any) -> Fragment:
    """Return the parts of a Deployment that have to be there, with its containers."""
    return {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [*containers], **more},
        },
    }


def container(name: str = "c", **more: Any) -> Fragment:
    return {"name": name, "image": "i", **more}


_MADE = ".spec.selector .spec.template.metadata.labels.app "
_C = '.spec.template.spec.containers[name="c"]'
_D = '.spec.template.spec.containers[name="d"]'
_BASE = f"{_MADE}{_C} {_C}.image {_C}.name"

MAPS = (
    Case(
        "an applier manages what he names",
        "ConfigMap",
        (apply("m1", data={"a": "1", "b": "2"}),),
        {"m1": ".data.a .data.b"},
    ),
    Case(
        "who creates by another way manages the map, too",
        "ConfigMap",
        (create("m1", data={"a": "1"}),),
        {"m1/Update": ".data .data.a"},
    ),
    Case(
        "equal values are shared",
        "ConfigMap",
        (apply("m1", data={"a": "1"}), apply("m2", data={"a": "1"})),
        {"m1": ".data.a", "m2": ".data.a"},
    ),
    Case(
        "other values conflict",
        "ConfigMap",
        (apply("m1", data={"a": "1"}), apply("m2", 409, data={"a": "2"})),
        {"m1": ".data.a"},
        {"data.a": "1"},
        told='Apply failed with 1 conflict: conflict with "m1": .data.a',
    ),
    Case(
        "several conflicts are told by manager",
        "ConfigMap",
        (
            apply("m1", data={"a": "1", "b": "1"}),
            apply("m2", data={"c": "1"}),
            apply("m3", 409, data={"a": "2", "b": "2", "c": "2"}),
        ),
        told='Apply failed with 3 conflicts: conflicts with "m1":\n- .data.a\n- .data.b\n'
        'conflicts with "m2":\n- .data.c',
    ),
    Case(
        "force takes what others manage",
        "ConfigMap",
        (apply("m1", data={"a": "1", "b": "1"}), force("m2", data={"a": "2"})),
        {"m1": ".data.b", "m2": ".data.a"},
        {"data.a": "2", "data.b": "1"},
    ),
    Case(
        "who loses all that he managed is no manager",
        "ConfigMap",
        (apply("m1", data={"a": "1"}), force("m2", data={"a": "2"})),
        {"m2": ".data.a"},
    ),
    Case(
        "what its only manager gives up goes",
        "ConfigMap",
        (apply("m1", data={"a": "1", "b": "1"}), apply("m1", data={"a": "1"})),
        {"m1": ".data.a"},
        {"data.a": "1", "data.b": None},
    ),
    Case(
        "what another manages as well stays",
        "ConfigMap",
        (apply("m1", data={"a": "1"}), apply("m2", data={"a": "1"}), apply("m1")),
        {"m2": ".data.a"},
        {"data.a": "1"},
    ),
    Case(
        "what both give up goes",
        "ConfigMap",
        (apply("m1", data={"a": "1"}), apply("m2", data={"a": "1"}), apply("m1"), apply("m2")),
        {},
        {"data": None},
    ),
    Case(
        "an empty map is managed itself",
        "ConfigMap",
        (apply("m1", data={}),),
        {"m1": ".data"},
    ),
    Case(
        "an update takes what it changes",
        "ConfigMap",
        (apply("m1", data={"a": "1", "b": "1"}), merge("ed", data={"a": "2"})),
        {"m1": ".data.b", "ed/Update": ".data.a"},
    ),
    Case(
        "an update that changes nothing takes nothing",
        "ConfigMap",
        (apply("m1", data={"a": "1"}), merge("ed", data={"a": "1"})),
        {"m1": ".data.a"},
    ),
    Case(
        "an update that removes takes nothing, and nobody manages what is gone",
        "ConfigMap",
        (apply("m1", data={"a": "1", "b": "1"}), merge("ed", data={"a": None})),
        {"m1": ".data.b"},
        {"data.a": None},
    ),
    Case(
        "an applier conflicts with an update, which is told with its version",
        "ConfigMap",
        (create("ed", data={"a": "1"}), apply("m1", 409, data={"a": "2"})),
        told='Apply failed with 1 conflict: conflict with "ed" using v1: .data.a',
    ),
    Case(
        "what an update made stays when an applier gives it up",
        "ConfigMap",
        (create("ed", data={"a": "1"}), apply("m1", data={"a": "1"}), apply("m1")),
        {"ed/Update": ".data .data.a"},
        {"data.a": "1"},
    ),
    Case(
        "the same name is two managers, by apply and by update",
        "ConfigMap",
        (create("m1", data={"a": "1"}), force("m1", data={"a": "2"})),
        {"m1": ".data.a", "m1/Update": ".data"},
    ),
    Case(
        "an applier takes back what he named before",
        "ConfigMap",
        (
            apply("m1", data={"a": "1"}),
            merge("ed", data={"a": "2"}),
            force("m1", data={"a": "1"}),
        ),
        {"m1": ".data.a"},
        {"data.a": "1"},
    ),
    Case(
        "what an update took from an applier stays when he gives it up",
        "ConfigMap",
        (apply("m1", data={"a": "1"}), merge("ed", data={"a": "2"}), apply("m1")),
        {"ed/Update": ".data.a"},
        {"data.a": "2"},
    ),
    Case(
        "labels and annotations are maps",
        "ConfigMap",
        (
            apply("m1", metadata={"labels": {"a": "1"}, "annotations": {"x.io/y": "1"}}),
            apply("m2", metadata={"labels": {"b": "1"}}),
        ),
        {"m1": ".metadata.annotations.x.io/y .metadata.labels.a", "m2": ".metadata.labels.b"},
        {"metadata.labels": {"a": "1", "b": "1"}},
    ),
    Case(
        "names and what the system writes are nobody's",
        "ConfigMap",
        (apply("m1", metadata={"labels": {"a": "1"}}), apply("m1", data={"a": "1"})),
        {"m1": ".data.a"},
        {"metadata.labels": None},
    ),
    Case(
        "two keys of one map have two managers after an update",
        "ConfigMap",
        (create("a", data={"a": "1"}), merge("b", data={"b": "1"})),
        {"a/Update": ".data .data.a", "b/Update": ".data.b"},
    ),
    Case(
        "a map whose last key goes is gone itself",
        "ConfigMap",
        (create("a", data={"a": "1"}), merge("b", data=None)),
        {},
        {"data": None},
    ),
    Case(
        "managedFields that are emptied are forgotten, and stay so",
        "ConfigMap",
        (
            create("a", data={"a": "1"}),
            merge("b", metadata={"managedFields": [{}]}),
            merge("c", data={"a": "2"}),
        ),
        {},
    ),
    Case(
        "an apply after that finds a manager from before",
        "ConfigMap",
        (
            create("a", data={"a": "1"}),
            merge("b", metadata={"managedFields": [{}]}),
            apply("m1", data={"b": "2"}),
        ),
        {"m1": ".data.b", "before-first-apply/Update": ".data .data.a"},
    ),
    Case(
        "a list that is empty does not make them forgotten",
        "ConfigMap",
        (create("a", data={"a": "1"}), merge("b", metadata={"managedFields": []})),
        {"a/Update": ".data .data.a"},
    ),
    Case(
        "an applier must not tell managers",
        "ConfigMap",
        (apply("m1", 400, metadata={"managedFields": []}),),
        told="metadata.managedFields must be nil",
    ),
    Case(
        "an applier must not apply what is not declared",
        "ConfigMap",
        (apply("m1", 400, dota={"a": "1"}),),
        told="failed to create typed patch object (default/x; v1, Kind=ConfigMap): "
        ".dota: field not declared in schema",
    ),
    Case(
        "a stale version is a conflict of another kind",
        "ConfigMap",
        (apply("m1", data={"a": "1"}), apply("m1", 409, metadata={"resourceVersion": "1"})),
        told='Operation cannot be fulfilled on configmaps "x": the object has been modified; '
        "please apply your changes to the latest version and try again",
    ),
    Case(
        "what was never there has no version",
        "ConfigMap",
        (apply("m1", 500, metadata={"resourceVersion": "1"}),),
        told="resourceVersion should not be set on objects to be created",
    ),
    Case(
        "a uid that was never there",
        "ConfigMap",
        (apply("m1", 409, metadata={"uid": "u"}),),
        told='Operation cannot be fulfilled on configmaps "x": uid mismatch: the provided object '
        "specified uid u, and no existing object was found",
    ),
    Case(
        "the bytes of a Secret are keys of a map",
        "Secret",
        (apply("m1", data={"a": "YQ=="}), apply("m2", data={"b": "Yg=="})),
        {"m1": ".data.a", "m2": ".data.b"},
    ),
    Case(
        "the way from kubectl's client-side apply is without conflicts",
        "ConfigMap",
        (
            create(
                "kubectl-client-side-apply",
                metadata={
                    "annotations": {
                        "kubectl.kubernetes.io/last-applied-configuration": '{"apiVersion":"v1",'
                        '"kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"1"}}'
                    }
                },
                data={"a": "1"},
            ),
            apply("kubectl", data={"a": "2"}),
        ),
        {
            "kubectl": ".data.a",
            "kubectl-client-side-apply/Update": ".data .metadata.annotations "
            ".metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
        },
        {
            "data.a": "2",
            "metadata.annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": '{"apiVersion":"v1",'
                '"data":{"a":"2"},"kind":"ConfigMap","metadata":{"name":"x"}}\n'
            },
        },
    ),
    Case(
        "but what others changed since still conflicts",
        "ConfigMap",
        (
            create(
                "kubectl-client-side-apply",
                metadata={
                    "annotations": {
                        "kubectl.kubernetes.io/last-applied-configuration": '{"apiVersion":"v1",'
                        '"kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"1"}}'
                    }
                },
                data={"a": "1"},
            ),
            merge("ed", data={"a": "3"}),
            apply("kubectl", 409, data={"a": "2"}),
        ),
        told='Apply failed with 1 conflict: conflict with "ed" using v1: .data.a',
    ),
)

LISTS = (
    Case(
        "the parts of a Deployment",
        "Deployment",
        (apply("m1", **spec(replicas=2, **template(container()))),),
        {"m1": f".spec.replicas {_BASE}"},
        {"spec.replicas": 2, "spec.strategy.type": "RollingUpdate"},
    ),
    Case(
        "defaults are nobody's, until they are named",
        "Deployment",
        (
            apply("m1", **spec(**template(container()))),
            apply("m2", **spec(replicas=1)),
        ),
        {"m1": _BASE, "m2": ".spec.replicas"},
    ),
    Case(
        "a default that is named is no conflict for who names another",
        "Deployment",
        (apply("m1", **spec(**template(container()))), apply("m2", **spec(replicas=7))),
        {"m1": _BASE, "m2": ".spec.replicas"},
        {"spec.replicas": 7},
    ),
    Case(
        "a replica count that is given up is a default again",
        "Deployment",
        (
            apply("m1", **spec(replicas=5, **template(container()))),
            apply("m1", **spec(**template(container()))),
        ),
        {"m1": _BASE},
        {"spec.replicas": 1},
    ),
    Case(
        "scaling takes the replicas, without a time",
        "Deployment",
        (
            apply("m1", **spec(replicas=5, **template(container()))),
            merge("hpa", "scale", **spec(replicas=9)),
        ),
        {"m1": _BASE, "hpa/Update/scale": ".spec.replicas"},
        {"spec.replicas": 9},
    ),
    Case(
        "and an applier conflicts with it",
        "Deployment",
        (
            apply("m1", **spec(replicas=5, **template(container()))),
            merge("hpa", "scale", **spec(replicas=9)),
            apply("m1", 409, **spec(replicas=5, **template(container()))),
        ),
        told='Apply failed with 1 conflict: conflict with "hpa" with subresource "scale" using '
        "apps/v1: .spec.replicas",
    ),
    Case(
        "two appliers, two containers",
        "Deployment",
        (
            apply("m1", **spec(**template(container()))),
            apply("m2", **spec(template={"spec": {"containers": [container("d")]}})),
        ),
        {"m1": _BASE, "m2": f"{_D} {_D}.image {_D}.name"},
        {"names": ["c", "d"]},
    ),
    Case(
        "a container that is given up goes whole, with its defaults",
        "Deployment",
        (
            apply("m1", **spec(**template(container(), container("d", tty=True)))),
            apply("m1", **spec(**template(container()))),
        ),
        {"m1": _BASE},
        {"names": ["c"]},
    ),
    Case(
        "a container in which another manages a field stays, with that field",
        "Deployment",
        (
            apply("m1", **spec(**template(container(), container("d", tty=True)))),
            apply("m2", **spec(template={"spec": {"containers": [container("d")]}})),
            apply("m1", **spec(**template(container()))),
        ),
        {"m1": _BASE, "m2": f"{_D} {_D}.image {_D}.name"},
        {"names": ["c", "d"], "ttys": [None, None]},
    ),
    Case(
        "the order is the applier's, for what he names",
        "Deployment",
        (
            apply("m1", **spec(**template(container("c"), container("d")))),
            apply("m1", **spec(**template(container("d"), container("c")))),
        ),
        {},
        {"names": ["d", "c"]},
    ),
    Case(
        "what he does not name keeps its place",
        "Deployment",
        (
            apply("m1", **spec(**template(container("c"), container("d")))),
            apply("m2", **spec(template={"spec": {"containers": [container("e")]}})),
            apply("m1", **spec(**template(container("f"), container("c"), container("d")))),
        ),
        {},
        {"names": ["f", "c", "d", "e"]},
    ),
    Case(
        "variables of a container by name",
        "Deployment",
        (
            apply("m1", **spec(**template(container(env=[{"name": "A", "value": "1"}])))),
            apply(
                "m2",
                **spec(
                    template={
                        "spec": {
                            "containers": [{"name": "c", "env": [{"name": "B", "value": "2"}]}]
                        }
                    }
                ),
            ),
        ),
        {
            "m1": f'{_BASE} {_C}.env[name="A"] {_C}.env[name="A"].name {_C}.env[name="A"].value',
            "m2": f'{_C} {_C}.env[name="B"] {_C}.env[name="B"].name {_C}.env[name="B"].value '
            f"{_C}.name",
        },
    ),
    Case(
        "a port's protocol is a part of its name, if it is not told, too",
        "Deployment",
        (apply("m1", **spec(**template(container(ports=[{"containerPort": 80}])))),),
        {
            "m1": f'{_BASE} {_C}.ports[containerPort=80,protocol="TCP"] '
            f'{_C}.ports[containerPort=80,protocol="TCP"].containerPort'
        },
    ),
    Case(
        "two ports of one number differ by protocol",
        "Deployment",
        (
            apply(
                "m1",
                **spec(
                    **template(
                        container(
                            ports=[
                                {"containerPort": 53},
                                {"containerPort": 53, "protocol": "UDP"},
                            ]
                        )
                    )
                ),
            ),
        ),
        {
            "m1": f'{_BASE} {_C}.ports[containerPort=53,protocol="TCP"] '
            f'{_C}.ports[containerPort=53,protocol="TCP"].containerPort '
            f'{_C}.ports[containerPort=53,protocol="UDP"] '
            f'{_C}.ports[containerPort=53,protocol="UDP"].containerPort '
            f'{_C}.ports[containerPort=53,protocol="UDP"].protocol'
        },
    ),
    Case(
        "elements named twice are refused",
        "Deployment",
        (apply("m1", 400, **spec(**template(container(), container()))),),
        told="failed to create typed patch object (default/x; apps/v1, Kind=Deployment): "
        '.spec.template.spec.containers: duplicate entries for key [name="c"]',
    ),
    Case(
        "commands are replaced whole",
        "Deployment",
        (
            apply("m1", **spec(**template(container(command=["a", "b"])))),
            apply(
                "m2",
                409,
                **spec(template={"spec": {"containers": [{"name": "c", "command": ["a"]}]}}),
            ),
        ),
        told=f'Apply failed with 1 conflict: conflict with "m1": {_C}.command',
    ),
    Case(
        "selectors are replaced whole",
        "Deployment",
        (
            apply("m1", **spec(**template(container()))),
            apply("m2", 409, **spec(selector={"matchLabels": {"app": "y"}})),
        ),
        told='Apply failed with 1 conflict: conflict with "m1": .spec.selector',
    ),
    Case(
        "tolerations are replaced whole",
        "Deployment",
        (apply("m1", **spec(**template(container(), tolerations=[{"operator": "Exists"}]))),),
        {"m1": f"{_BASE} .spec.template.spec.tolerations"},
    ),
    Case(
        "resources key by key",
        "Deployment",
        (
            apply("m1", **spec(**template(container(resources={"limits": {"cpu": "1"}})))),
            apply(
                "m2",
                **spec(
                    template={
                        "spec": {
                            "containers": [
                                {"name": "c", "resources": {"limits": {"memory": "1Gi"}}}
                            ]
                        }
                    }
                ),
            ),
        ),
        {
            "m1": f"{_BASE} {_C}.resources.limits.cpu",
            "m2": f"{_C} {_C}.name {_C}.resources.limits.memory",
        },
    ),
    Case(
        "a volume's source that changes takes the old one along",
        "Deployment",
        (
            apply("m1", **spec(**template(container(), volumes=[{"name": "v", "emptyDir": {}}]))),
            apply(
                "m1",
                **spec(
                    **template(container(), volumes=[{"name": "v", "configMap": {"name": "q"}}])
                ),
            ),
        ),
        {
            "m1": f'{_BASE} .spec.template.spec.volumes[name="v"] '
            '.spec.template.spec.volumes[name="v"].configMap.name '
            '.spec.template.spec.volumes[name="v"].name'
        },
        {"sources": [["configMap", "name"]]},
    ),
    Case(
        "the status is not changed through the spec, and not managed",
        "Deployment",
        (apply("m1", **spec(**template(container())), status={"replicas": 7}),),
        {"m1": _BASE},
        {"status.replicas": None},
    ),
    Case(
        "nor the spec through the status",
        "Deployment",
        (
            apply("m1", **spec(**template(container()))),
            Step("apply", "m2", {"spec": {"replicas": 9}, "status": {"replicas": 7}}, 0, "status"),
        ),
        {"m1": _BASE, "m2/Apply/status": ".status.replicas"},
        {"spec.replicas": 1, "status.replicas": 7},
    ),
    Case(
        "the ports of a Service by port and protocol",
        "Service",
        (
            apply("m1", **spec(ports=[{"port": 80, "name": "a"}])),
            apply("m2", **spec(ports=[{"port": 81, "name": "b"}])),
        ),
        {
            "m1": '.spec.ports[port=80,protocol="TCP"] .spec.ports[port=80,protocol="TCP"].name '
            '.spec.ports[port=80,protocol="TCP"].port',
            "m2": '.spec.ports[port=81,protocol="TCP"] .spec.ports[port=81,protocol="TCP"].name '
            '.spec.ports[port=81,protocol="TCP"].port',
        },
    ),
    Case(
        "a Service's selector is replaced whole",
        "Service",
        (
            apply("m1", **spec(ports=[{"port": 80}], selector={"a": "1"})),
            apply("m2", 409, **spec(selector={"b": "1"})),
        ),
        told='Apply failed with 1 conflict: conflict with "m1": .spec.selector',
    ),
    Case(
        "what is allotted to a Service is nobody's",
        "Service",
        (create("ed", **spec(ports=[{"port": 80}])),),
        {
            "ed/Update": ".spec.internalTrafficPolicy .spec.ports "
            '.spec.ports[port=80,protocol="TCP"] .spec.ports[port=80,protocol="TCP"].port '
            '.spec.ports[port=80,protocol="TCP"].protocol '
            '.spec.ports[port=80,protocol="TCP"].targetPort .spec.sessionAffinity .spec.type'
        },
    ),
    Case(
        "finalizers are a set",
        "ConfigMap",
        (
            apply("m1", metadata={"finalizers": ["x.io/a"]}),
            apply("m2", metadata={"finalizers": ["x.io/b"]}),
        ),
        {"m1": '.metadata.finalizers[="x.io/a"]', "m2": '.metadata.finalizers[="x.io/b"]'},
        {"metadata.finalizers": ["x.io/a", "x.io/b"]},
    ),
    Case(
        "each gives up his own",
        "ConfigMap",
        (
            apply("m1", metadata={"finalizers": ["x.io/a"]}),
            apply("m2", metadata={"finalizers": ["x.io/b"]}),
            apply("m1"),
        ),
        {"m2": '.metadata.finalizers[="x.io/b"]'},
        {"metadata.finalizers": ["x.io/b"]},
    ),
    Case(
        "owners by uid, each whole",
        "ConfigMap",
        (
            apply(
                "m1",
                metadata={
                    "ownerReferences": [
                        {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
                    ]
                },
            ),
        ),
        {"m1": '.metadata.ownerReferences[uid="u"]'},
    ),
)

CUSTOM = (
    Case(
        "who creates a custom object manages its parts, too",
        "Thing",
        (create("ed", **spec(a="1")),),
        {"ed/Update": ".spec .spec.a .spec.size"},
    ),
    Case(
        "an applier does not",
        "Thing",
        (apply("m1", **spec(a="1")),),
        {"m1": ".spec.a"},
    ),
    Case(
        "a list with keys",
        "Thing",
        (
            apply("m1", **spec(keyed=[{"k": "a", "v": "1"}])),
            apply("m2", **spec(keyed=[{"k": "b", "v": "2"}])),
        ),
        {
            "m1": '.spec.keyed[k="a"] .spec.keyed[k="a"].k .spec.keyed[k="a"].v',
            "m2": '.spec.keyed[k="b"] .spec.keyed[k="b"].k .spec.keyed[k="b"].v',
        },
        {"spec.keyed": [{"k": "a", "v": "1"}, {"k": "b", "v": "2"}]},
    ),
    Case(
        "a key with a default need not be told",
        "Thing",
        (apply("m1", **spec(defaulted=[{"v": "1"}])),),
        {"m1": '.spec.defaulted[k="d"] .spec.defaulted[k="d"].v'},
        {"spec.defaulted": [{"k": "d", "v": "1"}]},
    ),
    Case(
        "an element without its key is refused",
        "Thing",
        (apply("m1", 400, **spec(keyed=[{"v": "1"}])),),
        told="failed to create typed patch object (default/x; x.io/v1, Kind=Thing): .spec.keyed: "
        'element 0: associative list with keys has an element that omits key field "k" (and '
        "doesn't have default value)",
    ),
    Case(
        "a set",
        "Thing",
        (apply("m1", **spec(set=["a", "b"])), apply("m2", **spec(set=["b", "c"]))),
        {"m1": '.spec.set[="a"] .spec.set[="b"]', "m2": '.spec.set[="b"] .spec.set[="c"]'},
        {"spec.set": ["a", "b", "c"]},
    ),
    Case(
        "a list without a type is replaced whole",
        "Thing",
        (apply("m1", **spec(plain=["a"])), apply("m2", 409, **spec(plain=["b"]))),
        told='Apply failed with 1 conflict: conflict with "m1": .spec.plain',
    ),
    Case(
        "an atomic map is replaced whole",
        "Thing",
        (apply("m1", **spec(atomic={"a": "1"})), force("m2", **spec(atomic={"b": "1"}))),
        {"m2": ".spec.atomic"},
        {"spec.atomic": {"b": "1"}},
    ),
    Case(
        "what nobody specified, field by field",
        "Thing",
        (apply("m1", **spec(free={"a": {"b": 1}})), apply("m2", **spec(free={"a": {"c": [1]}}))),
        {"m1": ".spec.free.a .spec.free.a.b", "m2": ".spec.free.a .spec.free.a.c"},
        {"spec.free": {"a": {"b": 1, "c": [1]}}},
    ),
    Case(
        "int or string is a value",
        "Thing",
        (apply("m1", **spec(either=1)), apply("m2", 409, **spec(either="1"))),
        told='Apply failed with 1 conflict: conflict with "m1": .spec.either',
    ),
    Case(
        "defaults of a custom kind are nobody's",
        "Thing",
        (apply("m1", **spec(a="1")), apply("m2", **spec(size=4))),
        {"m1": ".spec.a", "m2": ".spec.size"},
        {"spec.size": 4},
    ),
    Case(
        "its status through its subresource",
        "Thing",
        (apply("m1", **spec(a="1")), merge("ctl", "status", status={"ready": True})),
        {"m1": ".spec.a", "ctl/Update/status": ".status .status.ready"},
    ),
)

CASES = (*MAPS, *LISTS, *CUSTOM)
