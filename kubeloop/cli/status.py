"""`kubeloop status`: what runs, and how it is."""

import json
import ssl
import urllib.request
from dataclasses import asdict
from typing import Any

import click

from kubeloop.cli.state import Record, must_run

_TIMEOUT_S = 5.0


@click.command("status")
@click.option("--name", default="kubeloop", show_default=True)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def command(name: str, output: str) -> None:
    """Show a running cluster: its address, nodes and pods. Exit status 1 if it does not run."""
    record = must_run(name)
    content = asdict(record) | gather(record)
    click.echo(json.dumps(content, indent=2) if output == "json" else render(content))


def gather(record: Record) -> dict[str, Any]:
    """Return the nodes and the number of pods by phase, asked of the cluster itself."""
    nodes = _get(record, "/api/v1/nodes")["items"]
    pods = _get(record, "/api/v1/pods")["items"]
    phases: dict[str, int] = {}
    for pod in pods:
        phase = pod.get("status", {}).get("phase", "Unknown")
        phases[phase] = phases.get(phase, 0) + 1
    return {"node_states": {n["metadata"]["name"]: _state(n) for n in nodes}, "pods": phases}


def render(content: dict[str, Any]) -> str:
    """Return the status as text."""
    nodes = ", ".join(f"{name} {state}" for name, state in content["node_states"].items())
    pods = ", ".join(f"{count} {phase}" for phase, count in sorted(content["pods"].items()))
    rows = {
        "cluster": f"{content['name']} (process {content['pid']})",
        "api": content["url"],
        "kubeconfig": content["kubeconfig"],
        "data": content["data_dir"] or "in memory, gone when the cluster stops",
        "runtime": content["runtime"],
        "proxy": content["proxy_mode"],
        "nodes": nodes or "none",
        "pods": pods or "none",
    }
    return "\n".join(f"{title + ':':<12}{value}" for title, value in rows.items())


def _get(record: Record, path: str) -> Any:
    """Return the answer to a GET, with the credentials of the cluster's kubeconfig."""
    import base64
    from pathlib import Path

    import yaml

    config = yaml.load(Path(record.kubeconfig).read_text(), Loader=yaml.CSafeLoader)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    request = urllib.request.Request(record.url + path)
    request.add_header("Authorization", f"Bearer {user['token']}")
    context = None
    if "certificate-authority-data" in cluster:
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=ca)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context) as response:
            return json.load(response)
    except OSError as error:
        raise click.ClickException(
            f"process {record.pid} runs, but {record.url} does not answer: {error}"
        ) from error


def _state(node: dict[str, Any]) -> str:
    conditions = node.get("status", {}).get("conditions", ())
    ready = next((c["status"] for c in conditions if c["type"] == "Ready"), "Unknown")
    state = {"True": "Ready", "False": "NotReady"}.get(ready, "NotReady")
    return state + ",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else state
