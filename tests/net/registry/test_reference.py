"""Names of images, as every other tool reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.net.registry.reference import Reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
        ("rainbow/mc-user:1.0.RELEASE", "docker.io/rainbow/mc-user:1.0.RELEASE",
         "rainbow/mc-user:1.0.RELEASE"),
        ("index.docker.io/a", "docker.io/library/a:latest", "a:latest"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("quay.io/x/y@" + DIGEST, "quay.io/x/y@" + DIGEST, "quay.io/x/y@" + DIGEST),
        ("a:1@" + DIGEST, f"docker.io/library/a:1@{DIGEST}", f"a:1@{DIGEST}"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ("Host/a", "Host/a:latest", "Host/a:latest"),
    ],
)  # fmt: skip
def test_short_names_mean_long_ones(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar) == (full, familiar)


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:", "A", "a/B", "a b", "a//b", "/a", "a/", "-a", "a:" + "t" * 129, "a@sha256:00",
     "a@" + DIGEST.upper(), "../a", "a..b", "host.x/" + "a" * 250, "a:t@", "https://host/a"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Reference.parse(text)


component = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)?", fullmatch=True).filter(
    lambda text: len(text) < 20
)
domain = st.sampled_from(["docker.io", "localhost", "quay.io", "h:5000", "127.0.0.1:1"])
references = st.builds(
    Reference,
    domain,
    st.lists(component, min_size=2, max_size=3)
    .map("/".join)
    .filter(lambda path: not path.startswith("library/")),
    tag=st.from_regex(r"\w[\w.-]{0,9}", fullmatch=True).filter(str.isascii),
    digest=st.sampled_from(["", DIGEST]),
)


@given(references)
def test_a_name_means_itself(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ValueError:
        return
    assert Reference.parse(str(reference)) == reference
