"""The report of a run: what is in it, and that a browser would read it."""

import itertools
import json
import re
from html.parser import HTMLParser

from kubeloop.chaos import Configure, DeletePod, Deploy, Plan, Scale, play
from kubeloop.chaos.stage import Mark
from kubeloop.testing.report import bands, lives, report

PLAN = Plan(
    seed=4,
    happenings=(
        Deploy(replicas=2),
        Configure(at_s=2.0),
        DeletePod(at_s=4.0),
        Scale(at_s=8.0, replicas=1),
    ),
)


class Elements(HTMLParser):
    """Collects what a page refers to, and the text of its data."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_a_report_holds_the_run_and_needs_nothing_else() -> None:
    outcome = play(PLAN, keep=True)
    page = report(outcome, title="a </script> run", why="two is not one", plan=str(PLAN))
    elements = Elements()
    elements.feed(page)
    assert elements.links == [], "nothing is loaded"
    assert page.count("</script>") == 2, "no text of ours ends an element"
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    data = json.loads(text)
    assert data["title"] == "a </script> run" and data["why"] == "two is not one"
    assert len(data["facts"]) == outcome.facts
    assert {"", "controller-manager", "scheduler", "kubelet/node-1"} <= set(data["actors"])
    assert all(fact["actor"] in data["actors"] for fact in data["facts"])
    assert [mark["text"] for mark in data["marks"]] == [mark.text for mark in outcome.marks]
    assert all(mark["step"] for mark in data["marks"])
    assert len(data["pods"]) == 3
    assert "Deploy(replicas=2)" in data["plan"]


def test_the_lives_of_pods() -> None:
    outcome = play(PLAN, keep=True)
    found = lives(outcome.history, outcome.now_s)
    ends = []
    for phases in found.values():
        assert next(phase.phase for phase in phases) == "Pending"
        assert any(phase.phase == "Running" and phase.ready for phase in phases)
        assert all(a.to == b.at for a, b in itertools.pairwise(phases))
        assert all(phase.at <= phase.to for phase in phases)
        ends.append(phases[-1].to == outcome.now_s)
    assert ends.count(True) == 1, "one of them is left"


def test_bands_begin_and_end_with_their_fault() -> None:
    marks = [
        Mark(1.0, "A()"), Mark(2.0, "A()"), Mark(3.0, "Step()"), Mark(4.0, "healed: A()"),
        Mark(6.0, "healed: A()"),
    ]  # fmt: skip
    assert bands(marks, 10.0) == [
        {"at": 1.0, "to": 6.0, "text": "A()"},
        {"at": 2.0, "to": 4.0, "text": "A()"},
    ]
