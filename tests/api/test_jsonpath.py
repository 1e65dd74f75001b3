"""JSONPath, as definitions use it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.jsonpath import BadPath, Path

POD: dict[str, Any] = {
    "metadata": {"name": "p", "labels": {"app.kubernetes.io/name": "web"}},
    "spec": {"containers": [{"name": "a", "port": 80}, {"name": "b", "port": 8080}]},
    "status": {
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "Initialized", "status": "False"},
        ]
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".metadata.name", ["p"]),
        ("{.metadata.name}", ["p"]),
        (".metadata.labels['app.kubernetes.io/name']", ["web"]),
        ('.metadata["name"]', ["p"]),
        (".spec.containers[*].name", ["a", "b"]),
        (".spec.containers[0].name", ["a"]),
        (".spec.containers[-1].name", ["b"]),
        (".spec.containers[7].name", []),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Initialized')].status", ["False"]),
        (".status.conditions[?(@.type!='Ready')].type", ["Initialized"]),
        (".spec.containers[?(@.port>100)].name", ["b"]),
        (".spec.containers[?(@.port<=80)].name", ["a"]),
        (".spec.containers[?(@.port>'x')].name", []),
        (".spec.containers[?(@.image)].name", []),
        (".spec.containers[?(@.port)].name", ["a", "b"]),
        (".spec.nothing.at.all", []),
        (".metadata.*", ["p", {"app.kubernetes.io/name": "web"}]),
    ],
)
def test_what_a_path_leads_to(path: str, found: list[Any]) -> None:
    assert Path.parse(path).find(POD) == found


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "leads nowhere"),
        ("spec", "unrecognized character"),
        (".spec[", "unrecognized character in action: '['"),
        (".spec[?(@.a==b)]", "'b' is no value to compare with"),
    ],
)
def test_what_is_no_path(path: str, says: str) -> None:
    with pytest.raises(BadPath, match=says.replace("[", r"\[")):
        Path.parse(path)


keys = st.text("abc-xyz", min_size=1, max_size=4)


@given(st.recursive(st.integers(), lambda x: st.lists(x) | st.dictionaries(keys, x)), st.data())
def test_a_path_to_a_value_finds_it(value: Any, data: st.DataObject) -> None:
    here, path = value, ""
    while isinstance(here, list | dict) and here and data.draw(st.booleans()):
        if isinstance(here, dict):
            key = data.draw(st.sampled_from(sorted(here)))
            path += data.draw(st.sampled_from([f".{key}", f"['{key}']"]))
            here = here[key]
        else:
            index = data.draw(st.integers(0, len(here) - 1))
            path, here = f"{path}[{index}]", here[index]
    if path:
        assert Path.parse(path).find(value) == [here]


@given(st.text(max_size=20))
def test_any_text_is_a_path_or_is_refused(text: str) -> None:
    try:
        Path.parse(text).find(POD)
    except BadPath as error:
        assert str(error)
