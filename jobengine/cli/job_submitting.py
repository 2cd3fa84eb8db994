"""`jobengine job submit` and `submit-many`: what is wrong with a job is said before one is made."""

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from jobengine.cli.connection import Engine, engine_options
from jobengine.cli.failure import CommandFailedError, ExitCode
from jobengine.cli.job_printing import print_job
from jobengine.cli.numbers import NumberRange
from jobengine.cli.output import Form, print_fields, print_json, printable

if TYPE_CHECKING:
    from jobengine.sdk import JobRequest
    from jobengine.wire.jobs import BulkAnswer

__all__ = ["labels_of", "submit", "submit_many"]

_DELAY_S_MAX: Final = 10 * 365 * 86_400


@click.command()
@click.argument("job_type", metavar="TYPE")
@click.option("--payload", default="{}", help="JSON for the worker, @FILE, or - for stdin.")
@click.option("--queue", help="Which workers get it; the job type when not named.")
@click.option("--priority", type=click.IntRange(0, 9), help="0 to 9, 9 goes first; default 5.")
@click.option("--max-retries", type=click.IntRange(0, 100), help="Default 3.")
@click.option("--lease-seconds", type=click.IntRange(1, 3600), help="Default 30.")
@click.option("--timeout-seconds", type=click.IntRange(1), help="Longest run of one attempt.")
@click.option("--not-before", metavar="INSTANT", help="It does not start earlier.")
@click.option(
    "--delay",
    type=NumberRange(0, _DELAY_S_MAX),
    metavar="SECONDS",
    help="The same, so long from now by this machine's clock.",
)
@click.option("--expires", metavar="INSTANT", help="It is cancelled if it has not started by then.")
@click.option("--unique-key", help="At most one unfinished job of the tenant has it.")
@click.option("--project", "project_id", help="The project it is of.")
@click.option("--source", "source_id", help="The source it talks to.")
@click.option("--cost", type=click.IntRange(1), help="Tokens that it takes; default 1.")
@click.option("--concurrency-key", help="Of jobs with one key only so many run at once.")
@click.option("--concurrency-limit", type=click.IntRange(1), help="How many; default 1.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--hold", is_flag=True, help="Create it held; `job release` lets it go.")
@click.option("--idempotency-key", help="The same key again answers the same job.")
@click.option("--wait", type=NumberRange(0), metavar="SECONDS", help="Wait until it has finished.")
@engine_options
def submit(
    engine: Engine,
    output: Form,
    job_type: str,
    payload: str,
    idempotency_key: str | None,
    wait: float | None,
    **fields: Any,
) -> int:
    """Create one job of TYPE and show it.

    With --wait, exits 0 only if the job completed, 1 if it ended otherwise or not in time; its id
    is on stderr as soon as it is made, and it is shown however the waiting ends. An INSTANT is
    written as in RFC 3339: 2026-12-24T18:00:00Z.
    """
    from jobengine.sdk import JobUnfinishedError, job_request

    given, body = _given(**fields), _payload(payload)
    try:
        job_request(job_type, body, **given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with engine.client() as client:
        job = client.submit(job_type, body, idempotency_key=idempotency_key, **given)
        if wait is not None:
            print(f"jobengine: waiting for job {job.job_id}", file=sys.stderr, flush=True)
            try:
                job = client.wait(job.job_id, wait)
            except JobUnfinishedError as error:
                print_job(error.job, output)
                raise CommandFailedError(str(error)) from None
    print_job(job, output)
    return ExitCode.OK if wait is None or job.state == "completed" else ExitCode.ERROR


@click.command("submit-many")
@click.argument("file", metavar="FILE")
@click.option("--idempotency-key", help="The same key again, with the same FILE, adds nothing.")
@engine_options
def submit_many(engine: Engine, output: Form, file: str, idempotency_key: str | None) -> int:
    """Create the jobs in FILE, or on stdin for -: one JSON object a line.

    Fields are those of the REST interface, such as {"jobType": "scan", "payload": {"n": 1}}. Every
    line is checked before the first job is made. Exits 1 if the engine rejected some of them.
    """
    requests = [_request(file, number, line) for number, line in _lines(file)]
    with engine.client() as client:
        answer = client.submit_many(
            (request for _, request in requests), idempotency_key=idempotency_key
        )
    _print_bulk(answer, [number for number, _ in requests], output)
    return ExitCode.ERROR if answer.rejected else ExitCode.OK


def labels_of(given: Iterable[str]) -> dict[str, str]:
    """Labels from NAME=VALUE. Raises `click.UsageError`."""
    labels = {}
    for one in given:
        name, divided, value = one.partition("=")
        if not divided or not name:
            raise click.UsageError(f"--label {one}: write NAME=VALUE")
        labels[name] = value
    return labels


def _given(
    *,
    labels: tuple[str, ...],
    hold: bool,
    not_before: str | None,
    delay: float | None,
    expires: str | None,
    **fields: Any,
) -> dict[str, Any]:
    """What was said of a job, under the SDK's names."""
    given = {name: value for name, value in fields.items() if value is not None}
    if "concurrency_key" in given:
        given.setdefault("concurrency_limit", 1)
    elif "concurrency_limit" in given:
        raise click.UsageError("--concurrency-limit is of a key; name it with --concurrency-key")
    if not_before is not None and delay is not None:
        raise click.UsageError("give --not-before or --delay, and one of them only")
    if not_before is not None:
        given["not_before"] = _instant("--not-before", not_before)
    elif delay is not None:
        given["not_before"] = datetime.now(UTC) + timedelta(seconds=delay)
    if expires is not None:
        given["expires_at"] = _instant("--expires", expires)
    if labels:
        given["labels"] = labels_of(labels)
    if hold:
        given["hold"] = True
    return given


def _instant(option: str, text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise click.UsageError(f"{option} {text}: write an instant such as 2026-12-24T18:00:00Z")
    return instant


def _payload(text: str) -> Any:
    import msgspec

    try:
        if text == "-":
            data = sys.stdin.buffer.read()
        elif text.startswith("@"):
            data = Path(text[1:]).read_bytes()
        else:
            data = text.encode()
        msgspec.json.decode(data)
    except OSError as error:
        raise click.UsageError(f"--payload {text}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise click.UsageError(f"--payload is not JSON: {error}") from None
    return msgspec.Raw(data)


def _lines(file: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, counted from 1."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            yield number, line


def _request(file: str, number: int, line: bytes) -> "tuple[int, JobRequest]":
    from jobengine.wire.jobs import JobRequest, decode_job_request

    request = decode_job_request(line)
    if not isinstance(request, JobRequest):
        place = "stdin" if file == "-" else file
        raise click.UsageError(f"{place}, line {number}: {request.message}")
    return number, request


def _print_bulk(answer: "BulkAnswer", numbers: list[int], output: Form) -> None:
    """The counts, and on stderr what was rejected; as JSON all of it."""
    if output == "json":
        print_json(answer)
    else:
        print_fields(
            [
                ("created", answer.created),
                ("existing", answer.existing),
                ("rejected", answer.rejected),
            ]
        )
    for item in answer.items:
        if item.error is not None:
            said = printable(f"line {numbers[item.index]}: {item.error.message}")
            print(f"jobengine: {said} ({item.error.code})", file=sys.stderr)
