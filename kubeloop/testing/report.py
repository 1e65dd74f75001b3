"""The report of a run: one HTML file that needs nothing else. Pure.

Swim lanes tell who wrote what and when, with arrows to what led to it; below, the lives of the
pods; across both, what users did and what broke.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import msgpack

from kubeloop.chaos.stage import Mark
from kubeloop.chaos.watching import Outcome
from kubeloop.sim.loop import EPOCH
from kubeloop.store.facts import Fact

_HEALED: Final = "healed: "
_PODS: Final = "/registry/pods/"


@dataclass(frozen=True, slots=True)
class Phase:
    """A pod is so from `at` to `to`, in virtual seconds."""

    at: float
    to: float
    phase: str
    ready: bool
    node: str


def report(outcome: Outcome, *, title: str, why: str = "", plan: str = "") -> str:
    """Return the HTML of a run.

    outcome: with every fact in its history.
    title:   what was run;  why: how it failed;  plan: what was to happen, as Python.
    """
    facts = outcome.history
    data = {
        "title": title,
        "why": why,
        "plan": plan,
        "sum": f"{len(facts):,} facts in {outcome.now_s:,.1f} virtual seconds, {outcome.hash[:16]}",
        "now": outcome.now_s,
        "actors": _actors(facts),
        "facts": [_told(fact) for fact in facts],
        "pods": [
            {"name": name, "phases": [_json(phase) for phase in phases]}
            for name, phases in lives(facts, outcome.now_s).items()
        ],
        "marks": [
            {"at": mark.at_s, "text": mark.text, "step": not _is_fault(mark, outcome.marks)}
            for mark in outcome.marks
        ],
        "bands": bands(outcome.marks, outcome.now_s),
    }
    page = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    # "</script>" inside a string would end the element that holds it.
    return page.replace("/*DATA*/", json.dumps(data).replace("</", "<\\/"))


def lives(facts: Sequence[Fact], now_s: float) -> dict[str, list[Phase]]:
    """Return the phases of each pod by its name, in the order the pods were made.

    A pod that was deleted and made again has both lives in one list.
    """
    found: dict[str, list[Phase]] = {}
    since: dict[str, tuple[float, str, bool, str]] = {}
    for fact in facts:
        if not fact.key.startswith(_PODS):
            continue
        name, at = fact.key.removeprefix(_PODS), fact.at - EPOCH
        state = None if fact.value is None else _state(msgpack.unpackb(fact.value))
        known = since.get(name)
        if known is not None and known[1:] != state:
            found.setdefault(name, []).append(Phase(known[0], at, *known[1:]))
        if state is None:
            since.pop(name, None)
        elif known is None or known[1:] != state:
            since[name] = (at, *state)
            found.setdefault(name, [])
    for name, known in since.items():
        found[name].append(Phase(known[0], now_s, *known[1:]))
    return found


def bands(marks: Sequence[Mark], now_s: float) -> list[dict[str, Any]]:
    """Return from when to when something was broken."""
    found: list[dict[str, Any]] = []
    for mark in marks:
        if mark.text.startswith(_HEALED):
            what = mark.text.removeprefix(_HEALED)
            for band in reversed(found):
                if band["text"] == what and band["to"] == now_s:
                    band["to"] = mark.at_s
                    break
        elif _is_fault(mark, marks):
            found.append({"at": mark.at_s, "to": now_s, "text": mark.text})
    return found


def _is_fault(mark: Mark, marks: Sequence[Mark]) -> bool:
    """Tell whether a mark is of something that was broken: then it was healed."""
    return mark.text.startswith(_HEALED) or any(
        other.text == f"{_HEALED}{mark.text}" for other in marks
    )


def _actors(facts: Sequence[Fact]) -> list[str]:
    """Return who wrote, users first, kubelets together."""
    return sorted({fact.cause.actor for fact in facts})


def _told(fact: Fact) -> dict[str, Any]:
    return {
        "revision": fact.revision,
        "at": round(fact.at - EPOCH, 6),
        "key": fact.key.removeprefix("/registry/"),
        "actor": fact.cause.actor,
        "user": fact.cause.user,
        "parent": fact.cause.revision,
        "gone": fact.value is None,
        "made": fact.prev_revision == 0,
    }


def _state(pod: dict[str, Any]) -> tuple[str, bool, str]:
    status = pod.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    node = str(pod["spec"].get("nodeName") or "")
    return str(status.get("phase") or "Pending"), conditions.get("Ready") == "True", node


def _json(phase: Phase) -> dict[str, Any]:
    return {
        "at": round(phase.at, 6),
        "to": round(phase.to, 6),
        "phase": phase.phase,
        "ready": phase.ready,
        "node": phase.node,
    }
