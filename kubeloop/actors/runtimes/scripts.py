"""How simulated containers behave: a script per image, which a pod's annotations may change. Pure.

A pod overrides the script of its images by annotations. `kubeloop.dev/sim.run-s: "3"` holds for all
its containers, `kubeloop.dev/sim.web.run-s: "3"` for the one called web. What may be set:

    start-s run-s exit-code fails ready-after-s fails-after-s probe-results term-s start-error log
    exec http memory disk write

`fails` is a list of exit codes, "1,1,0"; `probe-results` a list of "ok" and "fail"; `log` is text;
`exec` a JSON object that says what `kubectl exec` finds: command line → what it prints, or
{"stdout": …, "stderr": …, "code": 0, "takes-s": 0}; `http` the body of what is answered to HTTP;
`memory` and `disk` are quantities: what a run uses of its node; `write` is a JSON object: file in a
volume → the line every run adds to it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from kubeloop.api import quantities

PREFIX: Final = "kubeloop.dev/sim."


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a command in a container does. line: its words, or only the first: whatever follows."""

    line: str
    stdout: str = ""
    stderr: str = ""
    code: int = 0
    takes_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What happens to containers of one image. The default runs for ever and is ready at once.

    start_s:       how long a start takes;  start_error: it fails, for this reason.
    run_s:         how long a run lasts; None: until it is told to stop.
    exit_code:     of a run that ends by itself.
    fails:         exit codes of the first runs, one each; a run with 0 here, and those after the
                   last, do as run_s and exit_code say. A failing run lasts `fails_s`.
    ready_after_s: probes fail before;  fails_after_s: probes fail after, None: never.
    probe_results: results of the first probes of a run, before the two above count.
    port:          the only port that answers; None: every port.
    log:           lines written when a run begins.
    commands:      what there is for `kubectl exec`, beside true, false, echo, cat, sleep and
                   sh -c "exit N".
    http:          the body of what its ports answer to HTTP; None: nobody is there who answers.
    term_s:        how long it takes to end after TERM; None: only KILL ends it.
    memory_bytes, disk_bytes: what a run uses of its node.
    writes:        (file in a volume, line) that a run adds when it begins.
    pull_s, pull_error, size_bytes: the image itself; with an error it cannot be pulled.
    """

    start_s: float = 0.0
    start_error: str = ""
    run_s: float | None = None
    exit_code: int = 0
    fails: tuple[int, ...] = ()
    fails_s: float = 0.0
    ready_after_s: float = 0.0
    fails_after_s: float | None = None
    probe_results: tuple[bool, ...] = ()
    port: int | None = None
    log: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    http: str | None = None
    term_s: float | None = 0.0
    pull_s: float = 0.0
    pull_error: str = ""
    size_bytes: int = 10_000_000
    memory_bytes: int = 0
    disk_bytes: int = 0
    writes: tuple[tuple[str, str], ...] = ()

    def uses(self) -> Mapping[str, int]:
        """Return what a run uses of its node, by resource; nothing is left out."""
        amounts = {"memory": self.memory_bytes, "ephemeral-storage": self.disk_bytes}
        return {name: amount for name, amount in amounts.items() if amount}

    def ending(self, attempt: int) -> tuple[float, int] | None:
        """Return after how long run `attempt` ends by itself, and how; None if it does not."""
        if attempt < len(self.fails) and self.fails[attempt] != 0:
            return self.fails_s, self.fails[attempt]
        return None if self.run_s is None else (self.run_s, self.exit_code)

    def healthy(self, age_s: float, probes: int) -> bool:
        """Tell whether probe number `probes` of a run, `age_s` after its start, succeeds."""
        if probes < len(self.probe_results):
            return self.probe_results[probes]
        failing = self.fails_after_s is not None and age_s >= self.fails_after_s
        return age_s >= self.ready_after_s and not failing


DEFAULT: Final = Script()


def annotated(script: Script, container: str, annotations: Mapping[str, str]) -> Script:
    """Return the script with what a pod's annotations change. Raises: ValueError."""
    changes: dict[str, Any] = {}
    for prefix in (PREFIX, f"{PREFIX}{container}."):
        for key, text in annotations.items():
            field = _FIELDS.get(key.removeprefix(prefix)) if key.startswith(prefix) else None
            if field is not None:
                try:
                    changes[field[0]] = field[1](text)
                except ValueError as error:
                    raise ValueError(f"annotation {key}: {text!r} is wrong: {error}") from error
    return replace(script, **changes) if changes else script


def _numbers(text: str) -> Sequence[int]:
    return tuple(int(part) for part in text.split(",") if part.strip())


def _results(text: str) -> Sequence[bool]:
    words = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [word for word in words if word not in ("ok", "fail")]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is neither ok nor fail")
    return tuple(word == "ok" for word in words)


def _seconds(text: str) -> float | None:
    return None if text == "never" else float(text)


def _commands(text: str) -> Sequence[Command]:
    told = _json(text)
    if not isinstance(told, dict):
        raise ValueError("it must be an object: command line → what it prints")
    return tuple(_command(line, does) for line, does in told.items())


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _writes(text: str) -> Sequence[tuple[str, str]]:
    told = _json(text)
    if not isinstance(told, dict) or not all(isinstance(line, str) for line in told.values()):
        raise ValueError("it must be an object: file → line")
    return tuple(told.items())


def _command(line: str, does: Any) -> Command:
    if isinstance(does, str):
        return Command(line=line, stdout=does)
    kinds = {"stdout": str, "stderr": str, "code": int, "takes-s": int | float}
    if not isinstance(does, dict) or not all(
        isinstance(value, kinds.get(key, ())) for key, value in does.items()
    ):
        raise ValueError(f"{line!r} is neither text nor an object of {', '.join(kinds)}")
    return Command(line=line, **{key.replace("-", "_"): value for key, value in does.items()})


_FIELDS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "start-s": ("start_s", float),
    "start-error": ("start_error", str),
    "run-s": ("run_s", _seconds),
    "exit-code": ("exit_code", int),
    "fails": ("fails", _numbers),
    "fails-s": ("fails_s", float),
    "ready-after-s": ("ready_after_s", float),
    "fails-after-s": ("fails_after_s", _seconds),
    "probe-results": ("probe_results", _results),
    "term-s": ("term_s", _seconds),
    "exec": ("commands", _commands),
    "http": ("http", str),
    "write": ("writes", _writes),
    "memory": ("memory_bytes", quantities.value),
    "disk": ("disk_bytes", quantities.value),
    "log": ("log", lambda text: tuple(text.splitlines())),
}
