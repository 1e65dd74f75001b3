"""`kubeloop up`: start a cluster in the foreground; Ctrl-C stops it and all it started."""

import asyncio
import ipaddress
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kubeloop.cli.state import (
    Record,
    cluster_directory,
    forget,
    image_directory,
    running,
    write_record,
)

if TYPE_CHECKING:
    from kubeloop.stores import EtcdAccess

PEM = click.Path(exists=True, dir_okay=False, path_type=Path)


def _cidr(_: click.Context, __: click.Parameter, value: str) -> str:
    """Refuse what is no network. Raises: click.BadParameter."""
    if value not in ("", "auto"):
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise click.BadParameter(f"{error}; a network is written as 127.9.0.0/24") from error
    return value


@click.command("up")
@click.option(
    "--nodes",
    default=1,
    show_default=True,
    type=click.IntRange(0, 200),
    help="How many; 0 is an API server only.",
)
@click.option("--name", default="kubeloop", show_default=True, help="Name of the cluster.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything here; without it the cluster is gone when it stops.",
)
@click.option(
    "--port", default=0, type=click.IntRange(0, 65535), help="Port of the API; 0: a free one."
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the kubeconfig.",
)
@click.option(
    "--merge-kubeconfig",
    is_flag=True,
    help="Also add the cluster to your own kubeconfig ($KUBECONFIG or ~/.kube/config).",
)
@click.option(
    "--registry",
    default="",
    metavar="URL",
    help="Pull images from this registry instead of the embedded one.",
)
@click.option(
    "--load-balancer-cidr",
    default="auto",
    show_default=True,
    metavar="CIDR",
    callback=_cidr,
    help="This host's addresses for LoadBalancer Services; '': none, auto: some of loopback.",
)
@click.option(
    "--proxy-workers",
    default=1,
    show_default=True,
    type=click.IntRange(0),
    help="Processes that carry the connections to Services; 0: the cluster's own.",
)
@click.option(
    "--runtime",
    default="process",
    show_default=True,
    type=click.Choice(["process", "simulated"]),
    help="What pods are made of.",
)
@click.option(
    "--sync",
    default="always",
    show_default=True,
    type=click.Choice(["always", "interval", "never"]),
    help="When what is acknowledged is safe in --data-dir.",
)
@click.option(
    "--history",
    default=10_000,
    show_default=True,
    type=click.IntRange(1),
    metavar="REVISIONS",
    help="How far clients can look back.",
)
@click.option(
    "--store",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "memory", "file", "etcd"]),
    help="What keeps the objects; auto: a file if there is a --data-dir.",
)
@click.option(
    "--storage-class",
    default="standard",
    show_default=True,
    help="Name of the default StorageClass, if there are nodes; '' for none.",
)
@click.option("--etcd-endpoints", metavar="HOST:PORT,…", help="The members of the etcd cluster.")
@click.option("--etcd-cacert", type=PEM, help="Whom etcd's certificate must be signed by.")
@click.option("--etcd-cert", type=PEM, help="The certificate to show to etcd.")
@click.option("--etcd-key", type=PEM, help="Its key.")
@click.option(
    "--etcd-prefix",
    default="/registry/",
    show_default=True,
    help="Of all keys; another cluster in the same etcd needs another.",
)
@click.option(
    "--record",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Keep a tape of every actor here, for `kubeloop replay`.",
)
def command(
    nodes: int,
    name: str,
    data_dir: Path | None,
    port: int,
    kubeconfig: Path | None,
    merge_kubeconfig: bool,
    registry: str,
    load_balancer_cidr: str,
    proxy_workers: int,
    runtime: str,
    sync: str,
    history: int,
    store: str,
    storage_class: str,
    record: Path | None,
    **etcd: Any,
) -> None:
    """Start a cluster; it runs until Ctrl-C."""
    from kubeloop.store.history import Retention
    from kubeloop.store.writer import SWITCH_S

    _check_store(store, data_dir, etcd)
    other = running(name)
    if other is not None:
        raise click.ClickException(
            f"cluster {name!r} runs already (process {other.pid}); stop it with: "
            f"kubeloop down --name {name}, or choose another --name"
        )
    options = {
        "nodes": nodes,
        "name": name,
        "rest": True,
        "tls": True,
        "port": port,
        "data_dir": data_dir,
        "registry": registry,
        "load_balancer_cidr": load_balancer_cidr,
        "proxy_workers": proxy_workers,
        "runtime": runtime,
        "image_dir": image_directory(),
        "sync": sync,
        "retention": Retention(revisions=history),
        "etcd": _etcd_access(etcd) if store == "etcd" else None,
        "storage_class": storage_class if nodes else "",  # Volumes are on nodes.
    }
    if record is not None:
        _prepare(record)
    path = kubeconfig or cluster_directory(name) / "kubeconfig"
    sys.setswitchinterval(SWITCH_S)
    asyncio.run(serve(options, path.absolute(), merge=merge_kubeconfig, record=record))


def _prepare(record: Path) -> None:
    """Make the directory of a recording before there is a cluster. Raises: click.ClickException."""
    from kubeloop.recordings import RecordingFailed, prepare

    try:
        prepare(record)
    except RecordingFailed as error:
        raise click.BadParameter(str(error), param_hint="--record") from error


def _check_store(store: str, data_dir: Path | None, etcd: dict[str, Any]) -> None:
    """Refuse options that do not go together. Raises: click.UsageError."""
    if store == "etcd" and not etcd["etcd_endpoints"]:
        raise click.UsageError("--store=etcd needs --etcd-endpoints, as in 127.0.0.1:2379")
    if store != "etcd" and etcd["etcd_endpoints"]:
        raise click.UsageError("--etcd-endpoints is for --store=etcd")
    if store == "file" and data_dir is None:
        raise click.UsageError("--store=file needs --data-dir, a directory to keep it in")
    if store == "memory" and data_dir is not None:
        raise click.UsageError("--data-dir keeps the objects: leave it away with --store=memory")
    if (etcd["etcd_cert"] is None) != (etcd["etcd_key"] is None):
        raise click.UsageError("--etcd-cert and --etcd-key go together")


def _etcd_access(etcd: dict[str, Any]) -> "EtcdAccess":
    from kubeloop.stores import EtcdAccess

    def content(option: str) -> bytes | None:
        path: Path | None = etcd[option]
        return None if path is None else path.read_bytes()

    return EtcdAccess(
        [endpoint.strip() for endpoint in etcd["etcd_endpoints"].split(",") if endpoint.strip()],
        ca=content("etcd_cacert"),
        cert=content("etcd_cert"),
        key=content("etcd_key"),
        prefix=etcd["etcd_prefix"],
    )


async def serve(
    options: dict[str, Any], kubeconfig: Path, *, merge: bool, record: Path | None
) -> None:
    """Run a cluster until SIGINT or SIGTERM arrives."""
    from kubeloop.cluster import Cluster
    from kubeloop.net import kubeconfig as config
    from kubeloop.recordings import RecordingFailed
    from kubeloop.stores import StartFailed

    stopped = stop_requested()
    try:
        async with Cluster(**options) as cluster:
            config.write(kubeconfig, cluster.kubeconfig)
            if merge:
                config.merge(own_kubeconfig(), cluster.kubeconfig)
                click.echo(f"added context {cluster.context} to {own_kubeconfig()}")
            write_record(record_of(cluster, kubeconfig))
            try:
                click.echo(usage(cluster, kubeconfig))
                with nullcontext() if record is None else cluster.record(record):
                    await stopped.wait()
            finally:
                forget(cluster.name)
                if merge:
                    config.remove(own_kubeconfig(), cluster.name)
    except (StartFailed, config.KubeconfigError, RecordingFailed) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"cluster {options['name']} stopped")


def own_kubeconfig() -> Path:
    """Return the user's own kubeconfig: the first of $KUBECONFIG, or ~/.kube/config."""
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(named) if named else Path.home() / ".kube" / "config"


def stop_requested() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


def record_of(cluster: Any, kubeconfig: Path) -> Record:
    """Return what other commands need to know of a running cluster."""
    return Record(
        name=cluster.name,
        pid=os.getpid(),
        url=cluster.url,
        kubeconfig=str(kubeconfig),
        data_dir="" if cluster.data_dir is None else str(cluster.data_dir.absolute()),
        nodes=cluster.node_count,
        proxy_mode=cluster.proxy_mode,
        runtime=cluster.runtime_name,
    )


def usage(cluster: Any, kubeconfig: Path) -> str:
    """Return what a user needs to know next."""
    name = "" if cluster.name == "kubeloop" else f"KUBELOOP_NAME={cluster.name} "
    return (
        f"cluster {cluster.name} is up: {cluster.node_count} nodes, {cluster.url}\n\n"
        f"  {name}kubeloop kubectl get nodes\n"
        f"  export KUBECONFIG={kubeconfig}\n\n"
        "Ctrl-C stops it and everything it started."
    )
