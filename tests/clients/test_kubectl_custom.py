"""The real kubectl with kinds that users define."""

import json

import pytest
from kubectl_tool import Kubectl

pytestmark = pytest.mark.kubectl

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: foos.kubectl.example}
spec:
  group: kubectl.example
  scope: Namespaced
  names: {plural: foos, kind: Foo, shortNames: [fo], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Colour, type: string, jsonPath: .spec.colour, priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: A foo is what foos are.
        properties:
          spec:
            type: object
            required: [colour]
            description: What one wants of a foo.
            properties:
              colour: {type: string, enum: [red, blue], description: How it looks.}
              replicas: {type: integer, default: 3, maximum: 9}
            x-kubernetes-validations:
            - {rule: "self.colour != 'blue' || self.replicas < 5", message: too many blue ones}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
FOO = "{apiVersion: kubectl.example/v1, kind: Foo, metadata: {name: f}, spec: {colour: red}}"


def test_a_kind_of_ones_own(kubectl: Kubectl) -> None:
    told = kubectl("apply -f -", stdin=DEFINITION)
    assert told == "customresourcedefinition.apiextensions.k8s.io/foos.kubectl.example created\n"
    kubectl("wait --for=condition=Established crd/foos.kubectl.example")
    found = kubectl("api-resources --api-group=kubectl.example --no-headers").split()
    assert found == ["foos", "fo", "kubectl.example/v1", "true", "Foo"]
    work(kubectl)
    refusals(kubectl)
    explain(kubectl)
    kubectl("delete crd foos.kubectl.example")
    assert "could not find the requested resource" in kubectl.fails("get foo")


def work(kubectl: Kubectl) -> None:
    """Apply, look, change, scale."""
    assert kubectl("apply -f -", stdin=FOO) == "foo.kubectl.example/f created\n"
    assert kubectl("get foo f").split()[:3] == ["NAME", "REPLICAS", "AGE"]
    wide = [line.split()[:3] for line in kubectl("get fo -o wide").splitlines()]
    assert wide == [["NAME", "REPLICAS", "COLOUR"], ["f", "3", "red"]]
    assert "foo.kubectl.example/f" in kubectl("get all -o name")
    assert kubectl("apply -f -", stdin=FOO) == "foo.kubectl.example/f unchanged\n"
    assert kubectl("scale foo/f --replicas=5") == "foo.kubectl.example/f scaled\n"
    change = '{"status": {"replicas": 5}}'
    kubectl("patch foo f --subresource=status --type=merge -p", change)
    obj = json.loads(kubectl("get foo f -o json"))
    assert (obj["spec"], obj["status"]) == ({"colour": "red", "replicas": 5}, {"replicas": 5})
    assert kubectl("label foo f l=one") == "foo.kubectl.example/f labeled\n"
    assert kubectl("get foo -l l=one -o name") == "foo.kubectl.example/f\n"
    editor = kubectl.file("editor", '#!/bin/sh\nsed -i "s/replicas: 5/replicas: 6/" "$1"\n')
    assert kubectl("edit foo f", KUBE_EDITOR=f"sh {editor}") == "foo.kubectl.example/f edited\n"
    described = kubectl("describe foo f")
    assert "Colour:    red" in described and "API Version:  kubectl.example/v1" in described


def refusals(kubectl: Kubectl) -> None:
    """What the schema, a rule or a stranger's field stand against."""
    wrong = FOO.replace("red", "green")
    assert 'Unsupported value: "green": supported values: "red", "blue"' in kubectl.fails(
        "apply -f -", stdin=wrong
    )
    many = FOO.replace("red", "blue, replicas: 7")
    assert "too many blue ones" in kubectl.fails("apply -f -", stdin=many)
    unknown = FOO.replace("colour: red", "colour: red, size: 3")
    assert 'unknown field "spec.size"' in kubectl.fails("apply -f -", stdin=unknown)
    assert "accepted media types include: application/json-patch+json" in kubectl.fails(
        "patch foo f --type=strategic -p", '{"spec": {"replicas": 1}}'
    )


def explain(kubectl: Kubectl) -> None:
    """Documentation comes from the definition."""
    told = kubectl("explain foo.spec.colour")
    assert "How it looks." in told and "GROUP:      kubectl.example" in told
    assert "replicas\t<integer>" in kubectl("explain foo --recursive")
