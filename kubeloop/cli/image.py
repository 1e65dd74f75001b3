"""`kubeloop image`: build, list, load and remove the images that every cluster may pull.

They are kept in the user's data directory and served by each cluster's embedded registry, so that a
pod that is created later can pull what is built now.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kubeloop.cli.state import image_directory


@click.group("image")
def command() -> None:
    """Build, list, load and remove images."""


@command.command("build")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-t", "--tag", default="", help="Name of the image; default: that of the directory.")
@click.option("-f", "--file", default="", help="The image definition.")
@click.option("--build-arg", multiple=True, metavar="NAME=VALUE", help="A value for an ARG.")
def build(directory: Path, tag: str, file: str, build_arg: tuple[str, ...]) -> None:
    """Build an image from the Containerfile in DIRECTORY."""
    arguments = dict(_pair(text) for text in build_arg)
    name = tag or f"{directory.resolve().name.lower()}:latest"
    image = _do(lambda store: store.build(directory, name, file=file, arguments=arguments))
    click.echo(f"{image.familiar}  {image.digest}  {_size(image.size_bytes)}")


@command.command("ls")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def list_(output: str) -> None:
    """List the images."""
    images = _do(lambda store: store.list())
    if output == "json":
        rows = [{"name": i.name, "digest": i.digest, "sizeBytes": i.size_bytes} for i in images]
        click.echo(json.dumps(rows, indent=2))
        return
    if not images:
        click.echo("no images; build one with: kubeloop image build DIRECTORY -t NAME")
        return
    width = max(len(i.familiar) for i in images)
    for image in images:
        click.echo(f"{image.familiar:<{width}}  {image.digest[:19]}  {_size(image.size_bytes)}")


@command.command("load")
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def load(archive: Path) -> None:
    """Take images from a tar ARCHIVE: an OCI layout, or what `docker save` wrote."""
    for image in _do(lambda store: store.load(archive)):
        click.echo(f"loaded {image.familiar}")


@command.command("rm")
@click.argument("names", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> None:
    """Remove images by NAME; clusters that have pulled them keep them."""
    for image in _do(lambda store: [store.remove(name) for name in names]):
        click.echo(f"removed {image.familiar}")


def _do(work: Callable[[Any], Any]) -> Any:
    """Use the image store. Raises: click.ClickException in the store's words."""
    from kubeloop.net.registry import DefinitionError, ImageStore, StoreError

    try:
        return work(ImageStore(image_directory()))
    except (DefinitionError, StoreError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        place = error.filename or image_directory()
        raise click.ClickException(f"{place}: {error.strerror}") from error


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--build-arg")
    return name, value


def _size(count: int) -> str:
    """Return a number of bytes for people."""
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024 or unit == "GiB":
            break
    return f"{size:.1f} {unit}"
