"""`jobengine artifact`: bytes into a running engine, and out of it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobengine.cli.connection import Engine, engine_options
from jobengine.cli.failure import CommandFailedError
from jobengine.cli.output import Form, print_fields, print_json

if TYPE_CHECKING:
    from jobengine.wire.artifacts import StoredArtifact

__all__ = ["artifact"]


@click.group()
def artifact() -> None:
    """Store bytes under their SHA-256, and fetch them."""


@artifact.command()
@click.argument("file", metavar="FILE")
@click.option("--mime", help="Their media type; guessed from the name when not given.")
@engine_options
def put(engine: Engine, output: Form, file: str, mime: str | None) -> None:
    """Store FILE, or stdin for -, and show its digest."""
    with engine.client() as client, _progress("storing") as told, _reading(file):
        source = sys.stdin.buffer if file == "-" else Path(file)
        stored = client.upload_artifact(source, mime=mime, progress=told)
    _print(stored, output)


@artifact.command()
@click.argument("digest", metavar="DIGEST")
@click.option("--to", metavar="FILE", help="Where to; a file named by the digest, or - for stdout.")
@engine_options
def get(engine: Engine, output: Form, digest: str, to: str | None) -> None:
    """Fetch the bytes under DIGEST and verify them.

    A file appears when it is complete. On stdout they come before they can be verified: exit code 0
    says that they were.
    """
    from jobengine.sdk import ArtifactDamagedError

    place = to or digest.removeprefix("sha256:")
    with engine.client() as client, _progress("fetching") as told, _reading(place):
        client.artifact(digest)
        sink = sys.stdout.buffer if place == "-" else Path(place)
        try:
            stored = client.download_artifact(digest, sink, progress=told)
        except ArtifactDamagedError as error:
            raise CommandFailedError(str(error)) from None
    if place == "-":
        sys.stdout.buffer.flush()
    else:
        _print(stored, output, place)


@artifact.command()
@click.argument("digest", metavar="DIGEST")
@engine_options
def show(engine: Engine, output: Form, digest: str) -> None:
    """Show what there is under DIGEST, without its bytes."""
    with engine.client() as client:
        found = client.artifact(digest)
    _print(found, output)


def _print(stored: "StoredArtifact", output: Form, file: str | None = None) -> None:
    """What is stored, and the file that it has been written to."""
    import msgspec

    if output == "json":
        print_json(stored if file is None else {**msgspec.to_builtins(stored), "file": file})
        return
    print_fields(
        (
            ("file", file),
            ("digest", stored.digest),
            ("size", f"{stored.size_bytes:,} bytes"),
            ("mime", stored.mime),
            ("uri", stored.uri),
        )
    )


@contextmanager
def _reading(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandFailedError(f"{place}: {error.strerror or error}") from None


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = (what, BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, size: progress.update(task, completed=done, total=size)
