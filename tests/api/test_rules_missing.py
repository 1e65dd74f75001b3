"""Rules in CEL that were accepted once, where the library is not there any more."""

from typing import Any

import pytest

from kubeloop.api import rules
from kubeloop.api.cel import BadRule
from kubeloop.api.custom import CustomKind
from kubeloop.api.errors import InternalError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "x-kubernetes-validations": [{"rule": "self.spec.n > 1"}],
    "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}
VERSION = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}
DEFINITION: dict[str, Any] = {
    "metadata": {"name": "things.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"kind": "Thing", "plural": "things"},
        "scope": "Namespaced",
        "versions": [VERSION],
    },
}


def test_an_object_with_rules_cannot_be_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: str) -> Any:
        raise BadRule("rules in CEL need the library cel-expr-python")

    monkeypatch.setattr(rules, "environment", nobody)
    kind = CustomKind(DEFINITION, VERSION)
    with pytest.raises(InternalError, match="cel-expr-python"):
        assert not kind.rules
