"""The label by which a watch is routed: one that all a selector means have."""

import pytest

from kubeloop.api.selectors import parse_labels


@pytest.mark.parametrize(
    "text, label",
    [
        ("app=web", ("app", ("web",))),
        ("tier in (a,b),app==web", ("app", ("web",))),
        ("tier in (c,a,b),zone in (x,y)", ("zone", ("x", "y"))),
        ("!canary,app", ("app", ())),
        ("app!=web,tier notin (a),!canary,size>5", None),
        ("", None),
    ],
)
def test_the_label_that_leaves_the_least(
    text: str, label: tuple[str, tuple[str, ...]] | None
) -> None:
    assert parse_labels(text).label() == label
