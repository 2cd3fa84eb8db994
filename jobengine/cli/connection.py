"""How commands reach a running engine, and what its refusals become.

Exit codes: 2 for a token or tenant that is not accepted, 3 when the state of the target does not
allow what was asked, 64 for what is wrong with the question, 1 for the rest.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from jobengine.cli.failure import CommandFailed, ExitCode
from jobengine.cli.output import output_option

if TYPE_CHECKING:
    from jobengine.sdk import ApiError, Client

__all__ = ["Engine", "audited", "engine_options"]

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class Engine:
    """A running engine and who asks; None leaves it to the SDK's defaults."""

    url: str
    token: str | None
    tenant: str | None

    @contextmanager
    def client(self) -> "Iterator[Client]":
        """A client for the block, whose faults leave it as `CommandFailed`."""
        import httpx

        from jobengine.sdk import ApiError, Client

        if not self.token:
            raise CommandFailed(
                "no token: give --token or set JOBENGINE_TOKEN (`jobengine up` prints one)",
                ExitCode.DENIED,
            )
        try:
            with Client(self.url, token=self.token, tenant=self.tenant, retries_max=2) as client:
                yield client
        except ApiError as error:
            raise _refusal(error) from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise CommandFailed(
                f"no engine answers at {self.url} ({error}): start one with `jobengine up`, or "
                "correct --url"
            ) from None


def engine_options(command: F) -> F:
    """Gives a command --url, --token, --tenant (as `engine`) and --output."""

    @functools.wraps(command)
    def with_engine(url: str, token: str | None, tenant: str | None, **rest: Any) -> Any:
        return command(engine=Engine(url, token, tenant), **rest)

    wrapped: Any = with_engine
    for option in (
        output_option,
        click.option("--tenant", envvar="JOBENGINE_TENANT", show_envvar=True, help="Whose jobs."),
        click.option(
            "--token",
            envvar="JOBENGINE_TOKEN",
            show_envvar=True,
            help="Who asks; see `token issue`.",
        ),
        click.option(
            "--url",
            envvar="JOBENGINE_URL",
            show_envvar=True,
            default="http://127.0.0.1:7070",
            show_default=True,
            help="The engine.",
        ),
    ):
        wrapped = option(wrapped)
    result: F = wrapped
    return result


def audited(command: F) -> F:
    """Gives a command --reason and --ticket, without which the engine would refuse it."""
    ticket = click.option(
        "--ticket", callback=_require, help="Where it was decided, such as OPS-17; for the audit."
    )
    reason = click.option("--reason", callback=_require, help="Why; kept in the audit.")
    return reason(ticket(command))


def _require(_: click.Context, parameter: click.Parameter, value: str | None) -> str:
    if not value:
        raise click.UsageError(
            f"--{parameter.name} is missing: operations are audited, so the engine asks for "
            "--reason and --ticket"
        )
    return value


def _refusal(error: "ApiError") -> CommandFailed:
    code = {
        400: ExitCode.USAGE,
        401: ExitCode.DENIED,
        403: ExitCode.DENIED,
        409: ExitCode.REFUSED,
        422: ExitCode.USAGE,
    }.get(error.http_status, ExitCode.ERROR)
    message = f"{error.message} ({error.code})"
    if error.http_status == 401:
        message += ": give a valid --token or JOBENGINE_TOKEN"
    elif error.code == "TENANT_REQUIRED":
        message += ": give --tenant or JOBENGINE_TENANT"
    return CommandFailed(message, code)
