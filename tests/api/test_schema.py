"""The types: the table is what its generator makes, and decoding follows Go's decoder."""

import copy
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.gotimes import canonical_micro_time, canonical_time
from kubeloop.api.resources import RESOURCES
from kubeloop.api.schema import PROBLEMS_MAX, Undecodable, decode_strict, merge_keys
from kubeloop.api.typetable import Spec, schema

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT.parent / "shared" / "facts" / "golden"
RECORDED = ROOT.parent / "shared" / "facts" / "apiserver-1.36.2.jsonl"

Json = dict[str, Any]


@pytest.mark.skipif(find_spec("kubernetes_validate") is None, reason="the explain extra is missing")
def test_the_table_is_what_its_generator_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from generate_schema import generate

    table = (ROOT / "kubeloop" / "api" / "schema.msgpack").read_bytes()
    assert generate() == table, "run: python tools/generate_schema.py"
    assert len(table) < 100_000


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=str)
def test_every_resource_has_a_type_and_a_list_type(resource: Any) -> None:
    told = schema().kind(resource.api_version, resource.kind)
    assert {"apiVersion", "kind", "metadata"} <= set(told.fields)
    items = schema().kind(resource.api_version, f"{resource.kind}List").fields["items"]
    assert items.element is not None and items.element.type == told.name


def test_merge_keys() -> None:
    keys = merge_keys("v1", "Pod")
    assert keys["spec.containers"] == "name"
    assert keys["spec.containers.env"] == "name"
    assert keys["spec.containers.ports"] == "containerPort"
    assert keys["status.conditions"] == "type"
    assert keys["metadata.ownerReferences"] == "uid"
    assert "spec.tolerations" not in keys
    assert merge_keys("example.com/v1", "Foo") == {}


# Values of every type, valid and canonical: decoding must not change them.


def valid(spec: Spec) -> st.SearchStrategy[Any]:
    if spec.element is not None:
        inner = valid(spec.element)
        if spec.form == "list":
            return st.lists(inner, max_size=2)
        return st.dictionaries(st.sampled_from(["a", "b.c/d", "[0]"]), inner, max_size=2)
    return objects(spec.type) if spec.type else SCALARS[spec.form]


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=3),
    "bytes": st.sampled_from(["", "YQ==", "YWI=", "YWJj"]),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "quantity": st.sampled_from(["0", "1", "500m", "1Gi", "3k"]),
    "intOrString": st.integers(-(2**31), 2**31 - 1) | st.text(max_size=3),
    "time": st.just("2026-11-23T05:58:18Z"),
    "microTime": st.just("2026-11-23T05:58:18.123456Z"),
    "any": st.dictionaries(st.text(max_size=2), st.integers() | st.none(), max_size=2),
}


def objects(name: str) -> st.SearchStrategy[Any]:
    told = schema().type(name)
    if told.form != "object":
        return SCALARS[told.form]

    @st.composite
    def some(draw: st.DrawFn) -> Json:
        fields = draw(st.lists(st.sampled_from(sorted(told.fields)), max_size=3, unique=True))
        return {field: draw(valid(told.fields[field])) for field in fields}

    return some()


KINDS = st.sampled_from([(r.api_version, r.kind) for r in RESOURCES.values()])


@st.composite
def typed(draw: st.DrawFn) -> tuple[str, str, Json]:
    api_version, kind = draw(KINDS)
    return api_version, kind, draw(objects(schema().kinds[api_version, kind]))


@given(typed())
def test_a_valid_object_stays_as_it_is(told: tuple[str, str, Json]) -> None:
    assert decode_strict(*told) == (told[2], [])


def places(name: str, obj: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Yield every object of a known type inside `obj`, with its path."""
    told = schema().type(name)
    if told.form != "object":
        return
    yield path, obj
    for key, value in obj.items():
        if key in told.fields:
            yield from _inside(told.fields[key], value, f"{path}.{key}" if path else key)


def _inside(spec: Spec, value: Any, path: str) -> Iterator[tuple[str, Json]]:
    if spec.type:
        yield from places(spec.type, value, path)
    elif spec.element is not None:
        members = value.items() if spec.form == "map" else enumerate(value)
        for key, member in members:
            inner = f"{path}.{key}" if spec.form == "map" else f"{path}[{key}]"
            yield from _inside(spec.element, member, inner)


@given(typed(), st.data())
def test_unknown_fields_and_only_those_are_dropped_and_named(
    told: tuple[str, str, Json], data: st.DataObject
) -> None:
    api_version, kind, obj = told
    spoiled = copy.deepcopy(obj)
    expected = set()
    for path, inner in places(schema().kinds[api_version, kind], spoiled):
        if data.draw(st.booleans()):
            inner["nope"] = data.draw(st.sampled_from([1, None, {"a": [1]}, [[]]]))
            expected.add(f'unknown field "{path}.nope"' if path else 'unknown field "nope"')
    decoded, problems = decode_strict(api_version, kind, spoiled)
    assert decoded == obj
    assert set(problems) == expected or len(problems) == PROBLEMS_MAX


@given(typed(), st.data())
def test_nulls_vanish(told: tuple[str, str, Json], data: st.DataObject) -> None:
    api_version, kind, obj = told
    spoiled = copy.deepcopy(obj)
    name = schema().kinds[api_version, kind]
    for field in schema().type(name).fields:
        if field not in obj and data.draw(st.booleans()):
            spoiled[field] = None
    assert decode_strict(api_version, kind, spoiled) == (obj, [])


@given(
    KINDS,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["spec", "metadata", "labels", "name", "x"]), inner)
        ),
    ),
)
def test_anything_is_decoded_or_refused(kind: tuple[str, str], value: Any) -> None:
    try:
        decoded, _ = decode_strict(*kind, {"metadata": value, "spec": value, "status": value})
    except Undecodable:
        return
    assert decode_strict(*kind, decoded)[0] == decoded


def pod(**spec: Any) -> Json:
    return {"spec": spec}


def container(**fields: Any) -> Json:
    return pod(containers=[fields])


QUANTITY = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
LAYOUT = '"2006-01-02T15:04:05Z07:00"'
REFUSED: list[tuple[str, str, Json, str]] = [
    (
        "v1",
        "Pod",
        pod(containers="x"),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type"
        " []v1.Container",
    ),
    (
        "v1",
        "Pod",
        pod(containers=["x"]),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type"
        " v1.Container",
    ),
    (
        "v1",
        "Pod",
        container(ports=[{"containerPort": "80"}]),
        "json: cannot unmarshal string into Go struct field"
        " ContainerPort.spec.containers.ports.containerPort of type int32",
    ),
    (
        "v1",
        "Pod",
        container(ports=[{"containerPort": 2**31}]),
        "json: cannot unmarshal number 2147483648 into Go struct field"
        " ContainerPort.spec.containers.ports.containerPort of type int32",
    ),
    (
        "v1",
        "Pod",
        container(ports=[{"containerPort": 1.5}]),
        "json: cannot unmarshal number 1.5 into Go struct field"
        " ContainerPort.spec.containers.ports.containerPort of type int32",
    ),
    (
        "v1",
        "Pod",
        pod(restartPolicy=5),
        "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type"
        " v1.RestartPolicy",
    ),
    (
        "apps/v1",
        "Deployment",
        {"spec": {"template": container(env=[{"name": "a", "value": 6379}])}},
        "json: cannot unmarshal number into Go struct field"
        " EnvVar.spec.template.spec.containers.env.value of type string",
    ),
    (
        "v1",
        "Pod",
        {"metadata": {"labels": {"a": True}}},
        "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type"
        " string",
    ),
    ("v1", "Pod", container(resources={"limits": {"cpu": "abc"}}), QUANTITY),
    ("v1", "Pod", container(resources={"limits": {"cpu": True}}), QUANTITY),
    (
        "v1",
        "Pod",
        container(resources={"limits": []}),
        "json: cannot unmarshal array into Go struct field"
        " ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
    ),
    (
        "v1",
        "Pod",
        {"metadata": {"creationTimestamp": "x"}},
        f'parsing time "x" as {LAYOUT}: cannot parse "x" as "2006"',
    ),
    (
        "v1",
        "Pod",
        {"metadata": {"creationTimestamp": 5}},
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp"
        " of type string",
    ),
    (
        "v1",
        "Service",
        {"spec": {"ports": [{"targetPort": 1.5}]}},
        "json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports.targetPort"
        " of type int32",
    ),
    ("v1", "Secret", {"data": {"a": "b!"}}, "illegal base64 data at input byte 1"),
    ("v1", "Secret", {"data": {"a": "YWJjZ"}}, "illegal base64 data at input byte 4"),
    (
        "v1",
        "Secret",
        {"data": {"a": 5}},
        "json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
    ),
    (
        "v1",
        "Pod",
        {"spec": "x"},
        "json: cannot unmarshal string into Go struct field Pod.spec of type v1.PodSpec",
    ),
]


@pytest.mark.parametrize(("api_version", "kind", "obj", "text"), REFUSED)
def test_wrong_types_are_refused_in_the_words_of_go(
    api_version: str, kind: str, obj: Json, text: str
) -> None:
    with pytest.raises(Undecodable) as caught:
        decode_strict(api_version, kind, obj)
    version = api_version.rpartition("/")[2]
    start = f'{kind} in version "{version}" cannot be handled as a {kind}: '
    assert caught.value.message == start + text
    assert caught.value.text == text
    assert caught.value.code == 400


def test_what_strictness_tells() -> None:
    obj = pod(containers=[{"name": "a"}, {"foo": 1, "ports": [{"bar": 1}]}], foo=1)
    decoded, problems = decode_strict("v1", "Pod", obj | {"x": {}}, ["metadata.name"])
    assert decoded == pod(containers=[{"name": "a"}, {"ports": [{}]}])
    assert problems == [
        'unknown field "spec.containers[1].foo"',
        'unknown field "spec.containers[1].ports[0].bar"',
        'unknown field "spec.foo"',
        'unknown field "x"',
        'duplicate field "metadata.name"',
    ]


def test_null_elements_become_zero_values() -> None:
    obj = {"metadata": {"finalizers": ["a", None], "labels": {"a": None}}, "spec": {}}
    decoded, _ = decode_strict("v1", "Pod", obj)
    assert decoded["metadata"] == {"finalizers": ["a", ""], "labels": {"a": ""}}
    obj = container(resources={"limits": {"cpu": None}}, ports=[None])
    decoded, _ = decode_strict("v1", "Pod", obj)
    assert decoded == container(resources={"limits": {"cpu": "0"}}, ports=[{}])


def test_quantities_and_times_become_canonical() -> None:
    obj = container(resources={"limits": {"cpu": 0.5, "memory": "1024Mi", "x": 3}})
    decoded, _ = decode_strict("v1", "Pod", obj)
    assert decoded == container(resources={"limits": {"cpu": "500m", "memory": "1Gi", "x": "3"}})


def test_kinds_without_a_schema_pass() -> None:
    obj = {"apiVersion": "example.com/v1", "kind": "Foo", "spec": {"any": None}}
    assert decode_strict("example.com/v1", "Foo", obj) == (obj, [])


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2026-11-23T05:58:18Z", "2026-11-23T05:58:18Z"),
        ("2026-11-23T05:58:18.999+01:00", "2026-11-23T04:58:18Z"),
        ("2026-11-23T23:58:18-01:30", "2026-11-24T01:28:18Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("2024-02-29T5:00:00Z", "2024-02-29T05:00:00Z"),
    ],
)
def test_times(text: str, canonical: str) -> None:
    assert canonical_time(text) == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f'parsing time "" as {LAYOUT}: cannot parse "" as "2006"'),
        ("2020-01-01", f'parsing time "2020-01-01" as {LAYOUT}: cannot parse "" as "T"'),
        ("2020-13-01T00:00:00Z", 'parsing time "2020-13-01T00:00:00Z": month out of range'),
        ("2023-02-29T00:00:00Z", 'parsing time "2023-02-29T00:00:00Z": day out of range'),
        ("2020-01-01T24:00:00Z", 'parsing time "2020-01-01T24:00:00Z": hour out of range'),
        ("2020-01-01T00:00:00Zx", 'parsing time "2020-01-01T00:00:00Zx": extra text: "x"'),
        (
            "2020-01-01T00:00:00",
            f'parsing time "2020-01-01T00:00:00" as {LAYOUT}: cannot parse "" as "Z07:00"',
        ),
    ],
)
def test_bad_times(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        canonical_time(text)
    assert str(caught.value) == message


def test_micro_times_have_six_decimals() -> None:
    assert canonical_micro_time("2026-01-02T03:04:05.000006+01:00") == "2026-01-02T02:04:05.000006Z"
    with pytest.raises(ValueError, match=r'cannot parse "Z" as ".000000"'):
        canonical_micro_time("2020-01-01T00:00:00Z")


def without_nulls(value: Any) -> Any:
    """Return a value without its nulls, but for those in a map: there they are times not set."""
    if isinstance(value, dict):
        maps = {k: v for k, v in value.items() if k == "disruptedPods"}
        return {k: without_nulls(v) for k, v in value.items() if v is not None} | maps
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs the recorded objects beside the checkout")
def test_objects_with_every_field_filled_pass() -> None:
    seen = 0
    for file in sorted(GOLDEN.glob("*.json")):
        obj = json.loads(file.read_text())
        if (obj.get("apiVersion"), obj.get("kind")) in schema().kinds:
            seen += 1
            decoded, problems = decode_strict(obj["apiVersion"], obj["kind"], obj)
            assert (decoded, problems) == (without_nulls(obj), []), file.name
    assert seen > 5


@pytest.mark.skipif(not RECORDED.exists(), reason="needs the recorded answers beside the checkout")
def test_what_a_real_server_answers_passes() -> None:
    seen = 0
    for line in RECORDED.read_text().splitlines():
        answer = json.loads(line).get("response")
        if not isinstance(answer, dict):
            continue
        kind = (answer.get("apiVersion"), answer.get("kind"))
        if kind in schema().kinds:
            seen += 1
            assert decode_strict(*kind, answer) == (without_nulls(answer), [])
    assert seen > 50
