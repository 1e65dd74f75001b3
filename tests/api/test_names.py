"""Names: the alphabet soup of Kubernetes, held against plain definitions of each."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api import names

LOWER = string.ascii_lowercase + string.digits
soup = st.text(alphabet="aZ0-_./%. é\n\u0661", max_size=12) | st.text(max_size=70)


def is_label(text: str) -> bool:
    inside = all(char in LOWER + "-" for char in text)
    return 0 < len(text) <= 63 and inside and text[0] != "-" and text[-1] != "-"


@given(soup)
def test_labels_and_subdomains(text: str) -> None:
    assert (names.dns1123_label(text) == []) == is_label(text)
    parts = text.split(".")
    within = len(text.encode()) <= 253
    shaped = all(is_label(part[:63].rstrip("-") or "-") and part[-1:] != "-" for part in parts)
    if within and shaped:
        assert names.dns1123_subdomain(text) == []
    assert (names.dns1035_label(text) == []) == (is_label(text) and not text[0].isdigit())


@given(soup)
def test_whatever_names_a_label_is_a_subdomain_and_a_label_value(text: str) -> None:
    if not names.dns1123_label(text):
        assert not names.dns1123_subdomain(text)
        assert not names.label_value(text)
        assert not names.qualified_name(text)
        assert not names.path_segment(text)


@given(soup, soup)
def test_a_qualified_name_is_a_subdomain_and_a_name(prefix: str, name: str) -> None:
    if "/" in prefix + name:
        return
    good = not names.dns1123_subdomain(prefix) and not names.qualified_name(name)
    assert (names.qualified_name(f"{prefix}/{name}") == []) == good


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.dns1123_label, ["a", "0-0"], ["", "A", "-a", "a-", "a.b", "a\n", "a" * 64]),
        (names.dns1123_subdomain, ["a.b", "0"], ["", "a..b", ".a", "a_b", "a" * 254]),
        (names.dns1035_label, ["a1"], ["1a", "", "a.b"]),
        (names.qualified_name, ["A_b.c", "x.y/z"], ["", "/", "a/", "/a", "a/b/c", "-a", "a" * 64]),
        (names.label_value, ["", "A.b"], ["-", "a b", "a" * 64, "a\n"]),
        (names.env_var_name, ["A", "a b", "1.x"], ["", "A=B", "é", "a\n"]),
        (names.config_map_key, ["a.b", "..a"[1:]], ["", ".", "..", "..a", "a/b", "a" * 254]),
        (names.port_name, ["http", "a-1"], ["", "1", "-a", "a-", "a--b", "HTTP", "a" * 16]),
        (names.percent, ["0%", "101%"], ["", "1", "%", "1.5%", "-1%"]),
        (names.http_header_name, ["X-A"], ["", "X_A"]),
        (names.c_identifier, ["a_1", "_"], ["", "1a", "a-b"]),
        (names.path_segment, ["a b", "..."], [".", "..", "a/b", "a%b"]),
        (names.ip, ["10.9.8.7", "2001:db8::1"], ["", "10.1", "010.1.1.1", "::ffff:1.2.3.4"]),
        (names.ipv4, ["10.9.8.7"], ["::1", "x", "1.2.3.256"]),
        (names.ipv6, ["::1"], ["10.9.8.7", "fe80::1%eth0"]),
        (names.cidr, ["10.0.0.0/8", "::/0"], ["10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "a/8"]),
    ],
)
def test_examples(check: names.Check, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if check(text)] == []
    assert [text for text in bad if not check(text)] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("010.0.0.1", "must not have leading 0s"),
        ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
        ("10.0.0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    ],
)
def test_addresses_are_read_in_one_way_only(text: str, says: str) -> None:
    assert names.ip(text) == [says]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
        ("010.0.0.0/8", "must not have leading 0s in IP or prefix length"),
        ("10.1.0.0/8", "must not have bits set beyond the prefix length"),
        ("::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address"),
        ("10.0.0.0/8/8", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
    ],
)
def test_networks_are_read_in_one_way_only(text: str, says: str) -> None:
    assert names.cidr(text) == [says]


def test_the_prefix_of_a_generated_name_may_end_with_a_dash() -> None:
    check = names.generated(names.dns1123_label)
    assert check("web-") == []
    assert check("-") != []
    assert check("Web-") != []


def test_examples_are_listed_with_kubernetes_own_blanks() -> None:
    text = names.regex_text("must be so", "[a]", "a", "b")
    assert text == "must be so (e.g. 'a',  or 'b', regex used for validation is '[a]')"
    assert names.regex_text("so", "[a]") == "so (regex used for validation is '[a]')"
