"""Whom a client certificate stands for, as `getpeercert` tells it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import Unauthorized
from kubeloop.net.rest.auth import shown_by

ENDS = "Nov 24 12:00:00 2026 GMT"
ENDS_S = 1_795_521_600.0
names = st.lists(st.text(min_size=1, max_size=9), max_size=3)


def shown(users: list[str], organizations: list[str]) -> dict[str, Any]:
    subject = [(("organizationName", one),) for one in organizations]
    subject += [(("commonName", one),) for one in users]
    return {"subject": tuple(subject), "notAfter": ENDS}


@given(names, names, st.floats(0, ENDS_S))
def test_its_name_is_the_user_and_organizations_are_groups(
    users: list[str], organizations: list[str], now_s: float
) -> None:
    found = shown_by(shown(users, organizations), now_s)
    if not users:
        assert found is None
        return
    assert found is not None
    assert found[0] == users[-1]
    assert set(found[1]) == {*organizations, "system:authenticated"}
    assert len(found[1]) == len(set(found[1]))


def test_who_shows_none_is_nobody_yet() -> None:
    assert shown_by(None, 0) is None and shown_by({}, 0) is None
    assert shown_by(shown([""], ["a"]), 0) is None


def test_a_connection_may_outlive_its_certificate() -> None:
    with pytest.raises(Unauthorized):
        shown_by(shown(["jane"], []), ENDS_S + 1)
