"""Image definitions: what they mean, and how they are refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop.net.registry.containerfile import (
    SUPPORTED,
    Copy,
    Definition,
    DefinitionError,
    evaluate,
    parse,
)
from kubeloop.net.registry.words import words


def read(text: str, **arguments: str) -> Definition:
    return evaluate(parse(text, "Containerfile"), "Containerfile", arguments=arguments)


def test_a_whole_definition() -> None:
    definition = read(
        """
        # syntax=docker/dockerfile:1
        ARG BASE=host
        from ${BASE}
        ARG VERSION=1
        ENV A="one two" B=${VERSION:-none} \\
            # in between
            C='$A'
        ENV D three $A
        WORKDIR /srv
        WORKDIR $B/app
        COPY a b/ ./
        COPY ["with space", "/x y"]
        LABEL "a.b"="c" d=e
        EXPOSE 80 8080-8081/UDP
        USER 1000:1000
        ENTRYPOINT ["run", "--it"]
        CMD echo $A
        """,
        VERSION="2",
    )
    settings_ = definition.settings
    assert definition.base == "host"
    assert settings_.environment == {"A": "one two", "B": "2", "C": "$A", "D": "three one two"}
    assert settings_.working_dir == "/srv/2/app"
    assert definition.copies == (
        Copy(12, ("a", "b/"), "/srv/2/app/"),
        Copy(13, ("with space",), "/x y"),
    )
    assert settings_.labels == {"a.b": "c", "d": "e"}
    assert settings_.ports == ("80/tcp", "8080/udp", "8081/udp")
    assert settings_.user == "1000:1000"
    assert settings_.entrypoint == ("run", "--it")
    assert settings_.command == ("/bin/sh", "-c", "echo $A")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Containerfile: there is no FROM"),
        ("FROM host\nRUN make", "Containerfile:2: RUN is not supported (nothing runs during"),
        ("FROM host\nADD a b", "ADD is not supported (use COPY); supported: FROM, ARG, COPY"),
        ("FROM host\n\n\nFOO", "Containerfile:4: FOO is not supported; supported: "),
        ("FROM host\n???", "Containerfile:2: '???' is no instruction"),
        ("CMD a", "Containerfile:1: CMD stands before FROM"),
        ("FROM host\nFROM host", "Containerfile:2: a second FROM"),
        ("FROM host AS x", "Containerfile:1: FROM takes one name"),
        ("FROM --platform=x host", "the option --platform=x of FROM is not supported"),
        ("FROM", "Containerfile:1: FROM needs an argument"),
        ("FROM host\nCOPY a", "COPY needs one source at least, and a target"),
        ("FROM host\nCOPY ../a /", "COPY ../a: sources lie inside the build directory"),
        ("FROM host\nCOPY a b c", "needs a directory as target: end it with /"),
        ("FROM host\nCOPY --from=x a b", "the option --from=x of COPY is not supported"),
        ("FROM host\nCOPY <<EOF /x\na\nEOF", "Containerfile:2: here-documents are not supported"),
        ("FROM host\nCMD ['a']", 'this form is a JSON list: ["a", "b"], with double quotes'),
        ("FROM host\nENV A", "write ENV A=value"),
        ("FROM host\nENV A=b c", "write KEY=value, and quote a value that has blanks"),
        ("FROM host\nENV A='b", "a ' is not closed"),
        ("FROM host\nENV A=${B/c}", "only ${NAME}"),
        ("FROM host\nEXPOSE 70000", "EXPOSE 70000: a port is a number up to 65535"),
        ("FROM host\nUSER a b", "USER takes one name or number"),
        ("FROM host\nCMD a \\", "Containerfile:2: the last line ends with \\"),
        ("# escape=`\nFROM host", "only \\ can continue a line"),
        ("FROM host\nARG 1=2", "'1' is no name for an argument"),
    ],
)
def test_what_is_wrong_is_named_by_line(text: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        read(text)
    assert message in str(error.value)


def test_an_argument_nobody_declared_is_refused() -> None:
    with pytest.raises(DefinitionError, match="no ARG declares TYPO"):
        read("FROM host\nARG A", TYPO="1")


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from([*SUPPORTED, "RUN", "#", ""]), st.text(max_size=20)), max_size=6
    )
)
def test_any_text_is_read_or_refused_by_name(lines: list[tuple[str, str]]) -> None:
    text = "\n".join(f"{name} {rest}" for name, rest in lines)
    try:
        definition = read(text)
    except DefinitionError as error:
        assert str(error).startswith("Containerfile:")
        return
    assert all(
        copy.target.startswith("/") and ".." not in copy.target for copy in definition.copies
    )
    assert definition.settings.working_dir[:1] in ("", "/")


@given(st.lists(st.text(min_size=1, max_size=9).filter(lambda t: "\0" not in t), max_size=4))
def test_quoting_keeps_words(wanted: list[str]) -> None:
    def quoted(word: str) -> str:
        for char in '\\"$':
            word = word.replace(char, "\\" + char)
        return f'"{word}"'

    assert words(" ".join(map(quoted, wanted)), {"A": "x"}) == wanted
