"""Documents of runs and DAGs as files: read, completed from flags, checked before they are sent.

What is wrong is a usage error that names the file, the place in it and what it must be.
"""

import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from jobengine.wire.runs import RunRequest

__all__ = ["checked", "inputs_of", "read_document", "run_request"]

T = TypeVar("T")


def read_document(place: str) -> dict[str, Any]:
    """The JSON object in a file, or on stdin for `-`."""
    import msgspec

    try:
        data = sys.stdin.buffer.read() if place == "-" else Path(place).read_bytes()
        document = msgspec.json.decode(data)
    except OSError as error:
        raise click.UsageError(f"{place}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise click.UsageError(f"{_name(place)} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise click.UsageError(f"{_name(place)} holds no JSON object; write {{…}}")
    return document


def checked(place: str, document: dict[str, Any], kind: type[T]) -> T:
    """The document as what is sent."""
    import msgspec

    try:
        return msgspec.json.decode(msgspec.json.encode(document), type=kind)
    except msgspec.ValidationError as error:
        raise click.UsageError(f"{_name(place)}: {error}") from None


def inputs_of(pairs: tuple[str, ...], file: str | None) -> dict[str, Any] | None:
    """Inputs from a file and from NAME=VALUE, which go before it; None for neither."""
    import msgspec

    if file is None and not pairs:
        return None
    inputs = {} if file is None else read_document(file)
    for pair in pairs:
        name, divided, text = pair.partition("=")
        if not divided or not name:
            raise click.UsageError(f"--input {pair}: write NAME=VALUE")
        try:
            inputs[name] = msgspec.json.decode(text.encode())
        except msgspec.DecodeError:
            inputs[name] = text
    return inputs


def run_request(
    file: str | None,
    dag_id: str | None,
    version: int | None,
    inputs: dict[str, Any] | None,
    run_token: str | None,
) -> "RunRequest":
    """What a run is asked for by: a document, or a DAG; flags go before what the document says."""
    from jobengine.wire.runs import RunRequest

    if (file is None) == (dag_id is None):
        raise click.UsageError("name a FILE with the run (- is stdin), or a DAG with --dag")
    if version is not None and dag_id is None:
        raise click.UsageError("--version is of a DAG; name it with --dag")
    document = {} if file is None else read_document(file)
    given = {"dagId": dag_id, "version": version, "inputs": inputs, "runToken": run_token}
    document.update({name: value for name, value in given.items() if value is not None})
    document.setdefault("runToken", str(uuid.uuid4()))
    return checked(file or f"run of {dag_id}", document, RunRequest)


def _name(place: str) -> str:
    return "stdin" if place == "-" else place
