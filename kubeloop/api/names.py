"""Names: which strings may name what, and what Kubernetes says of those that may not.

Every function takes a string and returns the list of what is wrong with it, [] if nothing is.
The texts are those of k8s.io/apimachinery/pkg/util/validation, blanks and all.
"""

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Final

LABEL_MAX: Final = 63
SUBDOMAIN_MAX: Final = 253

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY_NAME: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE: Final = f"({_KEY_NAME})?"
_MAP_KEY: Final = "[-._a-zA-Z0-9]+"
_HTTP_HEADER: Final = "[-A-Za-z0-9]+"
_PERCENT: Final = "[0-9]+%"
_C_IDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]*"

_KEY_SAYS: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character"
)
_ENV_SAYS: Final = (
    "a valid environment variable name must consist only of printable ASCII characters"
    " other than '='"
)

_NO_ADDRESS: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_NO_NETWORK: Final = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"

Check = Callable[[str], list[str]]


def _remembered(check: Check) -> Check:
    """Return `check` with a memory: a cluster says the same few names over and over.

    Long texts are not remembered: no name is that long, and they would fill the memory.
    """
    ask = lru_cache(maxsize=4096)(lambda text: tuple(check(text)))

    @wraps(check)
    def remembered(text: str) -> list[str]:
        return list(ask(text)) if len(text) <= SUBDOMAIN_MAX else check(text)

    return remembered


def too_long(length_max: int) -> str:
    """Return the text for a string of more than `length_max` bytes."""
    return f"must be no more than {length_max} bytes"


def between(low: int, high: int) -> str:
    """Return the text for a number out of range."""
    return f"must be between {low} and {high}, inclusive"


def regex_text(says: str, pattern: str, *examples: str) -> str:
    """Return the text for a string that does not match `pattern`."""
    if not examples:
        return f"{says} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{says} (e.g. {shown}regex used for validation is '{pattern}')"


@_remembered
def dns1123_label(text: str) -> list[str]:
    """Check a DNS label as RFC 1123 has it: namespaces, containers, volumes."""
    problems = [too_long(LABEL_MAX)] if _bytes(text) > LABEL_MAX else []
    if not re.fullmatch(_LABEL, text):
        if re.fullmatch(_SUBDOMAIN, text):
            return [*problems, "must not contain dots"]
        says = (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-',"
            " and must start and end with an alphanumeric character"
        )
        problems.append(regex_text(says, _LABEL, "my-name", "123-abc"))
    return problems


@_remembered
def dns1123_subdomain(text: str) -> list[str]:
    """Check a DNS name as RFC 1123 has it: most objects' names."""
    problems = [too_long(SUBDOMAIN_MAX)] if _bytes(text) > SUBDOMAIN_MAX else []
    if not re.fullmatch(_SUBDOMAIN, text):
        says = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters,"
            " '-' or '.', and must start and end with an alphanumeric character"
        )
        problems.append(regex_text(says, _SUBDOMAIN, "example.com"))
    return problems


def wildcard_subdomain(text: str) -> list[str]:
    """Check a DNS name whose first label is "*"."""
    problems = [too_long(SUBDOMAIN_MAX)] if _bytes(text) > SUBDOMAIN_MAX else []
    if not re.fullmatch(rf"\*\.{_SUBDOMAIN}", text):
        says = (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain,"
            " which must consist of lower case alphanumeric characters, '-' or '.' and end with an"
            " alphanumeric character"
        )
        problems.append(regex_text(says, rf"\*\.{_SUBDOMAIN}", "*.example.com"))
    return problems


def dns1035_label(text: str) -> list[str]:
    """Check a DNS label as RFC 1035 has it: services."""
    problems = [too_long(LABEL_MAX)] if _bytes(text) > LABEL_MAX else []
    if not re.fullmatch(_LABEL_1035, text):
        says = (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start"
            " with an alphabetic character, and end with an alphanumeric character"
        )
        problems.append(regex_text(says, _LABEL_1035, "my-name", "abc-123"))
    return problems


@_remembered
def qualified_name(text: str) -> list[str]:
    """Check "name" or "example.com/name": the keys of labels and annotations, finalizers."""
    parts = text.split("/")
    if len(parts) > 2:
        says = regex_text(
            f"a valid label key {_KEY_SAYS}", _KEY_NAME, "MyName", "my.name", "123-abc"
        )
        return [f"{says} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    problems = []
    if len(parts) == 2:
        wrong = dns1123_subdomain(parts[0]) if parts[0] else ["must be non-empty"]
        problems += [f"prefix part {problem}" for problem in wrong]
    name = parts[-1]
    if not name:
        problems.append("name part must be non-empty")
    elif _bytes(name) > LABEL_MAX:
        problems.append(f"name part {too_long(LABEL_MAX)}")
    if not re.fullmatch(_KEY_NAME, name):
        problems.append(
            f"name part {regex_text(_KEY_SAYS, _KEY_NAME, 'MyName', 'my.name', '123-abc')}"
        )
    return problems


@_remembered
def label_value(text: str) -> list[str]:
    """Check the value of a label; it may be empty."""
    problems = [too_long(LABEL_MAX)] if _bytes(text) > LABEL_MAX else []
    if not re.fullmatch(_LABEL_VALUE, text):
        says = (
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_'"
            " or '.', and must start and end with an alphanumeric character"
        )
        problems.append(regex_text(says, _LABEL_VALUE, "MyValue", "my_value", "12345"))
    return problems


def path_segment(text: str) -> list[str]:
    """Check a name that stands in a URL's path."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{char}'" for char in "/%" if char in text]


@_remembered
def env_var_name(text: str) -> list[str]:
    """Check the name of an environment variable."""
    if not text:
        return ["environment variable name must be non-empty"]
    return [] if all(" " <= c <= "~" and c != "=" for c in text) else [_ENV_SAYS]


def config_map_key(text: str) -> list[str]:
    """Check a key of a ConfigMap or a Secret: it becomes the name of a file."""
    problems = [too_long(SUBDOMAIN_MAX)] if _bytes(text) > SUBDOMAIN_MAX else []
    if not re.fullmatch(_MAP_KEY, text):
        says = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        problems.append(regex_text(says, _MAP_KEY, "key.name", "KEY_NAME", "key-name"))
    if text in (".", ".."):
        problems.append(f"must not be '{text}'")
    elif text.startswith(".."):
        problems.append("must not start with '..'")
    return problems


def http_header_name(text: str) -> list[str]:
    """Check the name of an HTTP header of a probe."""
    if re.fullmatch(_HTTP_HEADER, text):
        return []
    says = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [regex_text(says, _HTTP_HEADER, "X-Header-Name")]


def c_identifier(text: str) -> list[str]:
    """Check an identifier of C: the prefix of `envFrom`."""
    if re.fullmatch(_C_IDENTIFIER, text):
        return []
    says = (
        "a valid C identifier must start with alphabetic character or '_', followed by a string of"
        " alphanumeric characters or '_'"
    )
    return [regex_text(says, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName")]


@_remembered
def port_name(text: str) -> list[str]:
    """Check the name of a port: an IANA_SVC_NAME (RFC 6335)."""
    problems = [too_long(15)] if _bytes(text) > 15 else []
    if not re.fullmatch("[-a-z0-9]+", text):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        problems.append("must contain at least one letter (a-z)")
    if "--" in text:
        problems.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def port_number(port: int) -> list[str]:
    """Check the number of a port."""
    return [] if 1 <= port <= 65535 else [between(1, 65535)]


def percent(text: str) -> list[str]:
    """Check a percentage: "25%"."""
    if re.fullmatch(_PERCENT, text):
        return []
    says = "a valid percent string must be a numeric string followed by an ending '%'"
    return [regex_text(says, _PERCENT, "1%", "93%")]


def ip(text: str) -> list[str]:
    """Check an address, IPv4 or IPv6, that no two programs could read differently."""
    try:
        address = None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return ["must not have leading 0s"] if _has_leading_zeros(text) else [_NO_ADDRESS]
    if address is None:
        return [_NO_ADDRESS]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return ["must not be an IPv4-mapped IPv6 address"]
    return []


def ipv4(text: str) -> list[str]:
    """Check an IPv4 address."""
    return ip(text) or (["must be an IPv4 address"] if ":" in text else [])


def ipv6(text: str) -> list[str]:
    """Check an IPv6 address."""
    return ip(text) or ([] if ":" in text else ["must be an IPv6 address"])


def cidr(text: str) -> list[str]:
    """Check a network in CIDR notation: an address and how many of its bits count."""
    address, slash, length = text.partition("/")
    wrong, digits = ip(address), length.isascii() and length.isdecimal()
    bits = 128 if ":" in address else 32
    if wrong == [_NO_ADDRESS] or not slash or not digits or int(length[:9]) > bits:
        return [_NO_NETWORK]
    if "leading" in "".join(wrong) or (len(length) > 1 and length.startswith("0")):
        return ["must not have leading 0s in IP or prefix length"]
    if wrong:
        return ["must not have an IPv4-mapped IPv6 address"]
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return ["must not have bits set beyond the prefix length"]
    return []


def generated(check: Check) -> Check:
    """Return the check for a generateName: a trailing "-" stands for what follows it."""

    def check_prefix(text: str) -> list[str]:
        return check(f"{text[:-2]}a" if len(text) > 1 and text.endswith("-") else text)

    return check_prefix


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _has_leading_zeros(text: str) -> bool:
    """Tell whether `text` would be an IPv4 address but for zeros that make numbers look octal."""
    parts = text.split(".")
    return len(parts) == 4 and all(re.fullmatch("[0-9]{1,9}", p) and int(p) < 256 for p in parts)
