"""Query parameters, and what Kubernetes says of wrong ones."""

import pytest

from kubeloop.api.errors import ApiError
from kubeloop.net.rest import options


def parsed(query: str) -> options.Options:
    return options.parse_options(options.parse_query(query))


def refusal(verb: str, query: str, **more: str) -> str:
    with pytest.raises(ApiError) as refused:
        options.check(verb, {**parsed(query), **more})
    return f"{refused.value.code} {refused.value.message}"


def test_values_get_their_types() -> None:
    assert parsed(
        "limit=5&watch=1&force=false&dryRun=All&fieldManager=m&labelSelector=a%3Db&x=y"
    ) == {
        "limit": 5,
        "watch": True,
        "force": False,
        "dryRun": ["All"],
        "fieldManager": "m",
        "labelSelector": "a=b",
    }


@pytest.mark.parametrize(
    ("text", "value"), [("", True), ("0", False), ("false", False), ("x", True)]
)
def test_booleans_are_kubernetes_own(text: str, value: bool) -> None:
    assert parsed(f"watch={text}") == {"watch": value}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=abc", 'strconv.ParseInt: parsing "abc": invalid syntax'),
        ("timeoutSeconds=", 'strconv.ParseInt: parsing "": invalid syntax'),
        (f"limit={1 << 64}", f'strconv.ParseInt: parsing "{1 << 64}": value out of range'),
        ("gracePeriodSeconds=1.5", 'strconv.ParseInt: parsing "1.5": invalid syntax'),
    ],
)
def test_values_of_a_wrong_type(query: str, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        parsed(query)
    assert (refused.value.code, refused.value.message) == (400, message)


@pytest.mark.parametrize(
    ("verb", "query", "message"),
    [
        (
            "create",
            "dryRun=Some",
            '422 CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: '
            'supported values: "All"',
        ),
        (
            "update",
            "fieldValidation=Nope",
            '422 UpdateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: '
            '"Nope": supported values: "", "Ignore", "Strict", "Warn"',
        ),
        (
            "patch",
            "force=true",
            '422 PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified '
            "for non-apply patch",
        ),
        (
            "create",
            "fieldManager=" + "m" * 129,
            '422 CreateOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more '
            "than 128 bytes",
        ),
        (
            "list",
            "resourceVersionMatch=Exact",
            '422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "watch",
            "sendInitialEvents=true",
            '422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "list",
            "sendInitialEvents=true",
            '422 ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: '
            "sendInitialEvents is forbidden for list",
        ),
    ],
)
def test_what_may_not_be_asked(verb: str, query: str, message: str) -> None:
    assert refusal(verb, query) == message


def test_apply_needs_a_manager() -> None:
    assert refusal("patch", "", patchType="apply") == (
        '422 PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: '
        "is required for apply patch"
    )


def test_the_body_of_a_delete_wins() -> None:
    body = {"kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}
    merged = options.delete_options(body, {"gracePeriodSeconds": 30, "propagationPolicy": "Orphan"})
    assert merged == {
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Orphan",
        "preconditions": {"uid": "u"},
    }


@pytest.mark.parametrize("body", [{"kind": "Pod"}, {"gracePeriodSeconds": "1"}, {"dryRun": "All"}])
def test_a_body_that_is_no_delete_options(body: dict[str, object]) -> None:
    with pytest.raises(ApiError) as refused:
        options.delete_options(body, {})
    assert refused.value.code == 400
